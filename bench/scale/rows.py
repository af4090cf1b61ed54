"""The measurements of ``bench.scale``: a row, or the rows of all indexes.

Vectors are generated: points in 64 dimensions, projected into the requested dimension, because the vectors of a BERT
have fewer degrees of freedom than numbers. A query is a point near that of an entity. With plain noise, every index
would look worse than it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch

from bench.scale.indexes import index_rows
from bench.scale.mentions import tokens_of_words, write_split
from zeshel_tasks.compute.machine import peak_memory_mb, reset_peak_memory
from zeshel_tasks.config.retrieval import VectorDtype
from zeshel_tasks.data.arrays import Rows, new_array, release
from zeshel_tasks.data.mention_table import tokenize_mentions
from zeshel_tasks.data.vector_file import VectorFile, storable
from zeshel_tasks.evaluation.candidate_files import CandidateFiles
from zeshel_tasks.evaluation.retrieval import search_size, top_k

Row = dict[str, Any]
TOP_K, LATENT, MADE_AT_ONCE = 64, 64, 16_384


def search(scratch: Path, *, dimension: int, entities: int, queries: int) -> Row:
    """Measure exact search as in ``eval-biencoder``."""
    dtype: VectorDtype = "float16" if dimension > 512 else "float32"
    path, near = make_vectors(scratch, entities, queries, dimension, dtype)
    asked, vectors = torch.from_numpy(near), VectorFile(path)
    warm_up(scratch)
    seconds, memory = measured(lambda: search_all(asked, vectors))
    return {
        "dimension": dimension,
        "stored as": dtype,
        "entities": entities,
        "s per 1,000 queries": seconds / queries * 1000,
        "peak MB": memory,
        "MB on disk": path.stat().st_size / 1e6,
        "MB read": path.stat().st_size / 1e6 * -(-queries // search_size(asked.device).queries),
    }


def mentions(scratch: Path, *, mentions: int) -> Row:
    """Measure everything that ``eval-biencoder`` does for mentions except BERT, whose vectors are generated."""
    jsonl, entities = write_split(scratch, mentions), 1000
    path, queries = make_vectors(scratch, entities, 4096, 384, "float32")
    tokens, vectors, asked = tokens_of_words(scratch), VectorFile(path), torch.from_numpy(queries)

    def work() -> None:
        table = tokenize_mentions(jsonl, tokens, 128, scratch / "table")
        candidate_files, size = CandidateFiles(scratch, mentions, TOP_K), search_size(asked.device).queries
        for start in range(0, mentions, size):
            rows = np.arange(start, min(start + size, mentions))
            scores, positions = top_k(asked[rows % len(asked)], vectors, TOP_K)
            candidate_files.put(rows, scores.numpy(), positions.numpy(), table.label[rows])
        candidate_files.save()

    warm_up(scratch)
    seconds, memory = measured(work)
    files = [
        *(scratch / "table").iterdir(),
        *(scratch / f"{name}.npy" for name in ("candidates", "scores", "gold_rank")),
    ]
    written = sum(file.stat().st_size for file in files)
    return {
        "mentions": mentions,
        "s per 1,000 mentions": seconds / mentions * 1000,
        "peak MB": memory,
        "MB on disk": written / 1e6,
    }


def indexes(scratch: Path, *, dimension: int, entities: int, queries: int) -> Row:
    """Measure faiss indexes, with exact search in the first line."""
    try:
        faiss = import_module("faiss")
    except ImportError:
        return {"missing": "no approximate indexes: faiss is not installed (pip install faiss-cpu)"}
    path, near = make_vectors(scratch, entities, queries, dimension, "float32")
    asked, vectors = torch.from_numpy(near), VectorFile(path)
    warm_up(scratch)
    started = time.perf_counter()
    exact = search_all(asked, vectors)
    seconds = time.perf_counter() - started
    ours = {"index": "this package", "build s": 0.0, "seconds": seconds, "found": exact}
    halved = scratch / "float16.npy"
    np.save(halved, storable(np.load(path), "float16"))
    started = time.perf_counter()
    in_half = search_all(asked, VectorFile(halved))
    half = {"index": "float16", "build s": 0.0, "seconds": time.perf_counter() - started, "found": in_half}
    rows = [ours, half, *index_rows(faiss, np.load(path), near, TOP_K)]
    return {"rows": [compared(row, exact, dimension, entities, seconds) for row in rows]}


def compared(row: Row, exact: Rows, dimension: int, entities: int, seconds: float) -> Row:
    """Return a line of the table; ``pays from`` is the number of queries after which building the index pays off."""
    queries = len(exact)
    same = [len(np.intersect1d(found, right)) for found, right in zip(row["found"], exact, strict=True)]
    saved = (seconds - row["seconds"]) / queries
    pays = round(row["build s"] / saved) if saved > 0 and row["build s"] else "-"
    return {
        "dimension": dimension,
        "entities": entities,
        "index": row["index"],
        "build s": row["build s"],
        "s per 1,000 queries": row["seconds"] / queries * 1000,
        "recall@64": float(np.mean(same)) / exact.shape[1],
        "pays from": pays,
    }


def make_vectors(
    scratch: Path, entities: int, queries: int, dimension: int, dtype: VectorDtype, clusters: int = 0
) -> tuple[Path, npt.NDArray[np.float32]]:
    """Write a file of the entities' vectors. Return its path and the queries' vectors, float32 [queries, dimension].

    With ``clusters``, the points of the entities lie around so many centres, half as far from them as these from zero.
    """
    generator = np.random.default_rng(52313)
    turn = generator.normal(size=(LATENT, dimension)).astype(np.float32) / LATENT**0.5
    centres = generator.normal(size=(clusters, LATENT)).astype(np.float32)
    path = scratch / f"vectors-{entities}-{dimension}.npy"
    out = new_array(path, dtype, (entities, dimension))
    latent = np.zeros((0, LATENT), dtype=np.float32)
    for start in range(0, entities, MADE_AT_ONCE):
        latent = generator.normal(size=(min(MADE_AT_ONCE, entities - start), LATENT)).astype(np.float32)
        if clusters:
            latent /= 2
            latent += centres[generator.integers(clusters, size=len(latent))]
        out[start : start + len(latent)] = storable(latent @ turn, dtype)
        release(out)
    near = latent[generator.integers(len(latent), size=queries)]
    return path, (near + generator.normal(size=near.shape).astype(np.float32) * 0.7) @ turn


def search_all(queries: torch.Tensor, vectors: VectorFile) -> Rows:
    """Return the positions of the best entities, int64 [queries, 64], in batches of the stage's size."""
    size = search_size(queries.device).queries
    parts = [queries[start : start + size] for start in range(0, len(queries), size)]
    return np.concatenate([top_k(part, vectors, TOP_K)[1].numpy() for part in parts])


def warm_up(scratch: Path) -> None:
    """Search once, so that the libraries that torch loads at first use do not count."""
    path, queries = make_vectors(scratch, 128, 2, 8, "float16")
    search_all(torch.from_numpy(queries), VectorFile(path))


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds and the peak resident memory in MB (10^6 bytes) above that of the process before."""
    idle = psutil.Process().memory_info().rss / 1e6
    reset_peak_memory()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started, peak_memory_mb() - idle
