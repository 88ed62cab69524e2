"""The product as a student meets it, from the log-in page to the file that is still there next time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from playwright.sync_api import expect

from ds01spawner.idle.lab import LabClient


def tell(hub, user: str, text: str) -> bool:
    """Say something inside a session's JupyterLab, as the idle service does."""
    address = urlsplit(hub.url)

    async def say() -> bool:
        lab = LabClient(hub.token)
        try:
            return await lab.notify([address.hostname], address.port, f"/user/{user}", text, "warning")
        finally:
            lab.close()

    # Playwright has a loop of its own in this thread.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, say()).result()


def test_a_first_time_student_works_retires_and_finds_the_work_again(hub, visit, sessions_of):
    alice = visit("alice")
    expect(alice.page.get_by_role("heading", name="Start a session")).to_be_visible()
    alice.click(alice.start_button)
    alice.in_lab()
    alice.open_console()
    alice.run_cell(
        "import os; open('/workspace/kept.txt', 'w').write('kept'); "
        "open(os.path.expanduser('~/lost.txt'), 'w').write('x'); print(6 * 7)",
        "42",
    )
    assert alice.clicks <= 3
    assert tell(hub, "alice", "This session is idle and is retired at 18:00")
    expect(alice.page.get_by_role("alert").filter(has_text="retired at 18:00")).to_be_visible()
    project = sessions_of("alice")[0].labels["ds01.project"]
    assert (hub.workspaces / "alice" / project / "kept.txt").read_text() == "kept"

    page = alice.go("hub/home")
    page.locator("a[data-ds01-dialog]").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Kept")
    expect(dialog).to_contain_text(project)
    expect(dialog).to_contain_text("files outside /workspace")
    dialog.get_by_role("button", name="Retire", exact=True).click()
    expect(page.locator("#ds01-sessions")).to_contain_text("Your projects are kept")
    assert sessions_of("alice") == []

    page = alice.go("user/alice/lab")
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text(f"everything in the project {project}")
    expect(page.locator("#ds01-again-what")).to_contain_text(f"{project} · JupyterLab · ")
    page.get_by_role("button", name="Start again").click()
    alice.in_lab()
    alice.open_console()
    alice.run_cell(
        "import os; print(open('/workspace/kept.txt').read(), "
        "os.path.exists(os.path.expanduser('~/lost.txt')))",
        "kept False",
    )
    assert alice.errors == []
