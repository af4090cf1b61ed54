from collections.abc import Callable

import pytest

from zeshel_tasks.report import formats


@pytest.mark.parametrize("show", [formats.percent, formats.count, formats.decimal, formats.duration, formats.memory])
def test_missing_value_is_shown_as_dash(show: Callable[[None], str]) -> None:
    assert show(None) == "–"


def test_rate_is_shown_as_percentage() -> None:
    assert formats.percent(0.82061) == "82.06%"
    assert formats.percent(0.0) == "0.00%"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (3599.6, "1 h 0 min"), (4980, "1 h 23 min")],
)
def test_duration_shows_two_largest_units(seconds: float, shown: str) -> None:
    assert formats.duration(seconds) == shown


def test_memory_above_a_gigabyte_is_shown_in_gigabytes() -> None:
    assert [formats.memory(megabytes) for megabytes in (812.4, 999.4, 999.6)] == ["812 MB", "999 MB", "1.0 GB"]
    assert [formats.memory(megabytes) for megabytes in (12595.2, 24000)] == ["12.6 GB", "24.0 GB"]


def test_small_amounts_of_money_have_more_decimals() -> None:
    shown = [formats.money(amount, "EUR") for amount in (0.0, 0.00421, 9.9949, 9.996, 1234.5)]
    assert shown == ["0.0000 EUR", "0.0042 EUR", "9.9949 EUR", "10.00 EUR", "1,234.50 EUR"]
    assert formats.money(None, "EUR") == "–"


def test_times_are_shown_in_utc() -> None:
    assert formats.moment("2025-11-23T14:02:11+02:00") == "2025-11-23 12:02 UTC"
    assert formats.moment("2025-11-23T14:02:11") == "2025-11-23 14:02 UTC"


def test_text_is_cut_between_words() -> None:
    assert formats.beginning("one two three", 9) == "one two …"
    assert formats.ending("one two three", 9) == "… three"
    assert formats.beginning("one two", 7) == formats.ending("one two", 7) == "one two"


def test_single_long_word_is_cut() -> None:
    assert formats.beginning("x" * 50, 10) == "x" * 10 + " …"
    assert formats.ending("x" * 50, 10) == "… " + "x" * 10


def test_none_and_booleans_are_shown_in_lower_case() -> None:
    assert [formats.setting_value(value) for value in (None, True, 1e-05, "auto")] == ["none", "true", "1e-05", "auto"]


def test_groups_are_sorted_by_falling_rate_then_name() -> None:
    groups = {"b": 0.5, "none": None, "c": 0.9, "zero": 0.0, "a": 0.5}
    nested = {name: {"recall": {"1": rate}} for name, rate in groups.items()}
    assert [name for name, _ in formats.best_first(nested, "recall", "1")] == ["c", "a", "b", "zero", "none"]


def test_largest_groups_keep_their_order_and_the_rest_is_counted() -> None:
    groups = {f"g{index:02}": {"mentions": index % 60} for index in range(100)}
    shown = formats.largest(groups)
    assert list(shown) == [name for name in groups if name in shown]
    assert len(shown) == formats.MOST_GROUPS
    left_out = [group["mentions"] for name, group in groups.items() if name not in shown]
    assert max(left_out) <= min(group["mentions"] for group in shown.values())
    assert formats.others(groups) == {"groups": 50, "mentions": sum(left_out)}
    assert formats.others(shown) == {"groups": 0, "mentions": 0}


def test_long_list_of_names_is_cut() -> None:
    assert formats.names(["a", "b"]) == "a, b"
    assert formats.names(["a"] * 51) == ", ".join(["a"] * 50) + " and 1 others"
