"""A person links a text on the service's page, in a real browser without a network.

A screenshot is written to ``build/screenshots`` or to the folder that ``SCREENSHOTS`` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, Route, expect, sync_playwright

from tests.serving.conftest import _no_precision_of_another_test  # noqa: F401  (a fixture that holds here, too)
from tests.serving.running import Running, running
from tests.support.faults import Fault
from tests.support.finished import copy_with_knowledge_base
from zeshel_tasks.store import Run

ROOT = Path(__file__).parents[2]
WORLD = "grove"
TEXT = "😀 They saw <b>the sword</b> of the old beast ."


def select(page: Page, word: str) -> None:
    """Selects a word of the text, as a mouse does. JavaScript counts UTF-16 code units."""
    page.get_by_label("Text", exact=True).evaluate(
        "(area, word) => { const at = area.value.indexOf(word); area.setSelectionRange(at, at + word.length); }", word
    )


@pytest.fixture(scope="module")
def served(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("serving-page")
    run = copy_with_knowledge_base(finished_run, folder, WORLD)
    with running(run.store, [WORLD], folder / "served") as found:
        yield found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, served: Running) -> Iterator[Page]:
    """The page, which asks nobody but the service and has no errors."""
    address, asked, errors = str(served.client.base_url), list[str](), list[str]()
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    expect(page.get_by_label("Knowledge base")).to_have_value(WORLD)
    yield page
    page.close()
    assert {url for url in asked if not url.startswith(address)} <= {"data:,"}
    assert errors == []


def mark(page: Page, text: str, *words: str) -> None:
    page.get_by_label("Text", exact=True).fill(text)
    for word in words:
        select(page, word)
        page.get_by_role("button", name="Mark selection").click()


def test_person_marks_mentions_and_sees_links(page: Page, served: Running) -> None:
    shots = Path(os.environ.get("SCREENSHOTS") or ROOT / "build" / "screenshots")
    shots.mkdir(parents=True, exist_ok=True)
    problems = list[str]()
    page.on("console", lambda message: problems.append(message.text))
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Link").click()
    expect(page.get_by_role("status")).to_have_text("Mark a mention first.")
    mark(page, TEXT, "sword", " beast ")
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
    expect(page.locator("footer")).to_contain_text(
        served.service.follower.bases[WORLD].linked_by("rerank")["run"] or ""
    )
    page.screenshot(path=shots / "serving.png")
    page.get_by_label("Text", exact=True).fill("another text")
    expect(page.locator("mark")).to_have_count(0)
    expect(headings).to_have_count(0)
    assert problems == []


def wait_for(page: Page, routes: list[Route], count: int) -> None:
    """Waits until requests have reached their route."""
    while len(routes) < count:
        page.wait_for_timeout(10)


def test_answer_to_an_earlier_question_is_not_shown(page: Page, fault: Fault) -> None:
    fault("service: page: late answer")
    late, headings = list[Route](), page.locator("section h2")
    page.route("**/v1/link", lambda route: late.append(route), times=2)
    mark(page, TEXT, "sword")
    page.get_by_role("button", name="Link").click()
    wait_for(page, late, 1)
    expect(page.get_by_role("status")).to_have_text("Linking …")
    page.get_by_label("Text", exact=True).fill("They saw the beast .")
    expect(page.locator("#status")).to_have_text("")
    mark(page, "They saw the beast .", "beast")
    page.get_by_role("button", name="Link").click()
    wait_for(page, late, 2)
    expect(page.get_by_role("status")).to_have_text("Linking …")
    page.get_by_role("button", name="Link").click()
    expect(headings).to_contain_text(["beast"])
    for route in late:
        with suppress(Error):  # the page has given it up
            route.fulfill(json={"documents": [{"links": []}]})
    page.wait_for_timeout(100)
    expect(headings).to_contain_text(["beast"])
    expect(page.locator("#status")).to_have_text("")


ANSWERS_OF_OTHERS: list[tuple[dict[str, Any] | None, str]] = [
    ({"status": 502, "body": "<h1>Bad Gateway</h1>", "content_type": "text/html"}, "another one with status 502"),
    ({"status": 200, "body": "<p>Log in", "content_type": "text/html"}, "another one with status 200"),
    ({"status": 200, "body": ""}, "another one with status 200"),
    ({"status": 200, "json": {"message": "welcome"}}, "another one with status 200"),
    ({"status": 403, "json": {"detail": ["no"]}}, "another one with status 403"),
    ({"status": 500, "json": None}, "another one with status 500"),
    ({"status": 429, "json": {"detail": "too many mentions wait"}}, "too many mentions wait"),
    (None, "The service cannot be reached."),
]


def test_answer_that_is_no_link_is_named(page: Page, fault: Fault) -> None:
    answers = [answer for answer, _ in ANSWERS_OF_OTHERS]

    def answered(route: Route) -> None:
        answer = answers.pop(0)
        if answer is None:
            route.abort()
        else:
            route.fulfill(**answer)

    page.route("**/v1/link", answered, times=len(answers))
    mark(page, TEXT, "sword")
    for _, shown in ANSWERS_OF_OTHERS:
        fault("service: page: answer of a proxy")
        page.get_by_role("button", name="Link").click()
        expect(page.get_by_role("status")).to_contain_text(shown)
    page.get_by_role("button", name="Link").click()
    expect(page.locator("section h2")).to_have_count(1)
