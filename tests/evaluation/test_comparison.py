"""The paired bootstrap, against one that draws mentions one by one."""

import numpy as np
import pytest

from zeshel_tasks.evaluation.comparison import Flags, compare_accuracy

MENTIONS = 400


def answers(won: int, lost: int, both: int) -> tuple[Flags, Flags]:
    """What the new model and the champion have right, the rest wrong on both sides."""
    new, champion = np.zeros(MENTIONS, dtype=bool), np.zeros(MENTIONS, dtype=bool)
    new[:won] = True
    champion[won : won + lost] = True
    new[won + lost : won + lost + both] = champion[won + lost : won + lost + both] = True
    order = np.random.default_rng(3).permutation(MENTIONS)
    return new[order], champion[order]


def compared(won: int, lost: int, both: int, confidence: float = 0.95) -> dict[str, object]:
    random = np.random.default_rng(1)
    return compare_accuracy(*answers(won, lost, both), confidence=confidence, samples=20_000, random=random)


def test_it_counts_what_only_one_of_them_has_right() -> None:
    found = compared(won=40, lost=10, both=200)
    assert (found["mentions"], found["won"], found["lost"]) == (MENTIONS, 40, 10)
    assert (found["new"], found["champion"]) == (0.6, 0.525)
    assert found["difference"] == pytest.approx(0.075)


@pytest.mark.parametrize(("won", "lost", "both"), [(40, 10, 200), (10, 40, 0), (25, 25, 100), (0, 3, 390)])
def test_the_interval_is_that_of_drawing_mentions(won: int, lost: int, both: int) -> None:
    new, champion = answers(won, lost, both)
    random = np.random.default_rng(2)
    drawn = random.integers(MENTIONS, size=(20_000, MENTIONS))
    differences = new[drawn].mean(1) - champion[drawn].mean(1)
    # Differences are multiples of 1/400, so two sets of samples may be one apart.
    expected = pytest.approx(list(np.quantile(differences, [0.025, 0.975])), abs=1.5 / MENTIONS)
    assert compared(won, lost, both)["interval"] == expected


def test_equal_answers_have_no_doubt() -> None:
    found = compared(won=0, lost=0, both=123)
    assert (found["difference"], found["interval"]) == (0, [0, 0])


def test_more_confidence_is_a_wider_interval() -> None:
    (low, high), (lower, higher) = (compared(40, 10, 0, confidence)["interval"] for confidence in (0.5, 0.99))  # type: ignore[misc]
    assert lower < low < high < higher
