# ruff: noqa: E501
"""Our strict reader beside the builder's own parser (moby's, from the package `dockerfile`).

What we let through, the builder's parser reads as we do, line for line; and of what we write for the builder
it finds exactly our instructions. Where there is no wheel of the package, the real builds of
`tests/security/test_dockerfile_fuzz.py` stand alone.
"""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dockerfiles import Planted, dockerfiles

from ds01spawner.core.yaml_reader import FileProblems
from ds01spawner.environments.builder.pinning import PinnedDockerfile, pin
from ds01spawner.environments.facts import ImageFacts

moby = pytest.importorskip("dockerfile")

PLANTED = Planted(
    run="r", secret="s", private="ds01-bob/priv", private_id=f"sha256:{'4d' * 32}", innocent="ds01-eve/innocent",
    hidden="ds01-pin/x", public="team/public", public_id=f"sha256:{'5e' * 32}", own="ds01-eve/own",
    trigger="team/trigger",
)  # fmt: skip
LINES = st.lists(
    st.sampled_from(
        ["RUN a", "RUN a \\", "  b", "# c", " # c \\", "", "CMD [\"a\", \"b\\\\\"]", "ENV A=\"b c\" D=e\\ f", "ENV A b  c",
         "LABEL a=b \"c\"='d e'", "LABEL a \"b\" c", "COPY a b", "COPY [\"a b\", \"/c\"]", "ADD --chown=1:2 a b", "USER $A",
         "ONBUILD RUN a", "HEALTHCHECK --interval=3s CMD a", "HEALTHCHECK NONE", "ARG A=\"x y\" B", "run a", "\tRUN a",
         "RUN echo '#'", "RUN echo \\#", "RUN a;\\", "RUN [ -f a ] && b", "SHELL [\"/bin/sh\"]", "EXPOSE 1 2/tcp", "RUN a\\b",
         "FROM team/public", "FROM team/public AS x", "COPY --from=0 a b", "COPY --from=x a b", "VOLUME [\"/a\"]"]
    ),
    max_size=10,
).map(lambda lines: "\n".join(["FROM team/public AS first", *lines, ""]))  # fmt: skip


def resolve(name: str) -> ImageFacts:
    if name.removeprefix("docker.io/").removesuffix(":latest") in (
        PLANTED.public,
        PLANTED.own,
        PLANTED.public_id,
    ):
        return ImageFacts(f"sha256:{hashlib.sha256(name.encode()).hexdigest()}", env={"A": "a"})
    raise ValueError("there is no such image")


def accepted(text: str) -> PinnedDockerfile | None:
    try:
        return pin(text, resolve)
    except FileProblems:
        return None


@settings(max_examples=300)
@given(dockerfiles(PLANTED) | LINES)
def test_the_builders_parser_reads_as_we_do(text):
    made = accepted(text)
    if made is None:
        return
    read = moby.parse_string(text)
    assert [(c.start_line, c.cmd.upper()) for c in read] == [(s.line, s.word) for s in made.steps]


@settings(max_examples=300)
@given(dockerfiles(PLANTED) | LINES)
def test_the_builders_parser_finds_only_our_instructions_in_what_it_gets(text):
    made = accepted(text)
    if made is None:
        return
    ids = {image.facts.id for image in made.images}
    stages: set[str] = set()
    read = moby.parse_string(made.text)
    assert [(c.start_line, c.cmd) for c in read] == [(n, s.word) for n, s in enumerate(made.steps, 1)]
    for command in read:
        if command.cmd == "FROM":
            assert not command.flags
            assert command.value[0] in ids | stages | {"scratch"}
            stages |= set(command.value[2:])
        elif command.cmd in ("COPY", "ADD"):
            taken = [f.removeprefix("--from=") for f in command.flags if f.startswith("--from=")]
            assert all(t in ids or t.isdecimal() for t in taken)
            assert all(f.startswith(("--from=", "--chown=")) for f in command.flags)
        elif command.cmd == "LABEL":
            assert not any(key.lower().startswith(("ds01.", '"', "'")) for key in command.value[::2])
        elif command.cmd == "RUN":
            assert not command.flags


def test_the_two_readers_do_differ_on_what_we_refuse():
    """The comparison can fail: the builder's parser takes what the strict reader does not."""
    text = "FROM team/public\nRUN echo \\\\\nFROM ds01-bob/priv\n"
    assert accepted(text) is None
    assert [c.cmd for c in moby.parse_string(text)] == ["FROM", "RUN", "FROM"]
