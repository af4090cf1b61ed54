"""The encoding of a world in shards, ``zeshel encode-shard``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.entities import random_entities
from bench.sharding.workers import zeshel
from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.data.zeshel import document_line
from zeshel_tasks.pipeline.world_shards import encoded_shard, large_worlds, shard_names, shard_of_name
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import Attempt, Run, artifact_folder, open_run

_WORLD, _WORDS = "large", 100


class Encoding:
    """Encodes a world of random entities in 8 shards.

    Args:
        folder: for a store of each measurement.
        entities: of the world.
        hidden, layers: size of the encoder.
    """

    def __init__(self, folder: Path, entities: int, hidden: int, layers: int) -> None:
        self.items, self._folder, self._size, self._stores = entities, folder, (hidden, layers), 0
        settings = {"sharded_from": entities - 1, "device": "cpu", "precision": "fp32"}
        self._given = [f"--{name}={value}" for name, value in settings.items()]
        self._config = build_recipe("recommended", settings).eval_biencoder
        self._names: list[str] = []

    def warm_up(self) -> None:
        """Encode a shard of a store that is not used again."""
        zeshel(*self.commands()[0])

    def commands(self) -> list[list[str]]:
        """Cut the world in a new store, and return the commands for its shards."""
        self._stores += 1
        self._run = _new_run(self._folder / f"encoding-{self._stores}", self.items, *self._size)
        given = [f"--run={self._run.address}", *self._given]
        zeshel("cut-worlds", *given)
        self._names = list(shard_names(large_worlds(self._run, self._config)))
        return [["encode-shard", *given, f"--shard={name}"] for name in self._names]

    def seconds_of_work(self, took: Sequence[float]) -> list[float]:  # noqa: ARG002  # the manifests have them
        """Return how long each shard was encoded."""
        found = [encoded_shard(self._run, *shard_of_name(name), self._config) for name in self._names]
        return [made.metrics["entities"] / made.metrics["entities_per_second"] for made in found if made is not None]


def _new_run(folder: Path, count: int, hidden: int, layers: int) -> Run:
    """A run with a world and a bi-encoder of random weights, as far as the commands read it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    from zeshel_tasks.models.biencoder import new_biencoder, save_biencoder
    from zeshel_tasks.models.tokenizer import load_tokens

    entities, words = list(random_entities(range(count), _WORDS)), set[str]()
    for entity in entities[:200]:
        words |= set(re.findall(r"\w+", f"{entity.title} {entity.text}".lower()))
    special = ["[PAD]", "[unused0]", "[unused1]", "[unused2]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    bert = folder / "bert"
    bert.mkdir(parents=True)
    (bert / "vocab.txt").write_text("\n".join([*special, *sorted(words)]))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special) + len(words),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * hidden,
    )
    BertModel(config).save_pretrained(bert)
    BertTokenizer(str(bert / "vocab.txt")).save_pretrained(bert)
    model, settings = new_biencoder(bert, TrainBiencoderConfig())
    save_biencoder(model, settings, load_tokens(bert, lowercase=True).tokenizer, folder / "model")
    documents = folder / "documents.json"
    documents.write_bytes(b"".join(map(document_line, entities)))
    run = open_run(f"{folder}/store/runs/r")
    worlds = {"documents_by_world": {_WORLD: count}}
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
