import json
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass, replace
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.evaluation.metrics import MethodRecall
from zeshel_tasks.report.curves import thin_curve
from zeshel_tasks.report.render import render_report
from zeshel_tasks.report.report_data import MOST_NAME, MOST_TEXT, EntityFacts, EntityText, ReportData, RunFacts
from zeshel_tasks.training.metrics import CurvePoint

BuildData = Callable[..., ReportData]
BuildRun = Callable[..., RunFacts]
Report = Callable[..., tuple[dict[str, Any], str]]

ROOT = Path(__file__).parents[2]
EVIL = "</style></title><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload='x"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Parses a page into elements, attributes and text; unbalanced tags are an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def rendered(data: ReportData, run: RunFacts) -> dict[str, bytes]:
    """Returns the files of a run, made from the data in its artifact."""
    return dict(render_report(ReportData.from_json(data.to_json()), run))


@pytest.fixture(scope="session")
def report(build_run: BuildRun) -> Report:
    """Renders the summary and the page of some data, by default for an example run."""

    def report(data: ReportData, run: RunFacts | None = None) -> tuple[dict[str, Any], str]:
        files = rendered(data, run or build_run())
        return json.loads(files["metrics.json"]), files["index.html"].decode()

    return report


@pytest.fixture(scope="session")
def unchanged_html(report: Report, build_data: BuildData) -> str:
    return report(build_data())[1]


@pytest.fixture(scope="session")
def unchanged(unchanged_html: str) -> Page:
    return Page(unchanged_html)


def _replace(model: Any, path: Sequence[Any], value: Any) -> Any:
    """Returns a copy of a frozen model with a new value at ``path``."""
    name, *rest = path
    if isinstance(model, dict):
        return {**model, name: _replace(model[name], rest, value) if rest else value}
    if isinstance(model, tuple):
        inner = _replace(model[name], rest, value) if rest else value
        return (*model[:name], inner, *model[name + 1 :])
    inner = _replace(getattr(model, name), rest, value) if rest else value
    if is_dataclass(model) and not isinstance(model, type):
        return replace(model, **{name: inner})
    return model.model_copy(update={name: inner})


def _in_data(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where the data of a report have what is at a path of the summary."""
    match path:
        case ("accuracy", split, *rest):
            return ("linking", "splits", split, "linker", *rest)
        case ("fusion", "alone", *rest):
            return ("linking", "splits", *rest)
        case ("fusion", *rest):
            return ("linking", *rest)
    return path


def _at(metrics: Any, path: Sequence[Any]) -> Any:
    for part in path:
        metrics = metrics[part if isinstance(metrics, list) else str(part)]
    return metrics


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        (("recall", "test", "recall", "micro", 64), 0.123412, "12.34%"),
        (("recall", "train", "recall", "macro", 8), 0.123412, "12.34%"),
        (("recall", "test", "worlds", "lego", "recall", 16), 0.123412, "12.34%"),
        (("recall", "test", "worlds", "lego", "entities"), 7654321, "7,654,321"),
        (("accuracy", "test", "unnormalized_accuracy", "micro"), 0.123412, "12.34%"),
        (("accuracy", "valid", "normalized_accuracy", "macro"), 0.123412, "12.34%"),
        (("accuracy", "test", "worlds", "lego", "normalized_accuracy"), 0.123412, "12.34%"),
        (("accuracy", "test", "categories", "LOW_OVERLAP", "retrieved"), 7654, "7,654"),
        (("fusion", "alone", "test", "crossencoder", "normalized_accuracy", "micro"), 0.123412, "12.34%"),
        (("fusion", "alone", "valid", "retriever", "worlds", "muppets", "unnormalized_accuracy"), 0.123412, "12.34%"),
        (
            ("fusion", "alone", "test", "retriever", "categories", "LOW_OVERLAP", "unnormalized_accuracy"),
            0.123412,
            "12.34%",
        ),
        (("fusion", "weights", "retrieval"), 0.7654, "0.7654 × retrieval score"),
        (("calibration", "splits", "test", "right", "calibration_error"), 0.123412, "12.34%"),
        (("calibration", "splits", "valid", "nil", "f1"), 0.123412, "12.34%"),
        (("calibration", "splits", "test", "worlds", "lego", "softmax", "at_threshold", "linked"), 0.123412, "12.34%"),
        (("calibration", "splits", "test", "risk_difference", "difference"), -0.123412, "-12.34"),
        (("calibration", "threshold"), 0.7654, "0.7654; softmax"),
        (("calibration", "cascade", "splits", "test", "modes", "cascade", "reranked"), 0.123412, "12.34%"),
        (("calibration", "cascade", "splits", "valid", "modes", "retrieve", "accuracy"), 0.123412, "12.34%"),
        (("calibration", "cascade", "clear_from"), 0.7654, "0.7654"),
        (("comparison", "overall", "difference"), 0.123412, "+12.34"),
        (("comparison", "champion", "approval"), "approved by Ada: <better>", "and approved by Ada: <better>."),
        (("comparison", "worlds", "lego", "difference"), -0.123412, "-12.34"),
        (("comparison", "worlds", "lego", "champion"), 0.123412, "12.34%"),
        (("training", "train-biencoder", "epochs", 1, "train_loss"), 7.654321, "7.654"),
        (("training", "train-crossencoder", "dropped_mentions"), 7654, "7,654"),
        (("training", "train-biencoder", "peak_learning_rate"), 7.654e-5, "learning rate 7.654e-05"),
        (("training", "train-biencoder", "vectors", "mention_prompt"), "query: ", "prompts “query: ” and “”"),
        (("training", "train-biencoder", "pretrained", "license"), "mit", "Licence, as it statesmit"),
        (("training", "train-crossencoder", "valid_unnormalized_accuracy"), 0.123412, "12.34%"),
        (("convert", "worlds", "test", "lego", "skipped"), 7654, "7,654"),
        (("convert", "heldout", "heldout_train_seen", "gold_in_train"), 4321, "4,321"),
        (("history", 1, "unnormalized_accuracy"), 0.123412, "12.34%"),
        (("stages", 2, "wall_seconds"), 7654.0, "2 h 8 min"),
        (("stages", 2, "peak_gpu_memory_mb"), 765432.0, "765.4 GB"),
        (("configuration", "train-biencoder", "warmup_proportion"), 0.7654, "0.7654"),
        (("provenance", "documents"), 7654321, "7,654,321"),
        (("provenance", "models", "train-biencoder"), "hub:me/bert@7654321", "hub:me/bert@7654321"),
        (("mistakes", 0, "confidence"), 0.999912, "99.99%"),
        (("mistakes", 0, "gold_rank"), 7654, "rank 7654"),
    ],
)
def test_value_appears_in_page_and_summary(
    report: Report,
    build_data: BuildData,
    build_run: BuildRun,
    unchanged: Page,
    path: tuple[Any, ...],
    value: Any,
    shown: str,
) -> None:
    data, run = build_data(), build_run()
    assert shown not in unchanged.words
    if path[0] in RunFacts.model_fields:
        run = _replace(run, path, value)
    else:
        data = _replace(data, _in_data(path), value)
    metrics, page = report(data, run)
    found = _at(metrics, path)
    assert (found["value"] if path[0] == "configuration" else found) == value
    assert shown in Page(page).words


@pytest.mark.parametrize(
    ("comparison", "words"),
    [({"unnormalized_accuracy": 0.5, "champion": None}, "There was no champion to compare with."), (None, "")],
)
def test_page_has_no_comparison_table_without_champion(
    report: Report, build_data: BuildData, comparison: dict[str, Any] | None, words: str
) -> None:
    page = Page(report(build_data(comparison=comparison))[1])
    assert ("Compared with the champion" in page.words) == bool(words)
    assert words in page.words
    assert "paired bootstrap" not in page.words


@pytest.mark.parametrize(("runs", "shown"), [(0, False), (1, False), (2, True), (5, True)])
def test_history_needs_two_runs(
    report: Report, build_data: BuildData, build_run: BuildRun, runs: int, shown: bool
) -> None:
    past = build_run().history[:runs]
    html = report(build_data(), build_run(history=past))[1]
    assert ('id="history"' in html) is shown
    assert ("of the last" in html) is shown
    rows = [name for name in (run.run for run in past) if f'<th scope="row" class="wrap">{name}</th>' in html]
    assert len(rows) == (runs if shown else 0)


def test_data_text_never_becomes_markup(report: Report, build_data: BuildData, build_run: BuildRun) -> None:
    mistake = build_data(num_mistakes=1).mistakes[0].model_dump()
    texts = ("world", "category", "mention", "context_left", "context_right")
    titles = ("gold_title", "predicted_title")
    evil_texts = dict.fromkeys(("gold_text", "predicted_text"), EntityText.of(EVIL))
    evil_facts = dict.fromkeys(("gold_facts", "predicted_facts"), EntityFacts(url=EVIL, aliases=(EVIL,), types=(EVIL,)))
    data = build_data(
        {"test": (EVIL,)},
        mistakes=[{**mistake, **dict.fromkeys((*texts, *titles), EVIL), **evil_texts, **evil_facts}],
        configuration={"download": {"source": EVIL}, EVIL: {EVIL: EVIL}},
        provenance={
            "sources": [{"source": EVIL, "identity": EVIL, "sha256": EVIL, "bytes": 1, "worlds": [EVIL]}],
            "assigned": {EVIL: "test"},
            "versions": {EVIL: {EVIL: EVIL}},
        },
        curves={EVIL: thin_curve([CurvePoint(step=1, epoch=1, loss=1.0)])},
        training={
            EVIL: {
                "steps": 1,
                "mentions": 1,
                "pretrained": {"license": EVIL, "datasets": [EVIL], "base_models": [EVIL]},
                "vectors": {"pooling": "cls", "similarity": "dot", "mention_prompt": EVIL, "candidate_prompt": EVIL},
            }
        },
    )
    past = [run.model_copy(update={"run": EVIL}) for run in build_run().history]
    page = Page(report(data, build_run(address=EVIL, history=past))[1])
    assert {"script", "img"}.isdisjoint(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("style") == 1
    assert page.words.count("<script>alert(1)</script>") >= len(texts) + len(titles) + len(evil_texts) + 3 * len(
        evil_facts
    )


def test_page_says_what_the_pretrained_model_states(unchanged: Page) -> None:
    assert "Trained on, as it statesbookcorpus, wikipedia" in unchanged.words
    assert "Started from, as it statesnot stated" in unchanged.words
    assert unchanged.words.count("as it states") == 3, "the cross-encoder starts from the bi-encoder"
    assert "pooling mean, similarity cosine, no prompts" in unchanged.words


def test_page_loads_no_external_resources(unchanged_html: str) -> None:
    page = Page(unchanged_html)
    loading = {"src", "href", "xlink:href", "srcset", "action", "poster", "data", "background"}
    references = [value for _, name, value in page.attributes if name in loading]
    assert references
    assert all(value.startswith("#") for value in references)
    assert {"script", "link", "iframe", "object", "embed", "base", "form"}.isdisjoint(page.tags)
    assert not re.search(r"@import|url\((?!#)", unchanged_html)
    policy = next(value for tag, _, value in page.attributes if tag == "meta" and "default-src" in value)
    assert policy.startswith("default-src 'none';")


def test_every_internal_link_has_its_target(unchanged: Page) -> None:
    page = unchanged
    ids = [value for _, name, value in page.attributes if name == "id"]
    links = {value.removeprefix("#") for _, name, value in page.attributes if name == "href"}
    assert len(ids) == len(set(ids))
    assert links <= set(ids)


def test_equal_data_gives_equal_bytes(build_data: BuildData, build_run: BuildRun) -> None:
    assert build_data().to_json() == build_data().to_json()
    assert rendered(build_data(), build_run()) == rendered(build_data(), build_run())


def test_page_has_dark_phone_and_print_styles(unchanged_html: str) -> None:
    assert "prefers-color-scheme: dark" in unchanged_html
    assert "@media print" in unchanged_html
    assert 'name="viewport" content="width=device-width' in unchanged_html


def test_calibration_of_earlier_version_has_no_modes(
    report: Report, build_data: BuildData, build_run: BuildRun
) -> None:
    found = build_data().calibration
    assert found is not None
    earlier = {name: value for name, value in found.dump().items() if name != "cascade"}
    metrics, html = report(build_data(calibration=earlier), build_run())
    assert metrics["calibration"] == {**earlier, "cascade": None}
    assert "Calibration by world" in html
    assert "Without re-ranking all mentions" not in html


def test_run_without_results_has_report(report: Report, build_data: BuildData, build_run: BuildRun) -> None:
    empty: dict[str, Any] = {
        "recall": {},
        "linking": None,
        "calibration": None,
        "training": {},
        "curves": {},
        "configuration": {},
    }
    nowhere: dict[str, Any] = {}
    metrics, html = report(
        build_data(mistakes=[], comparison=None, convert=None, provenance=nowhere, **empty),
        build_run(stages=[], history=[]),
    )
    assert metrics["headline"]["unnormalized_accuracy"] == {"micro": None, "macro": None}
    assert "svg" not in Page(html).tags
    assert "No mention has been linked" in html


def test_page_announces_absence_of_mistakes(report: Report, build_data: BuildData) -> None:
    assert "There are none: every mention was linked correctly" in report(build_data(mistakes=[]))[1]


def test_missing_accuracy_is_shown_as_dash(report: Report, build_data: BuildData) -> None:
    data = build_data({"test": ("lego",)})
    data = _replace(data, _in_data(("accuracy", "test", "worlds", "lego", "normalized_accuracy")), None)
    row = re.search(r'<th scope="row">lego</th>(?:(?!</tr>).)*?>–</td>', report(data)[1], re.S)
    assert row


def test_mistake_says_that_gold_was_not_retrieved(report: Report, build_data: BuildData) -> None:
    data = _replace(build_data(num_mistakes=1), ("mistakes", 0, "gold_rank"), None)
    assert "Gold · not retrieved" in Page(report(data)[1]).words


@pytest.mark.parametrize("number", [1, 40])
def test_every_world_has_row_in_each_table(report: Report, build_data: BuildData, number: int) -> None:
    names = tuple(f"world_{index:02}" for index in range(number))
    html = report(build_data({"test": names}))[1]
    assert all(html.count(f'<th scope="row">{name}</th>') == 5 for name in names)


def test_page_shows_the_largest_groups_and_one_row_for_the_rest(report: Report, build_data: BuildData) -> None:
    names = tuple(f"world_{index:03}" for index in range(700))
    data = build_data({"test": names, "valid": names[:51]})
    for index, name in enumerate(names):  # world_699 has the most mentions
        data.recall["test"].worlds[name] = data.recall["test"].worlds[name].model_copy(update={"mentions": index})
    group = data.accuracy["test"].worlds["world_000"]
    many = {f"CATEGORY {index:03}": group.model_copy(update={"mentions": 700 - index}) for index in range(700)}
    assert data.linking is not None
    for part in ("linker", "crossencoder", "retriever"):
        getattr(data.linking.splits["test"], part).categories.update(many)
    metrics, html = report(data)
    assert len(metrics["recall"]["test"]["worlds"]) == 700
    assert len(metrics["accuracy"]["test"]["categories"]) > 700
    assert len(html) < 500_000
    (section,) = re.findall('<section id="retrieval">.*?</section>', html, re.DOTALL)
    of_test, of_valid = re.findall(r'<tbody class="\w+">(.*?)</tbody>', section, re.DOTALL)
    assert set(re.findall(r'<th scope="row">(world_\d+)</th>', of_test)) == set(names[650:])
    rest = r">([\d,]+) smaller ones .*?<td class=\"num\">([\d,]+)</td>"
    assert re.findall(rest, of_test) == [("650", f"{sum(range(650)):,}")]
    assert re.findall(rest, of_valid) == [("1", f"{min(w.mentions for w in data.recall['valid'].worlds.values()):,}")]
    assert (
        html.count("smaller ones") == 2 + 2 + 1 + 2 + 1 + 2
    )  # recall, accuracy, categories, calibration, champion, data


@pytest.mark.parametrize("hybrid", [True, False])
def test_recall_is_shown_beside_that_of_other_retrievers(report: Report, build_data: BuildData, hybrid: bool) -> None:
    data = build_data({"test": ("lego",)})
    rates = {"bm25": 0.1234, "exact_title": 0.0567} | ({"biencoder": 0.2345} if hybrid else {})
    methods = {
        method: MethodRecall(micro={1: rate}, macro={1: rate / 2}, worlds={"lego": {1: rate / 3}})
        for method, rate in rates.items()
    }
    recall = data.recall["test"].model_copy(update={"methods": methods})
    metrics, html = report(data.model_copy(update={"recall": {"test": recall}}))
    assert metrics["recall"]["test"]["retriever"] == ("hybrid" if hybrid else "biencoder")
    assert metrics["recall"]["test"]["methods"]["bm25"]["worlds"] == {"lego": {"1": 0.1234 / 3}}
    words = Page(html).words
    assert f"Retrieval {'hybrid' if hybrid else 'bi-encoder'} " in words
    for name, rate in {"BM25": 0.1234, "exact title": 0.0567, **({"bi-encoder": 0.2345} if hybrid else {})}.items():
        for row in (
            f"{name} alone micro {rate:.2%}",
            f"{name} alone macro {rate / 2:.2%}",
            f"{name} alone {rate / 3:.2%}",
        ):
            assert row in words
    assert ("bi-encoder alone" in words) == hybrid


def test_world_bars_are_sorted_best_first(report: Report, build_data: BuildData) -> None:
    data = build_data({"test": ("lego", "yugioh")})
    data = _replace(data, ("recall", "test", "worlds", "lego", "recall"), {1: 0.25, 64: 0.5})
    data = _replace(data, ("recall", "test", "worlds", "yugioh", "recall"), {1: 0.75, 64: 1.0})
    bar = r'<i class="outer" style="width: ([\d.]+)%"></i>\s*<i style="width: ([\d.]+)%">'
    row = rf'<th scope="row">(\w+)</th>\s*<td class="share"><div>{bar}'
    assert re.findall(row, report(data)[1])[:2] == [("yugioh", "100.00", "75.00"), ("lego", "50.00", "25.00")]


def test_data_subset_is_announced(report: Report, build_data: BuildData, unchanged: Page) -> None:
    assert "A subset of the data" not in unchanged.words
    assert "A subset of the data" in report(_replace(build_data(), ("convert", "capped"), True))[1]


def test_settings_that_differ_from_the_preset_are_listed(
    report: Report, build_data: BuildData, unchanged: Page
) -> None:
    page = unchanged.words
    assert "Settings that differ from the preset" in page
    assert re.search(r"train-biencoder learning_rate ?3e-05 ?none", page)
    as_preset = Page(report(build_data(configuration={"eval-biencoder": {"top_k": 64}}))[1]).words
    assert "No setting differs from the preset." in as_preset


def test_mention_is_marked_in_its_context(report: Report, build_data: BuildData) -> None:
    data = build_data(num_mistakes=1)
    data = _replace(data, ("mistakes", 0, "mention"), "the < sign")
    assert "<mark>the &lt; sign</mark>" in report(data)[1]


def test_mistake_shows_url_aliases_and_types_of_both_entities(report: Report, build_data: BuildData) -> None:
    plain = build_data(num_mistakes=1)
    document = Document("1", "Gold", "text", "https://wiki.example/Gold", ("Au", "aurum"), ("metal", "element"))
    gold = _replace(plain, ("mistakes", 0, "gold_facts"), EntityFacts.of(document))
    page = report(_replace(gold, ("mistakes", 0, "predicted_facts"), EntityFacts(types=("mineral",))))[1]
    for shown in ("https://wiki.example/Gold", "Also: Au, aurum", ">metal<", ">element<", ">mineral<"):
        assert page.count(shown) == 1
    assert 'class="known"' not in report(plain)[1]


def test_long_facts_are_shortened() -> None:
    document = Document("1", "Gold", "text", "u" * 2 * MOST_TEXT, tuple("abcdefghijklmnopqrstuvwxyz"), ("t" * 1000,))
    facts = EntityFacts.of(document)
    assert facts.aliases == tuple("abcdefghijklmnopqrst")
    assert len(facts.types[0]) <= MOST_NAME + 2
    assert len(facts.url or "") <= MOST_TEXT + 2


def test_very_long_text_is_shortened_with_note(report: Report, build_data: BuildData) -> None:
    text = EntityText.of("word " * MOST_TEXT)
    data = _replace(build_data(num_mistakes=1), ("mistakes", 0, "gold_text"), text)
    html = report(data)[1]
    assert f"Shortened: the whole text has {5 * MOST_TEXT:,} characters." in html
    assert len(html) < len(report(build_data(num_mistakes=1))[1]) + 2 * MOST_TEXT


def test_lone_surrogate_does_not_break_report(report: Report, build_data: BuildData) -> None:
    data = _replace(build_data(num_mistakes=1), ("mistakes", 0, "gold_title"), "odd \ud800 title")
    metrics, html = report(_replace(data, ("mistakes", 0, "gold_text"), EntityText.of("odd \ud800 text")))
    assert metrics["mistakes"][0]["gold_title"] == "odd \ud800 title"
    assert "odd ? title" in html
    assert "odd ? text" in html


def test_templates_and_styles_are_package_data() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "zeshel_tasks"
    ]
    package = ROOT / "zeshel_tasks"
    others = [path for path in (package / "report").iterdir() if path.is_file() and path.suffix != ".py"]
    assert others
    assert all(any(fnmatch(str(path.relative_to(package)), pattern) for pattern in patterns) for path in others)
