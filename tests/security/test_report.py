"""In a real browser, text from data in the report never runs, even if it becomes markup."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.report.conftest import example_data, example_run
from tests.support.faults import Fault
from zeshel_tasks.report.curves import thin_curve
from zeshel_tasks.report.render import render_report
from zeshel_tasks.report.report_data import EntityFacts, EntityText
from zeshel_tasks.training.metrics import CurvePoint

RAN = "document.documentElement.setAttribute('data-ran-{}', '')"
# Each text runs without a click if it becomes markup.
VECTORS = {
    "script": "<script>{}</script>",
    "after-style": "</style></title></svg><script>{}</script>",
    "image": '<img src=x onerror="{}">',
    "svg": '<svg onload="{}"></svg>',
    "toggle": '<details open ontoggle="{}"></details>',
    "focus": '<input autofocus onfocus="{}">',
    "frame": '<iframe src="javascript:parent.{}"></iframe>',
    "frame-text": '<iframe srcdoc="<script>parent.{}</script>"></iframe>',
    "base": '<base href="javascript:/a/-{};//"><script>{}</script>',
    "style": '<style>@keyframes k{{}} i{{animation:k 1ms}}</style><i onanimationstart="{}">x</i>',
}
EVIL = "".join(text.format(*[RAN.format(name)] * text.count("{}")) for name, text in VECTORS.items())
ATTRIBUTE = f"\"' onload=\"{RAN.format('attribute')}\" style='x'"
LINK = f"javascript:{RAN.format('link')}"


def opened(chromium: str, page: Path) -> str:
    """Returns the document after the page's scripts and one second of timers and events."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=1000", "--no-first-run"]
    ended = subprocess.run(
        [chromium, *options, f"--user-data-dir={page.parent / 'browser'}", "--dump-dom", page.as_uri()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=True,
    )
    return ended.stdout


def ran(document: str) -> set[str]:
    """Returns the attack vectors that ran."""
    root = re.search(r"<html[^>]*>", document)
    assert root is not None, document[:500]
    return set(re.findall(r"data-ran-([\w-]+)", root[0]))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every text is hostile."""
    folder = tmp_path_factory.mktemp("report")
    mistake = example_data(num_mistakes=1).mistakes[0].model_dump()
    texts = ("world", "category", "mention", "context_left", "context_right")
    titles = ("gold_title", "predicted_title")
    evil = EVIL + ATTRIBUTE
    data = example_data(
        {"test": (evil, LINK)},
        mistakes=[
            {
                **mistake,
                **dict.fromkeys((*texts, *titles), each),
                **dict.fromkeys(("gold_text", "predicted_text"), EntityText.of(each)),
                **dict.fromkeys(
                    ("gold_facts", "predicted_facts"), EntityFacts(url=each, aliases=(each,), types=(each,))
                ),
            }
            for each in (evil, ATTRIBUTE, LINK)
        ],
        configuration={"download": {"source": evil}, "train-biencoder": {"bert_model": LINK}, evil: {evil: evil}},
        provenance={
            "sources": [{"source": LINK, "identity": evil, "sha256": ATTRIBUTE, "bytes": 1, "worlds": [evil]}],
            "assigned": {evil: "test"},
            "versions": {evil: {evil: evil}},
            "hardware": {evil: {evil: evil}},
        },
        curves={evil: thin_curve([CurvePoint(step=step, epoch=step, loss=1 / step) for step in (1, 2)])},
        training={
            evil: {
                "steps": 2,
                "mentions": 1,
                "pretrained": {"license": evil, "datasets": [evil, LINK], "base_models": [ATTRIBUTE]},
                "vectors": {"pooling": "cls", "similarity": "dot", "mention_prompt": evil, "candidate_prompt": evil},
            }
        },
    )
    past = example_run().history[0].model_dump()
    run = example_run(
        address=f"s3://bucket/runs/{evil}",
        stages=[{**example_run().stages[0].model_dump(), "name": evil, "device": evil, "fingerprint": ATTRIBUTE}],
        history=[{**past, "run": each} for each in (evil, ATTRIBUTE, LINK)],
    )
    for name, content in render_report(data, run):
        (folder / name).write_bytes(content)
    return folder / "index.html"


def test_data_text_never_runs_in_browser(chromium: str, report: Path, fault: Fault) -> None:
    document = opened(chromium, report)
    assert ran(document) == set()
    assert not re.search(r"<(script|iframe|img|input|base)\b", document)
    assert document.count("&lt;script&gt;") > 10, "the texts are not in the page at all"
    fault("report: text that would run as markup", len(VECTORS) + 2)


def test_hostile_texts_run_as_unescaped_markup(chromium: str, tmp_path: Path) -> None:
    """Control: a page without escaping and without a policy."""
    page = tmp_path / "control.html"
    page.write_text(f"<!DOCTYPE html><title>control</title><body{ATTRIBUTE[2:]}>{EVIL}</body>")
    assert ran(opened(chromium, page)) == {*VECTORS, "attribute"}


def test_policy_blocks_unescaped_markup(chromium: str, report: Path, tmp_path: Path, fault: Fault) -> None:
    """Puts the same texts into the report unescaped, as if the escaping had failed."""
    page = tmp_path / "broken.html"
    html = report.read_text("utf-8")
    page.write_text(html.replace("<body>", f"<body{ATTRIBUTE[2:]}>{EVIL}", 1), "utf-8")
    assert ran(opened(chromium, page)) == set()
    fault("report: markup that its policy stops", len(VECTORS) + 1)


def test_policy_allows_style_sheet_of_the_page(chromium: str, report: Path, tmp_path: Path) -> None:
    """The policy allows the style sheet by its hash. With another hash, the same page looks different."""
    html = report.read_text("utf-8")
    found = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert found is not None
    looks = {}
    for name, style in (("own", found[1]), ("other", found[1] + " ")):
        page = tmp_path / f"{name}.html"
        page.write_text(html.replace(found[1], style), "utf-8")
        picture = tmp_path / f"{name}.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=400,300"]
        folder = f"--user-data-dir={tmp_path / name}"
        command = [chromium, *options, folder, f"--screenshot={picture}", page.as_uri()]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=True)
        looks[name] = picture.read_bytes()
    assert looks["own"] != looks["other"]
