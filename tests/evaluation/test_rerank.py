import numpy as np
import pytest
import torch

from zeshel_tasks.data.candidate_sets import NO_CANDIDATE
from zeshel_tasks.errors import DataError
from zeshel_tasks.evaluation.rerank import best_candidates, checked_scores


def test_best_candidate_has_the_highest_score_and_its_softmax_probability() -> None:
    columns, confidence = best_candidates(np.array([[1.0, 3.0, 2.0], [0.0, -1.0, -2.0]], dtype=np.float32))
    assert columns.tolist() == [1, 0]
    assert confidence[0] == pytest.approx(np.exp(3) / np.exp([1, 3, 2]).sum())


def test_missing_candidate_has_no_probability() -> None:
    columns, confidence = best_candidates(np.array([[-np.inf, -5.0], [2.0, -np.inf]], dtype=np.float32))
    assert columns.tolist() == [1, 0]
    assert confidence.tolist() == [1.0, 1.0]


def test_first_of_equal_scores_is_the_best() -> None:
    columns, confidence = best_candidates(np.array([[1.0, 4.0, 4.0, 4.0]], dtype=np.float32))
    assert columns.tolist() == [1]
    assert confidence[0] < 1 / 3


def test_only_a_missing_candidate_may_score_minus_infinity() -> None:
    scores = torch.tensor([[1.0, float("-inf")], [2.0, 3.0]])
    missing = np.array([[5, NO_CANDIDATE], [6, 7]], dtype=np.int32)
    np.testing.assert_array_equal(checked_scores(scores, missing, "on test", "a model"), scores.numpy())
    with pytest.raises(DataError, match="1 of 4 scores on test are not finite numbers; expected a model; got -inf"):
        checked_scores(scores, np.abs(missing), "on test", "a model")
