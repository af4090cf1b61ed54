"""The index of a large knowledge base, for ``bench.scale``: how long it takes, how large it is, and what it finds.

CPU time is that of all threads. Other work on the machine does not change it much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.scale.rows import TOP_K, make_vectors, measured, search_all, warm_up
from zeshel_tasks.config.retrieval import VectorDtype
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.evaluation.approximate import ApproximateIndex, has_faiss, share_found
from zeshel_tasks.evaluation.retrieval import top_k
from zeshel_tasks.knowledge_base.indexing import FIRST_PROBES, LEAST_SHARE

_TOGETHER, _CALLS = 8, 16
TopK = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


def knowledge_base_index(
    scratch: Path, *, dimension: int, entities: int, queries: int, clusters: int
) -> dict[str, Any]:
    """Measure the index with twice as many groups in each row, until it finds what ``zeshel kb index`` requires."""
    if not has_faiss():
        return {"missing": "no index of a knowledge base: faiss is not installed (pip install faiss-cpu)"}
    dtype: VectorDtype = "float16" if dimension > 512 else "float32"
    path, near = make_vectors(scratch, entities, queries, dimension, dtype, clusters)
    asked, vectors, groups = torch.from_numpy(near), VectorFile(path), list[int]()
    warm_up(scratch)
    index = scratch / "index"
    used = time.process_time()
    seconds, memory = measured(lambda: groups.append(ApproximateIndex.write(vectors, index)))
    used = time.process_time() - used
    exact = search_all(asked, vectors)
    exact_rate = _rate(lambda queries, k: top_k(queries, vectors, k), asked)
    rows, probes = list[dict[str, Any]](), FIRST_PROBES
    while True:
        made = ApproximateIndex(index, vectors, probes := min(probes, groups[0]))
        share = share_found(made.top_k(asked, TOP_K)[1].numpy(), exact)
        rows.append(
            {
                "dimension": dimension,
                "entities": entities,
                "clusters": clusters,
                "build s": seconds,
                "CPU s": used,
                "peak MB": memory,
                "MB on disk": index.stat().st_size / 1e6,
                "probes": probes,
                "of groups": groups[0],
                "recall@64": share,
                "queries/CPU s": _rate(made.top_k, asked),
                "exactly": exact_rate,
            }
        )
        if share >= LEAST_SHARE or probes == groups[0]:
            return {"rows": rows}
        probes *= 2


def _rate(search: TopK, queries: torch.Tensor) -> float:
    """Return the queries a second of CPU time, in calls with few of them, after a first one that does not count."""
    last = min(len(queries) // _TOGETHER, _CALLS + 1) * _TOGETHER
    calls = [queries[start : start + _TOGETHER] for start in range(0, last, _TOGETHER)]
    search(calls[0], TOP_K)
    started = time.process_time()
    for part in calls[1:]:
        search(part, TOP_K)
    return len(calls[1:]) * _TOGETHER / (time.process_time() - started)
