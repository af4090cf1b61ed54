"""Measures how the encoding of a world in shards scales with processes that stand in for pods, and what a shard costs.

    python -m bench.sharding [--entities 8000] [--hidden 128] [--layers 4] [--workers 1 2] [--scratch DIRECTORY]

Each shard is a process of its own, ``zeshel encode-shard``, with one thread. The store is a local folder. A worker
starts the next shard when one has ended. The overhead is the time of a process outside of the encoding: the start of
Python, torch and the model, the files and the commit. It is what a shard costs on a machine that is there; a pod also
waits for a node and an image.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from bench.entities import random_entities
from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.data.zeshel import document_line
from zeshel_tasks.pipeline.world_shards import encoded_shard, large_worlds, shard_names, shard_of_name
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Attempt, Run, artifact_folder, open_run

_WORLD, _WORDS = "large", 100
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, default=8000)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scratch", type=Path)
    options = parser.parse_args(arguments)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.entities:,} entities in 8 shards")
    first = None
    for workers in options.workers:
        with tempfile.TemporaryDirectory(prefix="sharding-", dir=options.scratch) as folder:
            row = _measured(Path(folder), options, workers)
        first = first or row
        scaling = first["seconds"] * first["workers"] / (row["seconds"] * workers)
        print(
            f"{workers} workers: {row['seconds']:.1f} s, {options.entities / row['seconds']:,.1f} entities/s, "
            f"{scaling:.0%} of linear, {row['cpu']:.1f} s of CPU time; a shard: {row['encoding']:.1f} s encoding, "
            f"{row['overhead']:.1f} s overhead",
            flush=True,
        )


def _measured(folder: Path, options: argparse.Namespace, workers: int) -> dict[str, Any]:
    run, bound = _run(folder, options), options.entities - 1
    recipe = build_recipe("recommended", {"sharded_from": bound})
    given = [f"--run={run.address}", f"--sharded_from={bound}", "--device=cpu", "--precision=fp32"]
    _zeshel("cut-worlds", *given)
    shards = list(shard_names(large_worlds(run, recipe.eval_biencoder)))

    def encode(name: str) -> float:
        started = time.perf_counter()
        _zeshel("encode-shard", *given, f"--shard={name}")
        return time.perf_counter() - started

    started, used = time.perf_counter(), _cpu_seconds()
    with ThreadPoolExecutor(workers) as pool:
        took = list(pool.map(encode, shards))
    seconds, used = time.perf_counter() - started, _cpu_seconds() - used
    config = build_recipe("recommended", {"sharded_from": bound, "precision": "fp32"}).eval_biencoder
    found = [encoded_shard(run, *shard_of_name(name), config) for name in shards]
    encoding = [made.metrics["entities"] / made.metrics["entities_per_second"] for made in found if made is not None]
    overhead = [whole - part for whole, part in zip(took, encoding, strict=True)]
    return {
        "workers": workers,
        "seconds": seconds,
        "cpu": used,
        "encoding": sum(encoding) / len(encoding),
        "overhead": sum(overhead) / len(overhead),
    }


def _cpu_seconds() -> float:
    """Return the CPU time of all processes that have ended. Other work on the machine does not change it much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(folder: Path, options: argparse.Namespace) -> Run:
    """A run with a world and a bi-encoder of random weights, as far as the commands read it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    from zeshel_tasks.models.biencoder import new_biencoder, save_biencoder
    from zeshel_tasks.models.tokenizer import load_tokens

    entities, words = list(random_entities(range(options.entities), _WORDS)), set[str]()
    for entity in entities[:200]:
        words |= set(re.findall(r"\w+", f"{entity.title} {entity.text}".lower()))
    special = ["[PAD]", "[unused0]", "[unused1]", "[unused2]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    bert = folder / "bert"
    bert.mkdir()
    (bert / "vocab.txt").write_text("\n".join([*special, *sorted(words)]))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special) + len(words),
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        intermediate_size=4 * options.hidden,
    )
    BertModel(config).save_pretrained(bert)
    BertTokenizer(str(bert / "vocab.txt")).save_pretrained(bert)
    model, settings = new_biencoder(bert, TrainBiencoderConfig())
    save_biencoder(model, settings, load_tokens(bert, lowercase=True).tokenizer, folder / "model")
    documents = folder / "documents.json"
    documents.write_bytes(b"".join(map(document_line, entities)))
    run = open_run(f"{folder}/store/runs/r")
    worlds = {"documents_by_world": {_WORLD: options.entities}}
    _commit(run, "download", {f"documents/{_WORLD}.json": documents}, worlds)
    _commit(run, "convert", {}, {"worlds": {"test": {_WORLD: {}}}})
    files = (path for path in (folder / "model").rglob("*") if path.is_file())
    weights = {f"model/{path.relative_to(folder / 'model')}": path for path in files}
    _commit(run, "train-biencoder", weights, {})
    return run


def _commit(run: Run, stage: str, files: dict[str, Path], metrics: dict[str, Any]) -> None:
    attempt = Attempt(run.store, artifact_folder(stage, stage))
    for name, path in files.items():
        attempt.add(name, path)
    unknown: dict[str, Any] = {"split": None, "config": {}, "inputs": {}, "versions": {}, "hardware": {}}
    unknown |= {"started_at": "", "finished_at": "", "wall_seconds": 0, "peak_memory_mb": 0, "peak_gpu_memory_mb": None}
    made = attempt.commit(
        {**unknown, "stage": stage, "fingerprint": stage, "package_version": "", "device": "cpu", "metrics": metrics}
    )
    run.write_record(stage, made, reused=False, wall_seconds=0)


def _zeshel(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "zeshel_tasks", *arguments], check=True, env={**os.environ, **_ONE_THREAD},
                   stdout=subprocess.DEVNULL)  # fmt: skip


if __name__ == "__main__":
    main()
