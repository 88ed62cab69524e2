"""Whatever text a person gives, reading it is soon over. Each row took seconds, or never ended, before."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ds01spawner.core import logtext, yaml_reader
from ds01spawner.courses.spec import parse_course
from ds01spawner.engines.docker import snapshot
from ds01spawner.environments.builder import recipe
from ds01spawner.policy import PolicyError, parse_policy
from ds01spawner.workspace import gitwords

SOON_S = 20


@pytest.fixture(autouse=True)
def soon():
    begun = time.process_time()
    yield
    assert time.process_time() - begun < SOON_S


def policy(text, name):
    return parse_policy(text, Path(name))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "{a: " * 50_000,
        "[a," * 80_000,
        "[" + "a," * 120_000 + "]",
        "- " * 100_000,
        "? " * 100_000,
        "x: 1" + ":1" * 100_000,
        "x: " + "9" * 200_000,
        "x: " + "a\n " * 80_000,
        "x: &a [*a]",
        "x: 0x" + "f" * 1900,
        "\n".join(f"k{i}: 1" for i in range(15_000)),
        "!!python/object/apply:os.system [x]",
        '"' + "\\x41" * 60_000 + '"',
        "%" * 200_000,
        "a: |\n" + " \n" * 100_000,
    ],
)
@pytest.mark.parametrize("read", [recipe.load_recipe, recipe.environment_yml, policy])
def test_yaml(text, read):
    with pytest.raises((yaml_reader.FileProblems, PolicyError)):
        read(text, "recipe.yaml")


def test_a_course_of_brackets_too():
    with pytest.raises(yaml_reader.FileProblems, match="nest"):
        parse_course(yaml_reader.parse("image: " + "[" * 200_000, "course.yaml"))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "course.yaml")
    with pytest.raises(yaml_reader.FileProblems, match="plain file"):
        yaml_reader.read(tmp_path / "course.yaml")
    (tmp_path / "big").write_bytes(b" " * (yaml_reader.OF_PEOPLE.size + 5))
    with pytest.raises(yaml_reader.FileProblems, match="larger than"):
        yaml_reader.read(tmp_path / "big")


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (recipe.conda_package, "numpy==1" + ",==1" * 45 + "$"),
        (recipe.conda_package, "a" + "-" * 190 + "$"),
        (recipe.conda_package, "a=" + "*" * 190 + "$"),
        (recipe.apt_package, "a" + "=" * 190),
        (recipe.apt_package, "a=1" + ":~" * 90 + "$"),
        (recipe.pip_package, "a[" + "a," * 90),
        (recipe.pip_package, "a;" + "(" * 190),
        (recipe.pip_package, "a>=1" + ",>=1" * 45 + "$"),
        (recipe.pip_package, "a=={}!".format("1." * 90)),
        (recipe.inside_path, "a " * 99 + "$"),
    ],
)
def test_names_of_packages(check, text):
    with pytest.raises(ValueError, match=r"is not|has|may"):
        check(text)


def test_requirements_of_many_spaces():
    assert set(recipe.requirements_text((" " * 5000 + "x # y\n") * 90, "requirements.txt")) == {"x"}


@pytest.mark.parametrize(
    "line",
    [
        "a." * 1_000_000,
        "token" * 400_000,
        "token " * 400_000,
        "password" + " " * 2_000_000,
        "authorization: " * 100_000,
        "\x1b[" + "0;" * 1_000_000,
        "\x1b]" * 1_000_000,
        "\x1b[0m" * 500_000,
        "\r" * 2_000_000,
        "://" * 700_000,
        "a://" + ":" * 2_000_000,
        "sk-" * 700_000,
    ],
)
def test_lines_of_a_log(line):
    masker = logtext.Masker(["a secret"])
    lines = logtext.Lines(masker)
    shown = lines.feed(line) + lines.feed("\n") + lines.feed(line + "\n") + lines.end()
    assert all(len(one) < 3 * logtext.MAX_LINE for one in shown)
    assert sum(len(logtext.to_html(one)) for one in shown) < 2**20
    gitwords.reason(line)
    gitwords.progress(line)


def test_many_such_lines():
    mask = logtext.Masker()
    for line in ("a." * 1000, "token" * 400, "password_" * 220):
        for _ in range(50):
            mask(line)


def test_what_a_session_says_it_has():
    odd = {"a" * 100 + str(i): "1" * 60 for i in range(2000)} | {"-_." * 33: "x"}
    assert snapshot.package_diff(odd, {}).unsafe


def test_the_child_that_commits_opens_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "HEAD")
    code = (
        "import sys; from ds01spawner.environments.builder import gitchild\n"
        "sys.addaudithook(gitchild.only_plain_files)\n"
        "open(sys.argv[0] if len(sys.argv) < 2 else sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "HEAD")], capture_output=True, text=True, timeout=60
    )
    assert "no plain file" in done.stderr
