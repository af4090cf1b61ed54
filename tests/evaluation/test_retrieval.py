from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.errors import DataError
from zeshel_tasks.evaluation.retrieval import SearchSize, top_k

DIMENSION = 8


def stored(path: Path, vectors: npt.NDArray[np.floating]) -> VectorFile:
    np.save(path, vectors)
    return VectorFile(path)


def blocks_of(rows: int, queries: int, dimension: int = DIMENSION) -> SearchSize:
    return SearchSize(queries, 4 * dimension * rows, 4 * queries * rows, piece_bytes=4 * dimension * 100)


def expected(queries: torch.Tensor, vectors: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.int64]:
    scores = queries.numpy() @ vectors.astype(np.float32).T
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rows", [1, 16, 48, 500, 5000])
@pytest.mark.parametrize("k", [1, 10, 64, 2000])
def test_blockwise_search_matches_single_matrix_product(
    rows: int, k: int, dtype: type[np.floating], tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(1003, DIMENSION)).astype(dtype)
    queries = torch.from_numpy(generator.normal(size=(5, DIMENSION))).float()
    scores, positions = top_k(queries, stored(tmp_path / "v.npy", vectors), k, blocks_of(rows, 5))
    everything = queries.numpy() @ vectors.astype(np.float32).T
    assert scores.shape == positions.shape == (5, min(k, 1003))
    np.testing.assert_allclose(scores.numpy(), -np.sort(-everything, axis=1)[:, :k], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        np.take_along_axis(everything, positions.numpy(), 1), scores.numpy(), rtol=1e-4, atol=1e-6
    )
    assert all(len(set(row)) == len(row) for row in positions.tolist())


@given(
    values=st.lists(st.integers(-2, 2), min_size=1, max_size=200),
    k=st.integers(1, 40),
    rows=st.integers(1, 200),
)
def test_equal_scores_keep_file_order_for_any_block_size(
    values: list[int], k: int, rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With small integers, the products are exact and most of them are equal."""
    vectors = np.array(values, dtype=np.float32)[:, None]
    queries = torch.tensor([[1.0], [-1.0], [0.0]])
    file = stored(tmp_path_factory.mktemp("ties") / "v.npy", vectors)
    _, positions = top_k(queries, file, k, blocks_of(rows, 3, dimension=1))
    np.testing.assert_array_equal(positions.numpy(), expected(queries, vectors, k))


@pytest.mark.parametrize("queries", [1, 5, 9, 33])
@pytest.mark.parametrize("dimension", [50, 64])
@pytest.mark.parametrize(("rows", "k"), [(203, 10), (203, 40), (90, 64), (203, 203), (7, 3), (1003, 64), (64, 3)])
def test_equal_vectors_keep_file_order_across_blocks_and_at_cutoff(
    rows: int, k: int, dimension: int, queries: int, tmp_path: Path
) -> None:
    """50 of 203 vectors are equal. They fill one block, three blocks, or more places than ``k``."""
    vectors = np.random.default_rng(7).normal(size=(203, dimension)).astype(np.float32)
    equal = np.sort(np.random.default_rng(8).choice(203, 50, replace=False))
    vectors[equal] = vectors[equal[0]]
    asked = np.random.default_rng(9).normal(size=(queries, dimension)).astype(np.float32)
    asked += 4 * vectors[equal[0]]  # no other vector scores higher
    found = top_k(torch.from_numpy(asked), stored(tmp_path / "v.npy", vectors), k, blocks_of(rows, queries, dimension))
    for scores, positions in zip(*(values.tolist() for values in found), strict=True):
        ranked = [position for position in positions if position in equal]
        assert ranked == equal[:k].tolist()
        assert len({scores[positions.index(position)] for position in ranked}) == 1


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_equal_vectors_have_equal_scores_at_every_position(threads: int, tmp_path: Path) -> None:
    vectors = np.tile(np.random.default_rng(1).normal(size=768).astype(np.float32), (1003, 1))
    queries, before = torch.randn(5, 768), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for rows in (1, 2, 3, 17, 100, 1003):
            scores, positions = top_k(queries, stored(tmp_path / "v.npy", vectors), 1003, blocks_of(rows, 5, 768))
            assert (scores == scores[:, :1]).all()
            assert (positions == torch.arange(1003)).all()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("order", [1, -1])
def test_rising_and_falling_scores_are_found(order: int, tmp_path: Path) -> None:
    """If scores rise, every block replaces all earlier results."""
    vectors = np.arange(4000, dtype=np.float32)[::order, None]
    queries = torch.tensor([[1.0], [-2.0]])
    _, positions = top_k(queries, stored(tmp_path / "v.npy", vectors), 64, blocks_of(160, 2, dimension=1))
    np.testing.assert_array_equal(positions.numpy(), expected(queries, vectors, 64))


def test_world_smaller_than_k_returns_all_entities(tmp_path: Path) -> None:
    scores, positions = top_k(torch.eye(3), stored(tmp_path / "v.npy", np.eye(3, dtype=np.float32)), 64)
    assert positions.shape == scores.shape == (3, 3)
    assert positions.tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 3e38])
def test_non_finite_scores_are_refused(broken: float, tmp_path: Path) -> None:
    queries = torch.full((2, DIMENSION), broken)
    file = stored(tmp_path / "v.npy", np.ones((100, DIMENSION), dtype=np.float32))
    with pytest.raises(DataError, match="scores of retrieval are not finite numbers"):
        top_k(queries, file, 10)


def test_single_nan_among_many_scores_is_refused(tmp_path: Path) -> None:
    """A negative NaN sorts below all numbers, so later blocks would displace it without notice."""
    vectors = np.ones((640, 1), dtype=np.float32)
    vectors[3].view(np.uint32)[0] = 0xFFC00000
    assert np.isnan(vectors).sum() == 1
    file = stored(tmp_path / "v.npy", vectors)
    with pytest.raises(DataError, match="scores of retrieval are not finite numbers"):
        top_k(torch.ones(2, 1), file, 5, blocks_of(64, 2, dimension=1))


def test_search_memory_does_not_grow_with_vectors(tmp_path: Path) -> None:
    """The large search's file alone is 8 times larger than the memory by which it may exceed the small search."""
    queries, size, process = torch.ones(64, 256), SearchSize(64, 2**20, 2**20), psutil.Process()
    small = stored(tmp_path / "small.npy", np.ones((2000, 256), dtype=np.float32))
    for start in range(0, 128):
        with (tmp_path / "rows").open("ab") as file:
            file.write(np.full((1024, 256), start, dtype=np.float16).tobytes())
    large = np.memmap(tmp_path / "rows", dtype=np.float16, mode="r", shape=(128 * 1024, 256))
    np.save(tmp_path / "large.npy", large)
    del large
    top_k(queries, small, 64, size)
    before = process.memory_info().rss
    top_k(queries, VectorFile(tmp_path / "large.npy"), 64, size)
    assert process.memory_info().rss - before < (tmp_path / "large.npy").stat().st_size / 8
