import numpy as np
import pytest

from zeshel_tasks.evaluation.measures import accuracy, accuracy_metrics, recall_at, recall_metrics

RANK = np.array([0, 3, -1, 5, 63, -1], dtype=np.int32)
ROWS_OF_THREE = {"a": np.array([0, 1]), "b": np.array([2])}
CATEGORY = np.array([0, 1, 1], dtype=np.int32)
ROWS = {"a": np.array([0, 1]), "b": np.array([2, 3, 4, 5])}


def test_recall_counts_all_mentions_not_only_retrieved() -> None:
    assert recall_at(RANK, 64) == pytest.approx({1: 1 / 6, 4: 2 / 6, 8: 3 / 6, 16: 3 / 6, 32: 3 / 6, 64: 4 / 6})


@pytest.mark.parametrize(("top_k", "ks"), [(16, [1, 4, 8, 16]), (10, [1, 4, 8, 10]), (1, [1])])
def test_last_k_is_number_of_retrieved_candidates(top_k: int, ks: list[int]) -> None:
    assert list(recall_at(RANK, top_k)) == ks


def test_micro_averages_mentions_and_macro_averages_worlds() -> None:
    metrics = recall_metrics(RANK, ROWS, {"a": 10, "b": 20, "unused": 5}, 64)
    assert metrics.recall.micro[4] == pytest.approx(2 / 6)
    assert metrics.recall.macro[4] == pytest.approx((1 + 0) / 2)
    assert metrics.worlds["b"].recall[8] == pytest.approx(1 / 4)
    assert metrics.entities == 30


def test_normalized_accuracy_counts_retrieved_and_unnormalized_counts_all() -> None:
    figures = accuracy(np.array([True, False, False, False]), np.array([True, True, False, False]))
    assert figures.dump() == {"mentions": 4, "retrieved": 2, "normalized_accuracy": 0.5, "unnormalized_accuracy": 0.25}


def test_world_without_retrieved_golds_is_left_out_of_normalized_mean() -> None:
    correct, retrieved = np.array([True, False, False]), np.array([True, True, False])
    metrics = accuracy_metrics(correct, retrieved, ROWS_OF_THREE, CATEGORY, ["x", "y"])
    assert metrics.worlds["b"].normalized_accuracy is None
    assert metrics.normalized_accuracy.dump() == {"micro": 0.5, "macro": 0.5}
    assert metrics.unnormalized_accuracy.dump() == pytest.approx({"micro": 1 / 3, "macro": 0.25})
    assert metrics.categories["y"].mentions == 2
    assert metrics.categories["x"].unnormalized_accuracy == 1.0
