"""The commands that need no engine: what they print and how they end."""

import json

import pytest
from typer.testing import CliRunner

from ds01spawner.cli import build_app
from ds01spawner.core.errors import DS01Error
from ds01spawner.environments.builder.recipe import parse_recipe
from ds01spawner.environments.builder.sitebuild import base_for, site_build

COURSE = "course: nlp\ntitle: Language\nroster: nlp-s26\nimage: some/image:1\n"


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path))

    def call(*args):
        result = CliRunner().invoke(build_app(), [*args, "--json"])
        return result.exit_code, json.loads(result.stdout)

    return call


def test_check_accepts(call, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("base: lab\npip: [numpy]\n")
    assert call("image", "check", str(path)) == (
        0, {"ok": True, "file": str(path), "recipe": {"base": "lab", "pip": ["numpy"]}},
    )  # fmt: skip


def test_check_refuses_with_file_line_and_key(call, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("base: lab\npip:\n- '; rm -rf /'\n- -e git+x\n")
    code, data = call("image", "check", str(path))
    assert code == 1
    assert [(p["file"], p["line"], p["key"]) for p in data["problems"]] == [
        (str(path), 3, "pip.0"),
        (str(path), 4, "pip.1"),
    ]


def test_check_of_a_missing_file(call, tmp_path):
    code, data = call("image", "check", str(tmp_path / "none.yaml"))
    assert code == 1
    assert "cannot be read: No such file" in data["message"]


def test_course_apply_is_idempotent(call, tmp_path):
    path = tmp_path / "course.yaml"
    path.write_text(COURSE)
    dry = call("course", "apply", str(path), "--dry-run")[1]
    assert dry["changes"]
    assert call("course", "list") == (0, [])
    assert call("course", "apply", str(path), "--by", "root")[1]["changes"] == dry["changes"]
    assert call("course", "apply", str(path), "--by", "root")[1]["changes"] == []
    (listed,) = call("course", "list")[1]
    assert (listed["course"], listed["state"], listed["roster"]) == ("nlp", "draft", ["nlp-s26"])
    assert call("course", "close", "nlp")[0] == 0
    assert call("course", "list")[1][0]["state"] == "closed"


def test_course_apply_names_the_line(call, tmp_path):
    path = tmp_path / "course.yaml"
    path.write_text(COURSE + "rooster: x\n")
    code, data = call("course", "apply", str(path))
    assert code == 1
    assert (data["problems"][0]["line"], data["problems"][0]["key"]) == (5, "rooster")


def test_the_sites_files_and_arguments(tmp_path):
    (tmp_path / "ca.crt").write_text("CA")
    environ = {
        "DS01_BUILD_FILES": f"{tmp_path}/ca.crt:/etc/ca.crt",
        "DS01_BUILD_ARGS": "PIP_CERT=/etc/ca.crt PIP_INDEX_URL=https://x/simple",
    }
    site = site_build(environ)
    assert site.files == {"/etc/ca.crt": b"CA"}
    assert site.args == {"PIP_CERT": "/etc/ca.crt", "PIP_INDEX_URL": "https://x/simple"}
    assert site_build({}).files == {}
    for wrong in ({"DS01_BUILD_FILES": "/none:/x"}, {"DS01_BUILD_FILES": "x"}, {"DS01_BUILD_ARGS": "x"}):
        with pytest.raises(DS01Error):
            site_build(wrong)


def test_a_dockerfile_has_no_base():
    asked = []
    assert base_for(parse_recipe({"dockerfile": "Dockerfile"}), [], asked.append) == ""
    assert asked == []
    assert base_for(parse_recipe({"base": "python:3.12"}), [], asked.append) == "python:3.12"
    assert asked == ["python:3.12"]
