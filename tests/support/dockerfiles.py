# ruff: noqa: E501
"""Dockerfiles in all the spellings a builder might read in another way than we do, around planted images."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass

from hypothesis import strategies as st

SECRET_PATH = "/secret.txt"


@dataclass(frozen=True)
class Planted:
    """The images of one run: names, and the secret that only its owner may read."""

    run: str
    secret: str
    private: str
    """Bob's image; ``secret`` is in it."""
    private_id: str
    innocent: str
    """A name of Eve's that leads to the same image."""
    hidden: str
    """The name a pin of ours has for the same image."""
    public: str
    public_id: str
    own: str
    trigger: str
    """A public image with a build trigger that takes from Bob's."""

    @property
    def owner(self) -> str:
        """Whose image it is."""
        return f"bob{self.run}"

    @property
    def eve(self) -> str:
        """Whoever builds."""
        return f"eve{self.run}"


def archive(**files: str) -> bytes:
    """A tar with these files."""
    spool = io.BytesIO()
    with tarfile.open(fileobj=spool, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(content.encode())
            tar.addfile(info, io.BytesIO(content.encode()))
    return spool.getvalue()


def spellings(planted: Planted) -> dict[str, str]:
    """Every known way to another's image, each a whole Dockerfile; ``%`` marks the end of a take."""
    name, image = planted.private, planted.private_id.removeprefix("sha256:")
    letter = next(i for i, sign in enumerate(image) if sign.isalpha())
    digits = image[: max(3, letter + 1)]
    """Digits alone are a stage's number where files are copied."""
    first, rest = name[0], name[1:]
    space, _, project = name.partition("/")
    take = f"COPY --from={{}} {SECRET_PATH} /taken\n"
    public = f"FROM {planted.public}\n"
    return {
        "the name": f"FROM {name}\n",
        "with docker.io": f"FROM docker.io/{name}\n",
        "with index.docker.io": f"FROM index.docker.io/{name}:latest\n",
        "an escape": f"FROM {first}\\{rest}\n",
        "double quotes": f'FROM {first}"{space[1:]}"/{project}\n',
        "single quotes": f"FROM {first}'{space[1:]}'/{project}\n",
        "a second variable": f"ARG A=x B={name}\nFROM $B\n",
        "a variable twice": f"ARG A=x A={name}\nFROM $A\n",
        "an escape in a variable": f"ARG A={first}\\{rest}\nFROM $A\n",
        "a variable of a variable": f"ARG A={space}\nARG B=$A/{project}\nFROM ${{B}}\n",
        "a default": f"FROM ${{NONE:-{name}}}\n",
        "an alternative": f"ARG A=1\nFROM ${{A:+{name}}}\n",
        "two escapes at a line's end": f"{public}RUN echo \\\\\nFROM {name}\n",
        "a comment within a line": f"{public}RUN true \\\n# c\n\nFROM {name}\n",
        "a line end within the name": f"FROM {name[:6]}\\\n{name[6:]}\n",
        "two digits of the id": f"FROM {image[:2]}\n",
        "three digits of the id": f"FROM {image[:3]}\n",
        "twelve digits of the id": f"FROM {image[:12]}\n",
        "a digest cut short": f"FROM sha256:{image[:10]}\n",
        "the whole id": f"FROM sha256:{image}\n",
        "the bare id": f"FROM {image}\n",
        "another escape sign": f"# escape=`\nFROM {name[:6]}`\n{name[6:]}\n",
        "a byte order mark": f"\ufeffFROM {name}\n",
        "a carriage return": f"{public}# c\rFROM {name}\n",
        "copied by name": public + take.format(name),
        "copied by digits": public + take.format(digits),
        "copied by the whole id": public + take.format(f"sha256:{image}"),
        "copied with quotes": public + take.format(f'{first}"{space[1:]}"/{project}'),
        "copied by a variable": f"{public}ARG A={name}\n" + take.format("$A"),
        "copied by a stage of that name": f"FROM {planted.public} AS {space.replace('/', '-')}\n{public}" + take.format(name),
        "a trigger": f"{public}ONBUILD {take.format(name)}",
        "a base's trigger": f"FROM {planted.trigger}\n",
        "a second name": f"FROM {planted.innocent}\n",
        "a name of our book-keeping": f"FROM {planted.hidden}\n",
        "a heredoc": f"{public}RUN <<EOF\nFROM {name}\nEOF\n",
        "a mount": f"{public}RUN --mount=type=bind,from={name},target=/m cat /m{SECRET_PATH}\n",
    }  # fmt: skip


SELDOM = st.sampled_from([False] * 7 + [True])
"""Whether one part of a Dockerfile is wild: most must be plain for the whole to be let through."""


@st.composite
def names(draw: st.DrawFn, planted: Planted) -> str:
    """A reference to some image or stage, in some spelling."""
    if not draw(SELDOM):
        plain = [planted.public, planted.own, planted.public_id, f"docker.io/{planted.public}:latest"]
        return draw(st.sampled_from([*plain, "${P}", f"${{N:-{planted.public}}}"]))
    image = planted.private_id.removeprefix("sha256:")
    text = draw(
        st.sampled_from(
            [planted.public, "scratch", planted.own, "A", "1"]
            + [planted.private] * 4
            + [planted.private_id, planted.innocent, planted.hidden, planted.trigger, planted.owner]
            + [image[:2], image[:3], image[: draw(st.integers(1, 12))], f"sha256:{image[:9]}", image]
        )
    )
    return draw(twisted(text))


@st.composite
def twisted(draw: st.DrawFn, text: str) -> str:
    """``text`` as it is, or with signs in it that a builder takes away."""
    at = draw(st.integers(0, len(text)))
    left, right = text[:at], text[at:]
    return draw(
        st.sampled_from(
            [text] * 4
            + [f"{left}\\{right}", f'{left}"{right}"', f"{left}'{right}'", f'"{text}"', f"{left}\\\n{right}"]
            + [
                f"docker.io/{text}",
                f"index.docker.io/{text}",
                f"{text}:latest",
                f"{text}@{text}",
                text.upper(),
            ]
            + [f"${{N:-{text}}}", f"${{A:+{text}}}", f"${{N-{text}}}", "$A", "${A}", "$A$B", "${B}${A}", "$N"]
            + [f"{left}${{N}}{right}", f"{left}\u200b{right}", f"{left}\t{right}", f"{left} {right}"]
        )
    )


@st.composite
def variables(draw: st.DrawFn, planted: Planted) -> str:
    """An ARG line; values are whole names or their halves."""
    halves = st.sampled_from([*planted.private.partition("/"), "x", planted.public, planted.private, "1", ""])
    wild = draw(SELDOM)
    pairs = draw(
        st.lists(
            st.tuples(st.sampled_from("AB"), halves.flatmap(twisted) if wild else halves),
            min_size=1,
            max_size=3,
        )
    )
    return "ARG " + " ".join(f"{name}={value}" if value else name for name, value in pairs)


@st.composite
def steps(draw: st.DrawFn, planted: Planted) -> str:
    """One instruction below a FROM."""
    name, target = draw(names(planted)), draw(st.sampled_from(["/taken", "/", "/d/"]))
    if not draw(SELDOM):
        taken = draw(st.sampled_from([name, name, "0", "a", "A", "00"]))
        return draw(
            st.sampled_from(
                [f"COPY --from={taken} /public.txt {target}"] * 4
                + [
                    f"COPY f {target}",
                    f'COPY ["f", "{target}"]',
                    f"add \\\n# c\n f {target}",
                    f"COPY f $A{target}",
                ]
                + [
                    f'LABEL a="$A" b={planted.private}',
                    "ENV A=$B",
                    f"ENV B {planted.private}",
                    "CMD a \\\n b",
                ]
                + [f"CMD echo \\{planted.private}", f"# FROM {planted.private}", "ONBUILD COPY f /", "USER 1"]
            )
        )
    path = draw(st.sampled_from([SECRET_PATH, SECRET_PATH, "/", "f", "/public.txt", "*"]).flatmap(twisted))
    return draw(
        st.sampled_from(
            [f"COPY --from={name} {path} {target}"] * 4
            + [f'COPY --from={name} ["{path}", "{target}"]', f"COPY --chown=1 --from={name} {path} {target}"]
            + [f"COPY f {target}", f"ADD {path} {target}", f"ADD --from={name} {path} {target}"]
            + [f"ONBUILD COPY --from={name} {path} {target}", f"ONBUILD FROM {name}", f"ENV A={name}"]
            + [f"LABEL a={name}", f'LABEL a="{name}" b={path}', f"CMD echo \\\\\nFROM {name}", "WORKDIR /w"]
            + [f"RUN --mount=from={name} cat {path}", f"ENV B {name} \\\\\nFROM {name}", f"VOLUME {target}"]
            + [
                f"COPY <<E {target}\nFROM {name}\nE",
                f"# FROM {name} \\\nFROM {name}",
                f"CMD \\\n# x\n\nFROM {name}",
            ]
            + [f"copy {path}\\\n {target}", f"CMD x\rFROM {name}", f"CMD x\u2028FROM {name}"]
        )
    )


@st.composite
def stages(draw: st.DrawFn, planted: Planted, number: int) -> str:
    """A FROM and what is below it."""
    word = draw(
        st.sampled_from(
            ["FROM"] * 20 + ["from", " FROM", "\tFROM", "FROM --platform=linux/amd64", "FR\\\nOM"]
        )
    )
    plain = ["", f" AS {'abc'[number]}"]
    stage = draw(st.sampled_from(plain * 6 + [" AS a", " as A", " AS 1", f" AS {planted.owner}"]))
    base = draw(names(planted) | st.just("a")) if number else draw(names(planted))
    below = draw(st.lists(steps(planted) | variables(planted), max_size=3))
    return "\n".join([f"{word} {base}{stage}", *below])


@st.composite
def dockerfiles(draw: st.DrawFn, planted: Planted) -> str:
    """A whole Dockerfile."""
    first = draw(
        st.sampled_from([""] * 18 + ["# escape=`\n", "# escape=\\\n", "# syntax=x\n", "\ufeff", "\\\n"])
    )
    above = [f"ARG P={planted.public}", *draw(st.lists(variables(planted), max_size=2))]
    count = draw(st.integers(1, 3))
    parts = [*above, *(draw(stages(planted, number)) for number in range(count))]
    end = draw(st.sampled_from(["\n"] * 18 + ["", "\r\n", "\\", " \\\n", "\n\n# end"]))
    return first + draw(st.sampled_from(["\n"] * 9 + ["\r\n", "\n\n"])).join(parts) + end
