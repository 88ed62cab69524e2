"""``ds01 image`` and ``ds01 course`` as an administrator types them, on a real engine."""

import json
import os
import subprocess
import sys
import uuid

import pytest

from ds01spawner.core import installation
from ds01spawner.engines.docker.image_store import Images

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def images(tmp_path):
    mine = installation.make(tmp_path / "state")
    images = Images(installation=lambda: mine)
    yield images
    images.close()


@pytest.fixture
def name(images):
    """A person and a course nobody else has; their images go after the test."""
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    for facts in images.list():
        for tag in facts.tags:
            if tag.startswith(
                (f"ds01-{name}/", f"ds01-course/{name}:", f"ds01-kept/{name}/", f"ds01-kept/course/{name}:")
            ):
                images.remove(tag)


@pytest.fixture
def ds01(tmp_path):
    (tmp_path / "ws").mkdir()
    lab = tmp_path / "environments.yaml"
    lab.write_text("environments:\n  base:\n    image: ds01/base:latest\n    default: true\n")
    environ = {
        **os.environ,
        "DS01_STATE_DIR": str(tmp_path / "state"),
        "DS01_WORKSPACE_ROOT": str(tmp_path / "ws"),
        "DS01_ENVIRONMENTS": str(lab),
        "DS01_DEVICES": "none",
    }

    def call(*args):
        done = subprocess.run(
            [sys.executable, "-c", "from ds01spawner.cli import main; main()", *args, "--json"],
            env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return call


def test_build_list_tag_check_prune(ds01, images, name, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("title: Mine\napt: [no-such-package-at-all]\n")
    code, data = ds01("image", "build", str(recipe), "--project", "p", "--user", name)
    assert (code, data["state"]) == (1, "failed")
    assert "installing the apt packages (Unable to locate package no-such-package-at-all)" in data["reason"]
    recipe.write_text("conda: [r-base]\n")
    code, data = ds01("image", "build", str(recipe), "--project", "p", "--user", name)
    assert (code, data["state"]) == (1, "failed")
    assert "looking for conda in the base (this base has no conda; choose one" in data["reason"]
    recipe.write_text("title: Mine\n")
    code, data = ds01("image", "build", str(recipe), "--project", "p", "--user", name)
    assert (code, data["state"], data["environment"]) == (0, "ready", f"ds01-{name}/p:latest")
    assert (tmp_path / "ws" / name / "p" / "recipe.lock.json").exists()
    assert ds01("image", "tag", f"ds01-{name}/p:latest", "experiment-42")[0] == 0
    code, rows = ds01("image", "list", "--user", name)
    assert [r["image"] for r in rows] == [f"ds01-{name}/p:experiment-42", f"ds01-{name}/p:latest"]
    assert {r["id"] for r in rows} == {data["image"]}
    reference = f"ds01-{name}/p:latest"
    shared = {"ok": True, "image": reference, "shared_with": [f"g-{name}"]}
    assert ds01("image", "share", reference, "--group", f"g-{name}") == (0, shared)
    assert {r["image"]: r["shared_with"] for r in ds01("image", "list", "--user", name)[1]} == {
        reference: [f"g-{name}"],
        f"ds01-{name}/p:experiment-42": [],
    }
    assert ds01("image", "share", f"ds01-{name}/none:latest", "--group", "g")[0] == 1
    assert ds01("image", "share", "ds01/base:latest", "--group", "g")[0] == 1
    assert ds01("image", "share", reference, "--group", "a b")[0] == 1
    assert ds01("image", "unshare", reference) == (0, {**shared, "shared_with": []})
    code, checked = ds01("image", "check", "--image", f"ds01-{name}/p:latest")
    assert (code, checked["ok"]) == (0, True)
    code, checked = ds01("image", "check", "--image", "ds01/test-busybox:latest")
    assert (code, checked["ok"]) == (1, False)
    code, pruned = ds01("image", "prune")
    assert (code, pruned["dry_run"], pruned["removed"]) == (0, True, [])
    ours = [i for i in pruned["plan"] if i["reference"].startswith(f"ds01-{name}/")]
    assert [i["remove"] for i in ours] == [False, False]
    assert images.inspect(f"ds01-{name}/p:latest").id == data["image"]


def test_a_course_is_built_published_and_stepped_back(ds01, images, name, tmp_path):
    file = tmp_path / "course.yaml"
    text = f"course: {name}\ntitle: Language\nroster: g\nstaff: [prof]\nrecipe:\n  title: one\n"
    file.write_text(text)
    code, applied = ds01("course", "apply", str(file), "--by", "root")
    assert (code, applied["needs_build"]) == (0, True)
    code, built = ds01("course", "prepull", name)
    assert (code, built["state"]) == (0, "ready"), built
    code, first = ds01("course", "publish", name)
    assert (code, first["image"]) == (0, built["image"])
    file.write_text(text.replace("one", "two"))
    assert ds01("course", "apply", str(file), "--by", "root")[1]["needs_build"]
    code, second = ds01("course", "prepull", name)
    assert second["image"] != first["image"]
    assert ds01("course", "list")[1][0]["pinned"] == first["image"]
    assert ds01("course", "publish", name)[1]["image"] == second["image"]
    assert ds01("course", "publish", name, "--back")[1]["image"] == first["image"]
    assert images.inspect(f"ds01-course/{name}:release-{first['image'][7:19]}").id == first["image"]
