"""Measures how long a knowledge base takes to build and to open, at first and after a small change.

    python -m bench.knowledge_base [--entities 100000] [--words 60] [--dimension 384] [--scratch DIRECTORY]

The entities have random words (``bench/entities.py``) and random vectors in float16, so nothing is encoded. Each step
is a process of its own. Prints its seconds, those of a core, its peak resident memory in MB above that of the idle
process, including mapped pages, and the time of a core for a lexical search in ms.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import numpy as np

from bench.entities import random_entities
from bench.own_process import in_own_process
from zeshel_tasks.compute import machine
from zeshel_tasks.data.document_file import DocumentFile
from zeshel_tasks.knowledge_base.changes import add, build, remove
from zeshel_tasks.knowledge_base.head import Encoding
from zeshel_tasks.knowledge_base.opening import open_knowledge_base
from zeshel_tasks.knowledge_base.segments import Change
from zeshel_tasks.linking.features import search_words
from zeshel_tasks.linking.mention_texts import MentionText
from zeshel_tasks.store import LocalStore, Metrics

_NAME = "bench"
_TOKENS = 128
_ENCODING = Encoding(
    biencoder="artifacts/train-biencoder/none",
    candidate_form="title_and_text",
    precision="fp32",
    vector_dtype="float16",
)


def main() -> None:
    """Runs the steps one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=60, help="words of a text, on average")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--scratch", type=Path, help="directory for temporary files; default: the system's")
    options = parser.parse_args()
    print(f"{'step':<24} {'s':>7} {'CPU s':>7} {'MB':>7}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kb-", dir=options.scratch) as name:
        folder = Path(name)
        _step("build", folder, _build, options.entities, options.words, options.dimension)
        _step("open", folder, _open)
        _step("add one", folder, _add, options.entities, options.words, options.dimension)
        _step("open after it", folder, _open)
        _step("remove one", folder, _remove)
        _step("open after it", folder, _open)
        print(f"{'ms per search':<24} {in_own_process(_search, folder, options.words):>7.2f}")


def _step(name: str, folder: Path, act: Callable[..., None], *arguments: int) -> None:
    seconds, busy, memory = in_own_process(_measured, folder, act, arguments)
    print(f"{name:<24} {seconds:>7.1f} {busy:>7.1f} {memory:>7,.0f}", flush=True)


def _measured(folder: Path, act: Callable[..., None], arguments: tuple[int, ...]) -> tuple[float, float, float]:
    machine.reset_peak_memory()
    idle, started, busy = machine.peak_memory_mb(), time.perf_counter(), time.process_time()
    os.environ["ZESHEL_SCRATCH"] = str(folder)
    act(folder, *arguments)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return seconds, busy, machine.peak_memory_mb() - idle


def _build(folder: Path, entities: int, words: int, dimension: int) -> None:
    with _encodes_at_random(dimension):
        build(LocalStore(folder / "store"), _NAME, random_entities(range(entities), words), _ENCODING)


def _add(folder: Path, entities: int, words: int, dimension: int) -> None:
    with _encodes_at_random(dimension):
        add(LocalStore(folder / "store"), _NAME, random_entities(range(entities, entities + 1), words))


def _remove(folder: Path) -> None:
    remove(LocalStore(folder / "store"), _NAME, ["id7"])


def _open(folder: Path) -> None:
    shutil.rmtree(folder / "cache", ignore_errors=True)
    found = open_knowledge_base(LocalStore(folder / "store"), _NAME, folder / "cache")
    assert len(found.index)


def _search(folder: Path, words: int) -> float:
    index = open_knowledge_base(LocalStore(folder / "store"), _NAME, folder / "cache").index
    mentions = [MentionText(entity.title, entity.text, "") for entity in random_entities(range(300), words)]
    dense = np.arange(64)
    for mention in mentions[:100]:
        search_words(index, mention, dense, 64)
    started = time.process_time()
    for mention in mentions[100:]:
        search_words(index, mention, dense, 64)
    return (time.process_time() - started) * 1000 / 200


def _encodes_at_random(dimension: int) -> AbstractContextManager[object]:
    def write(self: Change, folder: Path) -> Metrics:
        count, random = len(DocumentFile(folder)), np.random.default_rng(0)
        np.save(folder / "tokens.npy", random.integers(1, 30_000, (count, _TOKENS), dtype=np.int32))
        np.save(folder / "vectors.npy", random.standard_normal((count, dimension), dtype=np.float32).astype(np.float16))
        self.encoded += count
        return {"tokens": "none"}

    return patch.object(Change, "_write_encodings", write)


if __name__ == "__main__":
    main()
