"""Recipes: what may stand in them, what is refused and where, and that nothing hostile gets through."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ds01spawner.core.yaml_reader import FileProblems
from ds01spawner.environments.builder.recipe import (
    apt_package,
    conda_package,
    environment_yml,
    load_recipe,
    parse_recipe,
    pip_package,
    requirements_text,
)

HOSTILE = [
    "; rm -rf /",
    "numpy; rm -rf /",
    "numpy && curl evil",
    "numpy|sh",
    "$(id)",
    "`id`",
    "--index-url=https://evil/simple",
    "--index-url https://evil/simple",
    "-e git+https://evil/x.git",
    "-r /etc/passwd",
    "git+https://evil/x.git",
    "numpy @ https://evil/x.whl",
    "numpy@file:///etc/passwd",
    "https://evil/x.whl",
    "./local",
    "../other",
    "/etc/passwd",
    "~/x",
    "numpy\n--index-url=https://evil",
    "numpy\r--index-url=https://evil",
    "numpy\\",
    "numpy \\\n x",
    "nump\u0443",
    "numpy\u200b",
    "ｎｕｍｐｙ",
    "numpy\u2028x",
    "numpy #x",
    "numpy; os_name == ' --index-url=x'",
    "numpy; os_name == '${HOME}'",
    " numpy",
    "",
    "x" * 201,
    "numpy==../../x",
    "numpy===;x",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("check", [pip_package, apt_package, conda_package])
def test_hostile_names_are_refused_everywhere(check, text):
    with pytest.raises(ValueError, match=r"."):
        check(text)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("numpy", "numpy"),
        ("torch>=2.5,<3", "torch<3,>=2.5"),
        ("uvicorn[standard]~=0.30", "uvicorn[standard]~=0.30"),
        ('tomli; python_version < "3.11"', 'tomli; python_version < "3.11"'),
        ("pandas==2.*", "pandas==2.*"),
        ("torch==2.5.1+cu124", "torch==2.5.1+cu124"),
    ],
)
def test_pip_packages(given, kept):
    assert pip_package(given) == kept


@pytest.mark.parametrize("name", ["g++", "libgl1", "git=1:2.39.5-0+deb12u2", "python3.11-dev"])
def test_apt_packages(name):
    assert apt_package(name) == name


@pytest.mark.parametrize("name", ["vim-", "-y", "a", "Vim", "vim/unstable", "vim=-x", "vim*", "libc6:amd64"])
def test_what_apt_would_take_for_something_else(name):
    with pytest.raises(ValueError, match=r"Debian package name|option"):
        apt_package(name)


@pytest.mark.parametrize(
    "name", ["numpy", "pytorch>=2.5,<3", "conda-forge::r-base=4.3", "python=3.11", "mkl !=2024"]
)
def test_conda_packages(name):
    assert conda_package(name) == name


SAFE_LINE = re.compile(r"[A-Za-z0-9_][^\n\r\\$`]*")


@given(st.text(max_size=60) | st.from_regex(r"[a-z]{1,5}[ =<>!~;@\-\[\]'\"a-z0-9./]{0,30}", fullmatch=True))
@example("_libgcc_mutex")
@example("a; os_name == '' or os_name == ' --x'")
def test_whatever_passes_is_one_harmless_line(text):
    for check in (pip_package, apt_package, conda_package):
        try:
            kept = check(text)
        except ValueError:
            continue
        assert SAFE_LINE.fullmatch(kept)
        assert kept.isascii()
        assert not re.search(r"\s-", kept)
        assert "://" not in kept.split(";")[0]


PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
KEYS = st.sampled_from(["base", "pip", "apt", "conda", "title", "python"]) | st.text(max_size=10)


@given(st.recursive(PLAIN, lambda c: st.lists(c, max_size=4) | st.dictionaries(KEYS, c, max_size=4)))
def test_any_data_is_a_recipe_or_a_list_of_problems(data):
    try:
        recipe = parse_recipe(data)
    except FileProblems as problems:
        message = str(problems)
        assert message.startswith("recipe.yaml:")
    else:
        assert load_recipe(recipe.as_yaml()) == recipe


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("base: lab\npip:\n- numpy\n- -e git+x\n", 4, "pip.1: '-e git+x' is an option of pip"),
        ("base: lab\npips: []\n", 2, "is not a known key"),
        ("base: lab\ndockerfile: Dockerfile\n", 1, "dockerfile says everything itself; leave base out"),
        ("pip: numpy\n", 1, "a list is expected here"),
        ("python: 3.11\n", 1, 'write the version in quotes: "3.11"'),
        ("requirements: ../r.txt\n", 1, "is not a path inside the project"),
        ("dockerfile: /etc/passwd\n", 1, "is not a path inside the project"),
        ("channels: [https://evil]\n", 1, "is not a channel's name"),
        ("base: '../x'\n", 1, "base is an environment's id or an image"),
        ("conda: [1]\n", 1, "valid string"),
        ('title: "a\\nb"\n', 1, "one line of printable text"),
        ("", 1, "a set of `key: value` lines"),
    ],
)
def test_problems_name_line_and_key(text, line, words):
    with pytest.raises(FileProblems) as problems:
        load_recipe(text)
    assert words in str(problems.value)
    assert problems.value.problems[0].line == line


def test_all_problems_are_told_at_once():
    with pytest.raises(FileProblems) as problems:
        load_recipe("pip: [ok, '-x', 'a b']\napt: ['B']\n")
    assert [p.key for p in problems.value.problems] == ["pip.1", "pip.2", "apt.0"]


def test_requirements_file():
    assert requirements_text("# tools\nnumpy >= 2  # fast\n\nsix\n", "r.txt") == ("numpy>=2", "six")
    with pytest.raises(FileProblems) as problems:
        requirements_text("numpy\n-r other.txt\n--hash=x\n", "r.txt")
    assert [p.line for p in problems.value.problems] == [2, 3]


def test_environment_yml():
    text = "name: x\nchannels: [conda-forge]\ndependencies:\n- numpy=2\n- pip:\n  - six\n"
    assert environment_yml(text, "e.yml") == (("numpy=2",), ("six",), ("conda-forge",))
    for wrong in (
        "dependencies: [{npm: [x]}]",
        "prefix: /x",
        "dependencies: ['a b c']",
        "channels: ['-c x']",
    ):
        with pytest.raises(FileProblems):
            environment_yml(wrong, "e.yml")


def test_adding_packages_replaces_by_name():
    recipe = parse_recipe({"base": "lab", "pip": ["Flask_Login==1", "six"]})
    assert recipe.with_pip(["flask-login==2", "rich==14.0"]).pip == ("six", "flask-login==2", "rich==14.0")
