"""Make the pictures of the documentation again: ``docs/images/*.png``.

Runs a hub of its own with simulated GPUs and a few people at work, looks at it in Chromium as each of
them would, and takes everything down again. About two minutes; a second run replaces the pictures.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
os.environ["PATH"] = f"{ROOT / '.cache/node/node_modules/.bin'}{os.pathsep}{os.environ['PATH']}"

from playwright.sync_api import Browser, expect, sync_playwright  # noqa: E402
from support.people import ARGUMENTS, Visitor  # noqa: E402
from support.running_hub import RunningHub, running_hub  # noqa: E402

TARGET = ROOT / "docs" / "images"
FOOT = 24
MEASURED_AFTER_S = 100
"""What the sessions use is sampled every 20 s; with fewer points there is no line to see."""

GPUS = """
version: 1
cards:
  - uuid: GPU-a-{uuid}
    name: NVIDIA A100-SXM4-80GB
    memory: 80g
    mig:
      - {profile: 3g.40gb, used: 21g, load: 64, uuid: MIG-0-{uuid}}
      - {profile: 2g.20gb, uuid: MIG-1-{uuid}}
      - {profile: 1g.10gb, used: 6g, load: 38, uuid: MIG-2-{uuid}}
      - {profile: 1g.10gb, used: 4g, load: 27, uuid: MIG-3-{uuid}}
  - uuid: GPU-b-{uuid}
    name: NVIDIA A100-SXM4-80GB
    memory: 80g
"""
ENVIRONMENTS = """
version: 1
environments:
  lab:
    image: ds01/lab:latest
    title: JupyterLab
    description: Python with JupyterLab and nothing else; install what you need with pip, or build your own.
    default: true
  nlp:
    image: ds01/lab:latest
    title: Language processing
    description: Transformers, datasets and what else the exercises of this term use.
    groups: [students]
"""
SESSIONS = {
    "bob": {"project": "nlp-exercises", "environment": "nlp", "gpu": "1g.10gb"},
    "teacher": {"project": "vision-lecture", "environment": "lab", "gpu": "3g.40gb"},
}
WORK = """
import time
data, t = [], time.time()
while True:
    if len(data) < 40:
        data.append(bytearray(12_000_000))
    until = time.time() + 0.15 + 0.25 * ((time.time() - t) % 60 > 25)
    while time.time() < until:
        pass
    time.sleep(0.4)
"""
"""Something to measure: part of a core, now more, now less, and memory that grows."""


@contextmanager
def site() -> Iterator[RunningHub]:
    """A hub with the demo's policy, and nothing of it left afterwards."""
    name = f"test-{os.getpid()}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory(prefix="ds01-shots-") as folder:
        catalogue = Path(folder) / "environments.yaml"
        catalogue.write_text(ENVIRONMENTS)
        try:
            with running_hub(
                Path(folder),
                name,
                "ds01/lab:latest",
                extra=f"c.DS01Spawner.environments_file = {str(catalogue)!r}",
                arguments=', idle_arguments=("--poll", "5", "--window", "20")',
                policy=(ROOT / "hub_config" / "policy.yaml").read_text(),
                gpus=GPUS,
            ) as hub:
                yield hub
        finally:
            client = docker.from_env()
            for container in client.containers.list(all=True, filters={"label": f"ds01.hub={name}"}):
                container.remove(force=True)


class Camera:
    """Takes the pictures: the part of a page that a screen shows, or all of it."""

    def __init__(self, browser: Browser, hub: RunningHub) -> None:
        self._browser, self._hub = browser, hub

    def person(self, user: str, theme: str = "light", width: int = 1280, height: int = 900) -> Visitor:
        """Somebody who has just logged in."""
        return Visitor(
            self._browser,
            self._hub,
            user,
            viewport={"width": width, "height": height},
            color_scheme=theme,
            timezone_id="UTC",
        ).log_in()

    @staticmethod
    def take(person: Visitor, name: str, whole: bool = False) -> None:
        """Save one picture. In one of a whole page the bar at its foot stands where it belongs."""
        page = person.page
        page.mouse.move(0, 0)
        page.wait_for_timeout(600)
        if whole:
            page.add_style_tag(content=".ds01-go { position: static !important; }")
        path = TARGET / f"{name}.png"
        size = page.viewport_size or {"width": 1280, "height": 900}
        main = page.locator("main.container")
        box = main.first.bounding_box() if main.count() and not whole else None
        clip = None
        if box and box["y"] + box["height"] + FOOT < size["height"]:  # nothing but paper below
            clip = {"x": 0, "y": 0, "width": size["width"], "height": box["y"] + box["height"] + FOOT}
        page.screenshot(path=path, full_page=whole, clip=clip, animations="disabled")
        print(f"{path.relative_to(ROOT)} ({path.stat().st_size // 1024} KiB)", flush=True)


def student(camera: Camera, hub: RunningHub) -> None:
    """A student's way: choose, be refused, start, work, retire."""
    alice = camera.person("alice")
    page = alice.page
    expect(alice.start_button).to_be_visible()
    alice.choose(gpu="3g.40gb", project="thesis")
    alice.start_button.click()
    expect(page.get_by_role("alert").filter(has_text="3g.40gb").first).to_be_visible()
    expect(alice.start_button).to_be_visible()
    camera.take(alice, "refusal")
    alice.go("hub/spawn")
    alice.choose(gpu="1g.10gb", project="thesis")
    alice.start_button.click()
    expect(page.locator('[data-step="started"]')).to_have_attribute("data-state", "done")
    camera.take(alice, "starting")
    alice.in_lab()
    alice.open_console()
    alice.run_cell(
        "from pathlib import Path; Path('results.csv').write_text('42'); print(Path.cwd())", "/work"
    )
    page.get_by_role("button", name="Refresh the file browser.").click()
    camera.take(alice, "lab")
    engine = docker.from_env()
    for user in ("alice", "bob"):
        container = engine.containers.get(f"{hub.hub_id}--{user}")
        (hub.workspaces / user / container.labels["ds01.project"] / "train.py").write_text(WORK)
        container.exec_run(["python3", "train.py"], detach=True, user=container.attrs["Config"]["User"])
    time.sleep(MEASURED_AFTER_S)
    alice.go("hub/home")
    expect(page.locator(".ds01-spark").first).to_be_visible()
    camera.take(alice, "home")
    page.locator("a[data-ds01-dialog]").click()
    camera.take(alice, "retire")


def after(camera: Camera, hub: RunningHub) -> None:
    """What a student sees when the session is over, and at the next start."""
    hub.retire("alice")
    alice = camera.person("alice")
    camera.take(alice, "launch")
    camera.take(alice, "launch-whole", whole=True)
    alice.go("user/alice/lab")
    expect(alice.page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    camera.take(alice, "ended")
    dark = camera.person("alice", theme="dark")
    camera.take(dark, "launch-dark")
    phone = camera.person("alice", width=375, height=740)
    camera.take(phone, "launch-phone")


def admin(camera: Camera) -> None:
    """The administrator's page, with a card taken out of service, and the GPUs as everybody sees them."""
    someone = camera.person("admin")
    page = someone.go("services/ds01/admin")
    row = page.get_by_role("row").filter(has_text="Whole GPU")
    row.get_by_placeholder("Reason").fill("fan is loud, technician comes on Thursday")
    row.get_by_role("button", name="Drain").click()
    expect(page.get_by_role("button", name="Back into service")).to_be_visible()
    # Sessions of other hubs on this engine are nobody's business here.
    page.locator("tr", has_text="of another hub").evaluate_all("rows => rows.forEach(r => r.remove())")
    page.get_by_role("heading", name="Sessions (").evaluate("(h, n) => h.textContent = `Sessions (${n})`", 3)
    camera.take(someone, "admin", whole=True)
    someone.go("services/ds01/gpus")
    camera.take(someone, "gpus")


def main() -> None:
    """All pictures, then their size."""
    TARGET.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("DS01_CHROMIUM") or (ROOT / ".cache/chromium").read_text().strip()
    with site() as hub, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        camera = Camera(browser, hub)
        for user, options in SESSIONS.items():
            hub.start_session(user, options)
        student(camera, hub)
        admin(camera)
        after(camera, hub)
        browser.close()


if __name__ == "__main__":
    main()
