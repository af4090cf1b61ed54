"""The best scores of a query are chosen as a sort of all of them would."""

import numpy as np
import pytest

from zeshel_tasks.linking.bm25 import best


@pytest.mark.parametrize("share", [0, 0.01, 0.4, 1])
@pytest.mark.parametrize("count", [0, 1, 17, 300, 5000])
def test_best_scores_are_those_of_a_sort(count: int, share: float) -> None:
    random = np.random.default_rng(count)
    ties = random.integers(1, 9, count)
    scores = np.where(random.random(count) < share, ties, 0).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    for k in (1, 16, 64):
        assert best(scores, k).tolist() == order[: min(k, (scores > 0).sum())].tolist()
