"""Prints the tables of docs/scaling.md: time, cost and traffic of encoding and linking at sizes that were not run.

    python -m bench.plan

Rates are those of BERT-large on one H100 in docs/speed.md (`bench/gpu`). The other constants are assumptions. GPUs do
not slow each other down in this plan, because shards and files share nothing but the store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from zeshel_tasks.config.retrieval import EvalBiencoderConfig
from zeshel_tasks.data.shards import shard_count
from zeshel_tasks.knowledge_base.head import SEGMENT_ENTITIES

ENTITIES, MENTIONS, GPUS = (500_000, 10_000_000, 100_000_000), (50_000, 5_000_000), (1, 8, 64)

# Measured, docs/speed.md: candidate encoding and cross-encoder scoring with bf16 weights, exact search.
ENCODED, RANKED, SEARCH_FLOPS = 5380.80, 43.93, 7.627e12
CANDIDATES = 64  # of a mention, as in the measurement of RANKED

# Assumed.
POD_SECONDS = 60  # node and image are there; start of the container, import of torch, model into memory, commit
PRICE = 2.5  # of a GPU-hour
BYTES_OF_DOCUMENT, DIMENSION, TOKENS = 1000, 1024, 128
PART = 64 * 2**20  # of an upload or a download
REQUESTS = 25  # of a shard besides its parts: records, manifests, probes

_ON_GPUS = ("1 GPU", "8 GPUs", "64 GPUs")
_USUAL, _FOR_GPUS = EvalBiencoderConfig().sharded_from, 4_000_000


def main() -> None:
    """Print the tables."""
    _print(("sharded_from", "entities", "shards", *_ON_GPUS, "GPU-hours", "cost"), _encoding())
    _print(("entities", "read by the shards", "written", "read by a stage that searches", "requests"), _traffic())
    _print(("mentions", "candidates", *_ON_GPUS, "GPU-hours", "cost"), _ranking())
    _print(("entities", "mentions", *_ON_GPUS, "GPU-hours", "cost"), _search())
    _print(("sharded_from", "entities", "segments", "tasks", *_ON_GPUS, "GPU-hours", "cost"), _knowledge_bases())


def _encoding() -> Iterator[tuple[str, ...]]:
    for bound in (_USUAL, _FOR_GPUS):
        for entities in ENTITIES:
            shards = shard_count(entities, bound)
            seconds = entities / shards / ENCODED + POD_SECONDS
            times = (_time(math.ceil(shards / gpus) * seconds) for gpus in GPUS)
            yield f"{bound:,}", f"{entities:,}", f"{shards:,}", *times, *_cost(shards * seconds)


def _traffic() -> Iterator[tuple[str, ...]]:
    for entities in ENTITIES:
        shards, documents = shard_count(entities, _USUAL), entities * BYTES_OF_DOCUMENT
        written = entities * (2 * DIMENSION + 2 * TOKENS)
        parts = shards * sum(
            math.ceil(size / shards / PART) for size in (documents, entities * 2 * DIMENSION, entities * 2 * TOKENS)
        )
        # The world is cut first, so its documents are read and written once more.
        yield (
            f"{entities:,}",
            _gb(2 * documents),
            _gb(written + documents),
            _gb(written),
            f"{shards * REQUESTS + parts:,}",
        )


def _ranking() -> Iterator[tuple[str, ...]]:
    for mentions in MENTIONS:
        for candidates in (CANDIDATES, CANDIDATES // 4):
            seconds = mentions * candidates / CANDIDATES / RANKED
            yield f"{mentions:,}", f"{candidates}", *(_time(seconds / gpus) for gpus in GPUS), *_cost(seconds)


def _search() -> Iterator[tuple[str, ...]]:
    for entities in ENTITIES:
        for mentions in MENTIONS:
            seconds = 2 * entities * DIMENSION * mentions / SEARCH_FLOPS
            yield f"{entities:,}", f"{mentions:,}", *(_time(seconds / gpus) for gpus in GPUS), *_cost(seconds)


def _knowledge_bases() -> Iterator[tuple[str, ...]]:
    for bound in (_USUAL, _FOR_GPUS):
        for entities in ENTITIES:
            segments, tasks = math.ceil(entities / SEGMENT_ENTITIES), shard_count(entities, bound)
            seconds = entities / tasks / ENCODED + POD_SECONDS
            others = 2 * POD_SECONDS if tasks > 1 else 0  # the tasks that cut and publish
            times = (_time(math.ceil(tasks / gpus) * seconds + others) for gpus in GPUS)
            yield f"{bound:,}", f"{entities:,}", f"{segments:,}", f"{tasks:,}", *times, *_cost(tasks * seconds + others)


def _time(seconds: float) -> str:
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.3g} d"


def _cost(seconds: float) -> tuple[str, str]:
    return f"{seconds / 3600:.2g}", f"${seconds / 3600 * PRICE:,.2f}"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"


def _print(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    print("\n| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
