"""Generated Dockerfiles, and what is said of a step that failed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.environments.builder.builds import BuildLimits
from ds01spawner.environments.builder.dockerfile import SiteBuild, plan
from ds01spawner.environments.builder.dockerscan import read
from ds01spawner.environments.builder.job import failure
from ds01spawner.environments.builder.recipe import Recipe

NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9]{1,8}", fullmatch=True), max_size=4).map(tuple)


@given(NAMES, NAMES, NAMES)
def test_package_names_stand_in_files_only(pip, apt, conda):
    marked = Recipe(
        pip=tuple(f"zz{p}" for p in pip),
        apt=tuple(f"zz{a}" for a in apt),
        conda=tuple(f"zz{c}" for c in conda),
    )
    made = plan(marked, "base:1", "6.1.1")
    assert "zz" not in made.dockerfile
    given = {f"zz{n}" for n in (*pip, *apt, *conda)}
    listed = {
        line
        for name, text in made.files.items()
        if name.startswith("ds01-recipe/")
        for line in text.decode().split()
    }
    assert given == listed


def test_the_plan_for_pip_has_the_layer_first_so_that_it_is_built_once_for_each_base():
    made = plan(Recipe(pip=("six",)), "base:1", "6.1.1")
    words = made.dockerfile
    assert words.startswith("FROM base:1\nUSER root\n")
    assert words.index("install.sh") < words.index("requirements.txt") < words.index("finish.py")
    assert words.endswith('ENTRYPOINT []\nCMD ["jupyterhub-singleuser"]\n')
    assert b"jupyterhub==6.1.1" in made.files["ds01-layer/requirements.txt"]


def test_with_conda_the_layer_comes_after_the_python_may_have_changed():
    words = plan(Recipe(conda=("python=3.12",)), "base:1", "6.1.1").dockerfile
    assert words.index("conda.txt") < words.index("install.sh")


def test_a_base_is_asked_for_conda_before_anything_is_installed():
    words = plan(Recipe(conda=("r-base",), apt=("git",)), "base:1", "6.1.1").dockerfile
    assert words.index("this base has no conda") < words.index("apt-get")
    assert "no conda" not in plan(Recipe(apt=("git",)), "base:1", "6.1.1").dockerfile


def test_a_base_with_the_layer_does_not_get_it_twice():
    assert "install.sh" not in plan(Recipe(), "base:1", "6.1.1", has_layer=True).dockerfile


def test_the_sites_files_and_arguments_come_before_anything_is_fetched():
    made = plan(Recipe(), "b:1", "6.1.1", site=SiteBuild({"/etc/pip conf": b"x"}, {"PIP_CERT": "/c"}))
    assert 'COPY ["ds01-site/0", "/etc/pip conf"]\nARG PIP_CERT\n' in made.dockerfile
    assert made.dockerfile.index("ARG PIP_CERT") < made.dockerfile.index("install.sh")
    assert "/c" not in made.dockerfile.split()


def test_commands_are_in_exec_form_whatever_shell_the_base_has():
    made = plan(Recipe(pip=("six",), apt=("git",)), "b:1", "6.1.1")
    runs = [line[4:] for line in made.dockerfile.split("\n") if line.startswith("RUN ")]
    assert len(runs) == 4
    assert all(isinstance(json.loads(run), list) for run in runs)


@pytest.mark.parametrize(
    ("error", "step", "words"),
    [
        (
            "The command '/bin/sh -c x' returned a non-zero code: 3",
            2,
            "Dockerfile, line 3: ended with exit code 3: RUN x",
        ),
        ("The command '/bin/sh -c x' returned a non-zero code: 137", 2, "memory limit of 4096 MiB"),
        ("COPY failed: no such file", 2, "Dockerfile, line 3: COPY failed: no such file: RUN x"),
        ("something else", 0, "something else"),
    ],
)
def test_the_failing_line_is_named(error, step, words):
    steps = read("FROM a\n\nRUN x\n")
    assert words in failure(error, steps, step, "Dockerfile", BuildLimits())
