import pytest

from zeshel_tasks.report.chart import RATE_TICKS, Dot, Line, LineChart, Tick, round_ticks


@pytest.mark.parametrize(
    ("highest", "labels"),
    [
        (0, ["0", "1"]),
        (0.34, ["0", "0.1", "0.2", "0.3", "0.4"]),
        (2.9, ["0", "1", "2", "3"]),
        (5, ["0", "1", "2", "3", "4", "5"]),
        (1900, ["0", "500", "1,000", "1,500", "2,000"]),
    ],
)
def test_round_ticks_reach_highest_value(highest: float, labels: list[str]) -> None:
    assert [tick.text for tick in round_ticks(highest, 5)] == labels


@pytest.mark.parametrize("exponent", range(-9, 10))
@pytest.mark.parametrize("digits", [1.0, 1.01, 1.99, 2.5, 4.99, 5.01, 9.99])
def test_round_ticks_never_exceed_requested_steps(exponent: int, digits: float) -> None:
    highest = digits * 10.0**exponent
    ticks = round_ticks(highest, 5)
    assert 2 <= len(ticks) <= 6
    assert ticks[-1].at >= highest * (1 - 1e-9)
    assert len({tick.text for tick in ticks}) == len(ticks)


def test_chart_maps_values_to_pixels() -> None:
    chart = LineChart("", (), x_range=(0, 10), x_ticks=(), y_ticks=RATE_TICKS, height=100)
    assert (chart.x(0), chart.x(5), chart.x(10)) == (chart.left, 216, chart.right)
    assert (chart.y(0), chart.y(0.25), chart.y(1)) == (chart.bottom, chart.bottom - 25, chart.top)


def test_single_value_range_does_not_divide_by_zero() -> None:
    chart = LineChart("", (), x_range=(3, 3), x_ticks=(), y_ticks=(Tick(0, "0"), Tick(0, "0")))
    assert (chart.x(3), chart.y(0)) == (chart.left, chart.bottom)


def test_missing_value_leaves_gap_in_line() -> None:
    line = Line(tuple(Dot(x, y) for x, y in enumerate([None, 0.8, None, 0.9, 0.9, None])), "test")
    assert [[dot.x for dot in part] for part in line.parts()] == [[1], [3, 4]]
