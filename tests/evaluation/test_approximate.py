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
