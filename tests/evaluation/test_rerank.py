import numpy as np
import pytest
import torch

from zeshel_tasks.data.candidate_sets import NO_CANDIDATE
from zeshel_tasks.errors import DataError
from zeshel_tasks.evaluation.rerank import checked_scores


def test_only_a_missing_candidate_may_score_minus_infinity() -> None:
    scores = torch.tensor([[1.0, float("-inf")], [2.0, 3.0]])
    missing = np.array([[5, NO_CANDIDATE], [6, 7]], dtype=np.int32)
    np.testing.assert_array_equal(checked_scores(scores, missing, "on test", "a model"), scores.numpy())
    with pytest.raises(DataError, match="1 of 4 scores on test are not finite numbers; expected a model; got -inf"):
        checked_scores(scores, np.abs(missing), "on test", "a model")
