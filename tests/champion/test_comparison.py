"""The paired bootstrap, compared with a bootstrap that samples the mentions one by one."""

import numpy as np
import pytest

from zeshel_tasks.champion.comparison import Flags, _by_coins, compare_accuracy
from zeshel_tasks.champion.metrics import ComparedGroup

MENTIONS = 400


def answers(won: int, lost: int, both: int) -> tuple[Flags, Flags]:
    """Flags of the mentions that the new model and the champion link correctly."""
    new, champion = np.zeros(MENTIONS, dtype=bool), np.zeros(MENTIONS, dtype=bool)
    new[:won] = True
    champion[won : won + lost] = True
    new[won + lost : won + lost + both] = champion[won + lost : won + lost + both] = True
    order = np.random.default_rng(3).permutation(MENTIONS)
    return new[order], champion[order]


def compared(won: int, lost: int, both: int, confidence: float = 0.95) -> ComparedGroup:
    random = np.random.default_rng(1)
    return compare_accuracy(*answers(won, lost, both), confidence=confidence, samples=20_000, random=random)


def test_mentions_only_one_model_links_correctly_are_counted() -> None:
    found = compared(won=40, lost=10, both=200)
    assert (found.mentions, found.won, found.lost) == (MENTIONS, 40, 10)
    assert (found.new, found.champion) == (0.6, 0.525)
    assert found.difference == pytest.approx(0.075)


@pytest.mark.parametrize(("won", "lost", "both"), [(40, 10, 200), (10, 40, 0), (25, 25, 100), (0, 3, 390)])
def test_interval_matches_sampling_of_mentions(won: int, lost: int, both: int) -> None:
    new, champion = answers(won, lost, both)
    random = np.random.default_rng(2)
    sampled = random.integers(MENTIONS, size=(20_000, MENTIONS))
    differences = new[sampled].mean(1) - champion[sampled].mean(1)
    # Differences are multiples of 1/400, so two sets of samples may differ by one.
    expected = pytest.approx(list(np.quantile(differences, [0.025, 0.975])), abs=1.5 / MENTIONS)
    assert list(compared(won, lost, both).interval) == expected


def test_equal_answers_have_an_empty_interval() -> None:
    found = compared(won=0, lost=0, both=123)
    assert (found.difference, found.interval) == (0, (0, 0))


def test_more_confidence_widens_the_interval() -> None:
    (low, high), (lower, higher) = (compared(40, 10, 0, confidence).interval for confidence in (0.5, 0.99))
    assert lower < low < high < higher


@pytest.mark.parametrize(
    ("won", "lost", "may_be_chance"),
    [
        (1, 0, True),
        (4, 0, True),  # probability 1/16, although almost every bootstrap sample has one of them
        (6, 0, False),  # probability 1/64
        (40, 10, False),
        (30, 20, True),
        (10, 40, True),
        (0, 0, True),
    ],
)
def test_may_be_chance_depends_on_won_and_lost_mentions(won: int, lost: int, may_be_chance: bool) -> None:
    assert compared(won, lost, both=100).may_be_chance is may_be_chance


def test_coin_probability_matches_simulation() -> None:
    """The binomial coefficients of ten thousand answers overflow a float."""
    tosses = np.random.default_rng(4).binomial(12, 0.5, 200_000)
    assert _by_coins(9, 3) == pytest.approx(float((tosses >= 9).mean()), abs=2e-3)
    assert _by_coins(5100, 4900) == pytest.approx(0.0233, abs=2e-4)
