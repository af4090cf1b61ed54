from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.near_ties import assert_same_ranking

SCORES = np.array([[56.5, 56.4, 56.3999, 40.0, 39.9999, 1.0]])


def ranking(*positions: int) -> np.ndarray:
    return np.array([positions])


def test_same_order_is_the_same_ranking() -> None:
    assert_same_ranking(ranking(0, 1, 2, 3), ranking(0, 1, 2, 3), SCORES)


def test_near_tie_may_change_places() -> None:
    assert_same_ranking(ranking(0, 2, 1, 3), ranking(0, 1, 2, 3), SCORES)


def test_near_tie_at_last_rank_may_replace_the_other() -> None:
    assert_same_ranking(ranking(0, 1, 2, 4), ranking(0, 1, 2, 3), SCORES)


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ((1, 0, 2, 3), r"row 0, rank 0: expected entity 0 \(56.5\), got 1 \(56.4\)"),
        ((0, 1, 3, 2), "row 0, rank 2"),
        ((0, 1, 2, 5), "row 0, rank 3"),
        ((0, 1, 1, 3), "an entity twice"),
    ],
)
def test_real_difference_is_not_the_same_ranking(found: tuple[int, ...], what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        assert_same_ranking(ranking(*found), ranking(0, 1, 2, 3), SCORES)


def test_only_near_ties_of_the_golden_data_may_change_places(golden: Path) -> None:
    """Ranks entities by their products with other entities, where near-ties are frequent, and swaps all neighbours."""
    entities = next(iter(torch.load(golden / "cand_enc_test.pt", weights_only=True).values())).double()
    scores = (entities[:40] @ entities.T).numpy()
    order = np.argsort(-scores, axis=1, kind="stable")[:, :16]
    swapped_ties = refused = 0
    for row, rank in np.ndindex(40, 15):
        swapped = order[[row]].copy()
        swapped[0, [rank, rank + 1]] = swapped[0, [rank + 1, rank]]
        first, second = scores[row, swapped[0, [rank, rank + 1]]]
        if np.isclose(first, second, rtol=1e-5, atol=0):
            assert_same_ranking(swapped, order[[row]], scores[[row]])
            swapped_ties += 1
        else:
            with pytest.raises(AssertionError, match=f"rank {rank}"):
                assert_same_ranking(swapped, order[[row]], scores[[row]])
            refused += 1
    assert swapped_ties
    assert refused
