"""faiss indexes of the same vectors, for ``bench.scale``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


def index_rows(faiss: Any, vectors: Vectors, queries: Vectors, k: int) -> Iterator[dict[str, Any]]:
    """Yield for each index: seconds to build it, seconds for all queries, and the results, int64 [queries, k]."""
    lists = int(4 * len(vectors) ** 0.5)  # faiss's guideline for up to a million vectors
    width = vectors.shape[1]
    flat = faiss.IndexFlatIP(width)
    yield from _rows("flat", flat, vectors, queries, k, {"": lambda: None})
    ivf = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    ivf.cp.niter = 10
    probes = {f" nprobe {n}": lambda n=n: setattr(ivf, "nprobe", n) for n in (8, 32, 128)}
    yield from _rows(f"IVF{lists}", ivf, vectors, queries, k, probes)
    hnsw = faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
    hnsw.hnsw.efConstruction = 80
    efforts = {f" ef {n}": lambda n=n: setattr(hnsw.hnsw, "efSearch", n) for n in (64, 256)}
    yield from _rows("HNSW32", hnsw, vectors, queries, k, efforts)


def _rows(
    name: str, index: Any, vectors: Vectors, queries: Vectors, k: int, settings: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    started = time.perf_counter()
    index.train(vectors)
    index.add(vectors)
    build = time.perf_counter() - started
    for label, apply in settings.items():
        apply()
        started = time.perf_counter()
        _, found = index.search(queries, k)
        yield {"index": name + label, "build s": build, "seconds": time.perf_counter() - started, "found": found}
