import numpy as np
import pytest
import torch

from zeshel_tasks.evaluation import retrieval
from zeshel_tasks.evaluation.retrieval import top_k


@pytest.mark.parametrize("block", [1, 7, 50, 1000])
def test_blocks_find_what_one_matrix_product_finds(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_BLOCK", block)
    generator = np.random.default_rng(0)
    vectors, queries = generator.normal(size=(100, 8)).astype(np.float32), generator.normal(size=(5, 8))
    scores, positions = top_k(torch.from_numpy(queries).float(), vectors, 10)
    everything = queries.astype(np.float32) @ vectors.T
    np.testing.assert_array_equal(positions.numpy(), np.argsort(-everything, axis=1)[:, :10])
    np.testing.assert_allclose(scores.numpy(), -np.sort(-everything, axis=1)[:, :10], rtol=1e-5)


def test_a_world_smaller_than_k_gives_all_it_has() -> None:
    scores, positions = top_k(torch.eye(3), np.eye(3, dtype=np.float32), 64)
    assert positions.shape == scores.shape == (3, 3)
    assert positions[:, 0].tolist() == [0, 1, 2]
