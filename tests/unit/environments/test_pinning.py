# ruff: noqa: E501
"""What the builder gets of a Dockerfile: ids only, one reading a line; and what is refused, with its line."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.yaml_reader import FileProblems
from ds01spawner.environments.builder.dockerscan import read
from ds01spawner.environments.builder.pinning import pin, refused_sources
from ds01spawner.environments.facts import ImageFacts

ALLOWED = ("a:1", "b:2", "c:2", "other/img:2", "quay.io/jupyter/base-notebook", "python:3.12")


def image(name, **changes):
    return ImageFacts(f"sha256:{hashlib.sha256(name.encode()).hexdigest()}", env={"PATH": "/bin"}, **changes)


def resolve(name):
    if name not in ALLOWED:
        raise ValueError(f"there is no image {name!r} that you may use")
    return image(name)


A, B, C = (image(n).id for n in ("a:1", "b:2", "c:2"))


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("FROM a:1\n", f"FROM {A}\n"),
        ("from a:1 as Build\n", f"FROM {A} AS build\n"),
        ("\ufeffFROM a:1", f"FROM {A}\n"),
        ("# syntax=docker/dockerfile:1\n\n# c\nFROM a:1\r\nRUN x\r\n", f"FROM {A}\nRUN x\n"),
        ("ARG B=c:2\nFROM ${B}\n", f'ARG B="c:2"\nFROM {C}\n'),
        ("ARG B=b:2\nARG A=x B=c:2\nFROM $B\n", f'ARG B="b:2"\nARG A="x" B="c:2"\nFROM {C}\n'),
        ("ARG A\nFROM ${A:-c:2}\n", f"ARG A\nFROM {C}\n"),
        ("ARG A=1\nFROM a${A:+:1}\n", f'ARG A="1"\nFROM {A}\n'),
        ("FROM a:1 AS x\nFROM X\nFROM x AS y\n", f"FROM {A} AS x\nFROM x\nFROM x AS y\n"),
        ("FROM a:1 AS x\nFROM b:2\nCOPY --from=X a b\n", f'FROM {A} AS x\nFROM {B}\nCOPY --from=0 ["a", "b"]\n'),
        ("FROM a:1\nFROM b:2\nCOPY --from=00 a b\n", f'FROM {A}\nFROM {B}\nCOPY --from=0 ["a", "b"]\n'),
        ("FROM a:1\nCOPY --from=b:2 /x ./\n", f'FROM {A}\nCOPY --from={B} ["/x", "./"]\n'),
        ("FROM a:1\nCOPY \\\n --from=b:2 \\\n a b\n", f'FROM {A}\nCOPY --from={B} ["a", "b"]\n'),
        ("FROM scratch\nADD a b\n", 'FROM scratch\nADD ["a", "b"]\n'),
        ("FROM scratch AS s\nFROM a:1\nCOPY --from=s a b\n", f'FROM scratch AS s\nFROM {A}\nCOPY --from=0 ["a", "b"]\n'),
        ("FROM --platform=$BUILDPLATFORM a:1\n", f"FROM {A}\n"),
        ("FROM --platform=linux/amd64 a:1\n", f"FROM {A}\n"),
        ('FROM a:1\nARG U=7\nENV G="8"\nCOPY --chown="$U:${G}" a b\n', f'FROM {A}\nARG U=7\nENV G="8"\nCOPY --chown=7:8 ["a", "b"]\n'),
        ('FROM a:1\nCOPY ["a b", "/c"]\n', f'FROM {A}\nCOPY ["a b", "/c"]\n'),
        ("FROM a:1\nCOPY a\\$b $PATH/\n", f'FROM {A}\nCOPY ["a\\\\$b", "/bin/"]\n'),
        ('FROM a:1\nLABEL a=b c="x \\"y\\" $PATH" d=\\$x\n', f'FROM {A}\nLABEL a="b" c="x \\"y\\" /bin" d="\\$x"\n'),
        ("FROM a:1\nLABEL a b c\n", f'FROM {A}\nLABEL a="b c"\n'),
        ("FROM a:1\nLABEL ds01.framework=torch\n", f'FROM {A}\nLABEL ds01.framework="torch"\n'),
        ("FROM a:1\nRUN x && \\\n# in between\n\n  y \\  \n  z\n", f"FROM {A}\nRUN x &&   y   z\n"),
        ("FROM a:1\n RUN echo '\\\\' $X `date` <<< 1\n", f"FROM {A}\nRUN echo '\\\\' $X `date` <<< 1\n"),
        ("FROM a:1\nONBUILD RUN x\n", f"FROM {A}\nONBUILD RUN x\n"),
        ("FROM a:1\nHEALTHCHECK --interval=3s CMD x\n", f"FROM {A}\nHEALTHCHECK --interval=3s CMD x\n"),
        ("ARG REGISTRY=quay.io\nARG OWNER=jupyter\nARG BASE_IMAGE=$REGISTRY/$OWNER/base-notebook\nFROM $BASE_IMAGE\n",
         'ARG REGISTRY="quay.io"\nARG OWNER="jupyter"\nARG BASE_IMAGE="quay.io/jupyter/base-notebook"\n'
         f"FROM {image('quay.io/jupyter/base-notebook').id}\n"),
    ],
)  # fmt: skip
def test_what_the_builder_gets(text, pinned):
    made = pin(text, resolve)
    assert made.text == pinned
    assert len(made.steps) == made.text.count("\n")


BAD = [
    # another's image, in every spelling a builder would take
    ("FROM bob/priv\n", 1, "that you may use"),
    ("FROM d\\s01-bob/priv\n", 1, "without quotes"),
    ('FROM d"s01-bob"/priv\n', 1, "without quotes"),
    ("FROM d's01-bob'/priv\n", 1, "without quotes"),
    ('FROM a:1\nCOPY --from=d"s01-bob"/priv a b\n', 2, "without quotes"),
    ("FROM a:1\nCOPY --from=d\\s01-bob/priv a b\n", 2, "cannot be read"),
    ("ARG A=x A=bob/priv\nFROM $A\n", 2, "that you may use"),
    ("ARG A=b\\ob/priv\nFROM $A\n", 2, "'bob/priv'"),
    ("ARG A='bob'\nARG B=${A}/priv\nFROM $B\n", 3, "'bob/priv'"),
    ("ARG A=1\nFROM ${A:+bob/priv}\n", 2, "'bob/priv'"),
    ("FROM ${A:-bob/priv}\n", 1, "'bob/priv'"),
    ("FROM ${A-bob/priv}\n", 1, "only ${name}"),
    ("ARG A=xbob\nFROM ${A#x}\n", 2, "only ${name}"),
    ("FROM a:1\nRUN echo \\\\\nFROM bob/priv\n", 2, "more than one"),
    ("FROM a:1\nRUN echo \\\\ \t\nFROM bob/priv\n", 2, "more than one"),
    ("FROM 49\n", 1, "that you may use"),
    ("FROM a:1\nCOPY --from=dd8 a b\n", 2, "that you may use"),
    ("FROM 0\n", 1, "that you may use"),
    ("FROM a:1 AS x\nCOPY --from=x a b\n", 2, "'x'"),
    ("FROM a:1\nCOPY --from=0 a b\n", 2, "no stage 0"),
    ("FROM a:1\nCOPY --from=$X a b\n", 2, "without quotes and variables"),
    ("FROM a:1\nCOPY --from= a b\n", 2, "without quotes and variables"),
    ("FROM a:1\nCOPY --from=b:2 --from=bob/priv a b\n", 2, "does not take --from"),
    ("FROM a:1\nADD --from=b:2 a b\n", 2, "does not take --from"),
    ("FROM a:1\nRUN --mount=type=bind,from=bob/priv cat /x\n", 2, "does not take --mount"),
    ("FROM a:1\nONBUILD COPY --from=bob/priv a b\n", 2, "may not take --from"),
    ("FROM a:1\nONBUILD FROM bob/priv\n", 2, "cannot be a build trigger"),
    ("FROM a:1\nONBUILD ONBUILD RUN x\n", 2, "cannot be a build trigger"),
    # what builders read in different ways
    ("# escape=`\nFROM a:1`\n", 1, "escape character"),
    ("#Escape = `\nFROM a:1\n", 1, "escape character"),
    ("FROM a:1\nRUN x \\", 2, "last line"),
    ("FROM a:1\nRUN x \\\n", 2, "last line"),
    ("FROM a:1\0\n", 1, "U+0000"),
    ("FROM a:1\nRUN x\x0bFROM b\n", 2, "U+000B"),
    ("FROM a:1\rFROM bob/priv\n", 1, "U+000D"),
    ("# c\rFROM bob/priv\nFROM a:1\n", 1, "U+000D"),
    ("FROM a:1\nRUN x\u2028FROM b\n", 2, "U+2028"),
    ("FROM a:1\n\u00a0RUN x\n", 2, "U+00A0"),
    ("FROM a:1\nRUN \u202ex\n", 2, "U+202E"),
    ("FROM \u0430:1\n", 1, "that you may use"),
    ("FROM a:1\nRUN <<EOF\nFROM bob/priv\nEOF\n", 2, "heredocs"),
    ("FROM a:1\nCOPY <<-'E' /x\nE\n", 2, "heredocs"),
    ("FROM a:1\nRUN " + "x" * 60_000 + "\n", 2, "longer than"),
    ("FROM a:1\nFOO x\n", 2, "not an instruction"),
    ("FROM a:1\nRUN\n", 2, "nothing follows"),
    ("FROM a:1 AS x\nFROM b:2 AS X\n", 2, "a stage 'x' already"),
    ("FROM a:1 AS 1x\n", 1, "stage's name"),
    ("FROM a:1 AS $X\n", 1, "stage's name"),
    ("FROM a b c d\n", 1, "cannot be read"),
    ("FROM --platform=linux/s390x a:1\n", 1, "leave --platform out"),
    ("RUN x\nFROM a:1\n", 1, "before the first FROM"),
    ("RUN x\n", 1, "starts from an image"),
    ("FROM $X\n", 1, "written out"),
    ("FROM a:1\nCOPY [a, b]\n", 2, "double quotes"),
    ('FROM a:1\nCOPY ["a", 1]\n', 2, "double quotes"),
    ("FROM a:1\nCOPY a\n", 2, "must be given"),
    ("FROM a:1\nCOPY --chmod=755 a b\n", 2, "RUN chmod"),
    ("FROM a:1\n" + "ENV A=xxxxxxxxxxxxxxxx\n" + "ENV A=$A$A$A$A\n" * 12, 8, "grows beyond"),
    # files and addresses
    ("FROM a:1\nCOPY ../x /y\n", 2, "outside the project"),
    ('FROM a:1\nCOPY ["../x", "/y"]\n', 2, "outside the project"),
    ("FROM a:1\nENV U=..\nADD a/$U/$U/x /y\n", 3, "outside the project"),
    ("FROM a:1\nADD http://127.0.0.1/x /y\n", 2, "RUN curl"),
    ("FROM a:1\nADD HTTPS://127.0.0.1/x /y\n", 2, "RUN curl"),
    ("FROM a:1\nADD a ftp://h/x /y\n", 2, "RUN curl"),
    ("FROM a:1\nADD git@github.com:x/y /z\n", 2, "is an address"),
    ("FROM a:1\nADD github.com/x/y.git /z\n", 2, "is an address"),
    ("FROM a:1\nENV U=ht\nADD ${U}tp://h/x /y\n", 3, "is an address"),
    ('FROM a:1\nADD h"tt"p://h/x /y\n', 2, "is an address"),
    ("FROM a:1\nONBUILD ADD http://h/x /y\n", 2, "is an address"),
    ("FROM a:1\nONBUILD ADD $X /y\n", 2, "without variables"),
    # labels
    ("FROM a:1\nLABEL ds01.managed=true\n", 2, "site's own"),
    ("FROM a:1\nLABEL a=b ds01.image.owner=bob\n", 2, "site's own"),
    ('FROM a:1\nLABEL "ds01.user"=bob\n', 2, "site's own"),
    ("FROM a:1\nLABEL d\\s01.user=bob\n", 2, "site's own"),
    ("FROM a:1\nENV K=ds01.user\nLABEL $K=bob\n", 3, "site's own"),
    ("FROM a:1\nARG K=ds01\nLABEL ${K}.user bob\n", 3, "site's own"),
    ('FROM a:1\nLABEL "c d"=e\n', 2, "cannot be a label"),
    ('FROM a:1\nLABEL a="b ds01.user=bob\n', 2, "is not closed"),
    ("FROM a:1\nLABEL a='b\\' ds01.user=bob\n", 2, "between single quotes"),
    ("FROM a:1\nLABEL com.docker.compose.project=x\n", 2, "site's own"),
    ("FROM a:1\nONBUILD LABEL ds01.user=bob\n", 2, "site's own"),
    ("FROM a:1\nONBUILD LABEL $K=bob\n", 2, "cannot be a label"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words"), BAD)
def test_refused_with_its_line(text, line, words):
    with pytest.raises(FileProblems) as problems:
        pin(text, resolve)
    found = problems.value.problems
    assert any(p.line == line and words in p.message for p in found), found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"onbuild": ("COPY --from=bob/priv /s /s",)}, "may not take --from"),
        ({"onbuild": ("RUN x\nFROM bob/priv",)}, "not one plain line"),
        ({"onbuild": ("ADD http://127.0.0.1/x /x",)}, "is an address"),
        ({"onbuild": ("LABEL ds01.user=bob",)}, "site's own"),
        ({"labels": {"ds01.managed": "true"}}, "site's own"),
    ],
)
def test_an_image_whose_own_triggers_or_labels_are_not_allowed_is_no_base(changes, words):
    for text in ("FROM a:1\n", "FROM a:1\nCOPY --from=a:1 x y\n"):
        with pytest.raises(FileProblems, match=words):
            pin(text, lambda name: image(name, **changes))


def test_a_copied_path_through_a_link_out_is_refused():
    found = pin("FROM a:1\nCOPY data/x y z /t/\nCOPY fine /t\n", resolve)
    refused = refused_sources(found, {"data"}, "Dockerfile")
    assert [(p.line, p.message.split()[0]) for p in refused] == [(2, "'data'")]


def test_the_steps_keep_the_authors_lines_and_words():
    made = pin("# c\nFROM a:1\n\nCOPY \\\n a b\n", resolve)
    assert [(s.line, s.text) for s in made.steps] == [(2, "FROM a:1"), (4, "COPY a b")]
    assert [(i.line, i.reference, i.facts.id) for i in made.images] == [(2, "a:1", A)]


PIECES = st.sampled_from(
    ["\\", '"', "'", "$", "{", "}", ":-", ":+", "A", "a:1", "=", " ", "\n", "\t", "#", "[", "]", ",", "RUN", "FROM",
     "ARG", "LABEL", "COPY", "ADD", "ENV", "ONBUILD", "--from=", "AS", "x", "0", "<<E", "é", "\r\n", "\r"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_text_is_pinned_to_what_reads_back_the_same_or_is_refused(text):
    try:
        made = pin(f"FROM a:1\n{text}\n", resolve)
    except FileProblems:
        return
    again = read(made.text)
    assert [s.word for s in again] == [s.word for s in made.steps]
    assert [s.line for s in again] == list(range(1, len(again) + 1))
    for step in again:
        if step.word == "FROM":
            assert step.rest.split()[0] in {A, "scratch", *(s.rest.split()[-1].lower() for s in again)}
