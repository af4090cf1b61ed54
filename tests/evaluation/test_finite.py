import pytest
import torch

from zeshel_tasks.errors import DataError
from zeshel_tasks.evaluation.finite import require_finite

BROKEN = [float("nan"), float("inf"), float("-inf")]


def test_finite_scores_pass() -> None:
    require_finite(torch.tensor([[0.0, -3e38], [3e38, 1e-45]]), "on test", "a model")
    require_finite(torch.empty(0, 5), "on test", "a model")


@pytest.mark.parametrize("broken", BROKEN)
def test_error_says_how_many_scores_are_not_finite(broken: float) -> None:
    scores = torch.tensor([[0.0, broken, 1.0], [2.0, 3.0, broken]])
    with pytest.raises(DataError) as error:
        require_finite(scores, "on test", "a model with finite weights")
    assert str(error.value) == (
        f"2 of 6 scores on test are not finite numbers; expected a model with finite weights; got {broken}"
    )
