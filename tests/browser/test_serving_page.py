"""A person links a text on the service's page, in a real browser without a network.

A screenshot is written to ``build/screenshots`` or to the folder that ``SCREENSHOTS`` names.
"""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.finished import copy_of
from tests.serving.running import running
from zeshel_tasks.cli import main
from zeshel_tasks.errors import EXIT_OK
from zeshel_tasks.store import Run

ROOT = Path(__file__).parents[2]
WORLD = "grove"
TEXT = "😀 They saw <b>the sword</b> of the old beast ."


def select(page: Page, word: str) -> None:
    """Selects a word of the text, as a mouse does. JavaScript counts UTF-16 code units."""
    page.get_by_label("Text", exact=True).evaluate(
        "(area, word) => { const at = area.value.indexOf(word); area.setSelectionRange(at, at + word.length); }", word
    )


def test_person_marks_mentions_and_sees_links(chromium: str, finished_run: Run, tmp_path: Path) -> None:
    run = copy_of(finished_run, tmp_path)
    documents = run.artifact("download", tmp_path / "cache").path(f"documents/{WORLD}.json")
    assert main(["kb", "build", "--store", run.store.address, "--name", WORLD, str(documents)]) == EXIT_OK
    shots = Path(os.environ.get("SCREENSHOTS") or ROOT / "build" / "screenshots")
    shots.mkdir(parents=True, exist_ok=True)
    with running(run.store, [WORLD], tmp_path / "served") as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        asked, problems = list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(str(served.client.base_url))
        expect(page.get_by_label("Knowledge base")).to_have_value(WORLD)
        page.get_by_label("Text", exact=True).fill(TEXT)
        page.get_by_role("button", name="Link").click()
        expect(page.get_by_role("status")).to_have_text("Mark a mention first.")
        for word in ("sword", " beast "):
            select(page, word)
            page.get_by_role("button", name="Mark selection").click()
        expect(page.locator("mark")).to_have_text(["sword", "beast"])
        page.get_by_role("button", name="Link").click()
        headings = page.locator("section h2")
        expect(headings).to_have_count(2)
        (link, _) = served.links(
            WORLD,
            {"text": TEXT, "mentions": [{"start": 19, "end": 24}, {"start": 40, "end": 45}]},
            offsets="utf16",
        )
        assert link["mention"] == "sword"
        shown = "no entity" if link["nil"] else link["title"]
        expect(headings.first).to_contain_text(f"sword → {shown}")
        expect(page.locator("section").first).to_contain_text(f"{100 * link['probability']:.1f}%")
        expect(page.locator("section").first.locator("tr")).to_have_count(1 + len(link["candidates"]))
        expect(page.locator("footer")).to_contain_text(run.run_id)
        page.screenshot(path=shots / "serving.png")
        page.get_by_label("Text", exact=True).fill("another text")
        expect(page.locator("mark")).to_have_count(0)
        expect(headings).to_have_count(0)
        browser.close()
    assert {url for url in asked if not url.startswith(str(served.client.base_url))} <= {"data:,"}
    assert problems == []
