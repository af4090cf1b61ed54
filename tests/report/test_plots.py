import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from zeshel_tasks.report import plots
from zeshel_tasks.report.content import CrossencoderMetrics, ReportContent, TrainingMetrics
from zeshel_tasks.report.curves import MOST_POINTS, thin_curve
from zeshel_tasks.report.formats import percent

BuildContent = Callable[..., ReportContent]

MANY = {"test": tuple(f"world_{number:02}" for number in range(16))}


def _texts(svg: str | None) -> list[str]:
    assert svg is not None
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter("text")]


def _all_charts(content: ReportContent) -> list[str]:
    curve = thin_curve(content.curves["train-biencoder"])
    charts = [
        plots.recall_by_k(content.recall),
        plots.recall_by_world(content.recall),
        plots.accuracy_by_world(content.accuracy),
        plots.accuracy_by_category(content.accuracy),
        plots.training_curve("train-biencoder", curve, content.training["train-biencoder"]),
    ]
    assert None not in charts
    return [chart for chart in charts if chart]


def test_the_same_numbers_give_the_same_bytes(build_content: BuildContent) -> None:
    assert _all_charts(build_content()) == _all_charts(build_content())


def test_a_chart_has_no_colour_font_or_style_of_its_own(build_content: BuildContent) -> None:
    for svg in _all_charts(build_content()):
        assert not re.search(r"#[0-9a-fA-F]{6}", svg)
        assert "DejaVu" not in svg
        assert {"style", "metadata", "script", "image"}.isdisjoint(
            element.tag for element in ElementTree.fromstring(svg).iter()
        )


def test_ids_are_unique_over_all_charts_and_every_reference_is_met(build_content: BuildContent) -> None:
    svgs = "".join(_all_charts(build_content()))
    ids = re.findall(r'\bid="([^"]+)"', svgs)
    references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svgs)
    assert len(ids) == len(set(ids))
    assert {first or second for first, second in references} == set(ids)


def test_every_world_is_labelled_with_its_rates_as_text(build_content: BuildContent) -> None:
    content = build_content(MANY)
    texts = _texts(plots.recall_by_world(content.recall))
    for name, world in content.recall["test"].worlds.items():
        assert name in texts
        assert percent(world.recall[1], 1) in texts
        assert percent(world.recall[64], 1) in texts


def test_a_chart_grows_with_its_worlds(build_content: BuildContent) -> None:
    def height(worlds: dict[str, tuple[str, ...]]) -> float:
        svg = plots.recall_by_world(build_content(worlds).recall)
        assert svg is not None
        return float(ElementTree.fromstring(svg).attrib["viewBox"].split()[3])

    assert height(MANY) - height({"test": MANY["test"][:1]}) == pytest.approx(15 * 20)


def test_rates_are_axes_from_0_to_100_percent(build_content: BuildContent) -> None:
    content = build_content()
    assert {"0%", "50%", "100%"} <= set(_texts(plots.recall_by_k(content.recall)))
    assert {"0%", "50%", "100%"} <= set(_texts(plots.accuracy_by_world(content.accuracy)))


def test_recall_by_k_is_labelled_with_every_k(build_content: BuildContent) -> None:
    assert {"1", "4", "8", "16", "32", "64"} <= set(_texts(plots.recall_by_k(build_content().recall)))


def test_a_world_name_is_text_never_markup_or_a_formula(build_content: BuildContent) -> None:
    content = build_content({"test": ("<b>$x$</b>", "a\x00b", "日本")})
    texts = _texts(plots.recall_by_world(content.recall))
    assert {"<b>$x$</b>", "a\ufffdb", "日本"} <= set(texts)


def test_a_long_name_is_shortened(build_content: BuildContent) -> None:
    texts = _texts(plots.recall_by_world(build_content({"test": ("w" * 60,)}).recall))
    assert "w" * 20 + "…" in texts


def test_a_group_in_which_nothing_was_retrieved_shows_a_dash() -> None:
    nothing = {"mentions": 3, "retrieved": 0, "normalized_accuracy": None, "unnormalized_accuracy": None}
    averages = {"micro": None, "macro": None}
    metrics = CrossencoderMetrics.model_validate(
        {
            **nothing,
            "normalized_accuracy": averages,
            "unnormalized_accuracy": averages,
            "worlds": {"lego": nothing},
            "categories": {},
        }
    )
    assert "–" in _texts(plots.accuracy_by_world({"test": metrics}))
    assert plots.accuracy_by_category({"test": metrics}) is None


def test_nothing_to_draw_is_no_chart() -> None:
    assert plots.recall_by_k({}) is None
    assert plots.recall_by_world({}) is None
    assert plots.accuracy_by_world({}) is None
    assert plots.training_curve("train-biencoder", thin_curve([])) is None


@pytest.mark.parametrize("points", [1, 5, 5000])
def test_a_curve_of_any_length_makes_a_small_chart(build_content: BuildContent, points: int) -> None:
    curve = thin_curve(build_content(points=points).curves["train-biencoder"])
    svg = plots.training_curve("train-biencoder", curve)
    assert {"training loss (nats)", "validation accuracy", "training step"} <= set(_texts(svg))
    assert svg is not None
    assert svg.count("L ") <= 4 * MOST_POINTS


def test_the_kept_epoch_is_marked(build_content: BuildContent) -> None:
    curve = thin_curve(build_content().curves["train-biencoder"])
    kept = TrainingMetrics(steps=1900, mentions=1, best_epoch=2, valid_accuracy=0.875)
    assert "kept: epoch 2, 87.5%" in _texts(plots.training_curve("train-biencoder", curve, kept))
    assert not [text for text in _texts(plots.training_curve("train-biencoder", curve)) if "kept" in text]


def test_a_chart_describes_itself_to_those_who_do_not_see_it(build_content: BuildContent) -> None:
    for svg in _all_charts(build_content()):
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]


def test_a_world_keeps_its_name_and_a_category_is_put_into_words(build_content: BuildContent) -> None:
    content = build_content({"test": ("NASA_DB",)})
    assert "NASA_DB" in _texts(plots.recall_by_world(content.recall))
    assert "NASA_DB" in _texts(plots.accuracy_by_world(content.accuracy))
    assert "low overlap" in _texts(plots.accuracy_by_category(content.accuracy))
