"""The approximate index: what it finds has exact scores, and it misses little."""

from pathlib import Path

import numpy as np
import pytest
import torch

from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.evaluation import approximate
from zeshel_tasks.evaluation.approximate import ApproximateIndex, share_found
from zeshel_tasks.evaluation.retrieval import top_k

ENTITIES, DIMENSION, K = 3000, 32, 10


@pytest.fixture(params=["float32", "float16"])
def vectors(tmp_path: Path, request: pytest.FixtureRequest) -> VectorFile:
    random = np.random.default_rng(3)
    centres = random.standard_normal((40, DIMENSION))
    drawn = centres[random.integers(40, size=ENTITIES)] + 0.3 * random.standard_normal((ENTITIES, DIMENSION))
    np.save(tmp_path / "vectors.npy", drawn.astype(request.param))
    return VectorFile(tmp_path / "vectors.npy")


@pytest.fixture
def queries(vectors: VectorFile) -> torch.Tensor:
    random = np.random.default_rng(4)
    near = vectors.rows(random.integers(ENTITIES, size=50))
    return torch.from_numpy((near + 0.2 * random.standard_normal(near.shape)).astype(np.float32))


def test_index_that_looks_everywhere_finds_what_exact_search_finds(
    vectors: VectorFile, queries: torch.Tensor, tmp_path: Path
) -> None:
    groups = ApproximateIndex.write(vectors, tmp_path / "index")
    scores, positions = ApproximateIndex(tmp_path / "index", vectors, groups).top_k(queries, K)
    exact_scores, exact = top_k(queries, vectors, K)
    assert share_found(positions.numpy(), exact.numpy()) > 0.995
    np.testing.assert_allclose(scores, exact_scores, rtol=1e-4, atol=1e-4)
    assert (np.diff(scores.numpy(), axis=1) <= 0).all()


def test_fewer_groups_miss_more_but_scores_stay_exact(
    vectors: VectorFile, queries: torch.Tensor, tmp_path: Path
) -> None:
    groups = ApproximateIndex.write(vectors, tmp_path / "index")
    exact = top_k(queries, vectors, K)[1].numpy()
    shares = []
    for probes in (1, groups // 8, groups):
        scores, positions = ApproximateIndex(tmp_path / "index", vectors, probes).top_k(queries, K)
        products = (vectors.rows(positions.numpy()) * queries.numpy()[:, None]).sum(axis=2)
        np.testing.assert_allclose(scores, products, rtol=1e-6)
        shares.append(share_found(positions.numpy(), exact))
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_query_with_too_few_neighbours_is_searched_exactly(vectors: VectorFile, tmp_path: Path) -> None:
    ApproximateIndex.write(vectors, tmp_path / "index")
    query = torch.from_numpy(vectors.rows(np.array([7])))
    scores, positions = ApproximateIndex(tmp_path / "index", vectors, 1).top_k(query, 2000)
    exact_scores, exact = top_k(query, vectors, 2000)
    np.testing.assert_array_equal(positions, exact)
    np.testing.assert_array_equal(scores, exact_scores)


def test_vectors_that_are_gone_or_come_later_are_searched_as_if_it_was_made_of_those_that_are_there(
    vectors: VectorFile, queries: torch.Tensor, tmp_path: Path
) -> None:
    groups = ApproximateIndex.write(vectors, tmp_path / "index")
    random = np.random.default_rng(5)
    later = queries.numpy()[:5] * 1.2
    is_there = random.random(ENTITIES) < 0.8
    np.save(tmp_path / "now.npy", np.concatenate([vectors.rows(np.flatnonzero(is_there)), later]).astype(vectors.dtype))
    now = VectorFile(tmp_path / "now.npy")
    places = np.where(is_there, np.cumsum(is_there) - 1, -1)
    scores, positions = ApproximateIndex(tmp_path / "index", now, groups, places).top_k(queries, K)
    exact_scores, exact = top_k(queries, now, K)
    assert share_found(positions.numpy(), exact.numpy()) > 0.995
    np.testing.assert_allclose(scores, exact_scores, rtol=1e-4, atol=1e-4)
    assert {len(now) - 5 + number for number in range(5)} <= set(positions[:5].flatten().tolist())


def test_most_are_gone_and_the_rest_is_fewer_than_wanted(vectors: VectorFile, tmp_path: Path) -> None:
    groups = ApproximateIndex.write(vectors, tmp_path / "index")
    left = np.array([1500, 7, 2999])
    places = np.full(ENTITIES, -1)
    places[np.sort(left)] = range(3)
    np.save(tmp_path / "now.npy", vectors.rows(np.array([*np.sort(left), 5])))
    now = VectorFile(tmp_path / "now.npy")
    queries = torch.from_numpy(vectors.rows(np.array([7, 5])))
    scores, positions = ApproximateIndex(tmp_path / "index", now, groups, places).top_k(queries, K)
    exact_scores, exact = top_k(queries, now, K)
    np.testing.assert_array_equal(positions, exact)
    np.testing.assert_allclose(scores, exact_scores, rtol=1e-5)


def test_share_counts_what_both_have_found() -> None:
    assert share_found(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 2, 9], [6, 4, 5]])) == pytest.approx(5 / 6)


def test_installation_without_faiss_is_named(
    vectors: VectorFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(approximate, "import_module", missing)
    assert not approximate.has_faiss()
    with pytest.raises(ConfigError, match=r"pip install 'zeshel-tasks\[index\]'"):
        ApproximateIndex.write(vectors, tmp_path / "index")
