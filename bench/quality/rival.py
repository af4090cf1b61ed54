"""Trains the dual encoder of entity-linkings 0.3.0 and writes the ranks of the golds. Runs in that package's Python.

    PYTHON rival.py DATA MODEL SECONDS OUT [--learning_rate 5e-5] [--batch_size 64] [--length 128]

Times a few steps, then trains for as many as fit into the seconds, with in-batch negatives, on pages and mentions of
``DATA`` in ZESHEL's format. Mean pooling and the cosine are what the start model, a sentence encoder, was trained with.
Imports nothing of this package, whose dependencies differ.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from entity_linkings.candidate_retriever.dualencoder.dualencoder import DUALENCODER
from entity_linkings.data_utils import EntityDictionary
from entity_linkings.trainer import TrainingArguments
from transformers import AutoModel, AutoTokenizer

_TIMED_STEPS = 5
_TOP_K = 64
_FILES = {"train": "train.json", "valid": "val.json", "test": "test.json"}


def main() -> None:
    """Train, retrieve, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("out", type=Path)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = _measure(options, Path(folder)) | {"all_seconds": time.monotonic() - started}
    partial = options.out.with_suffix(".partial")
    partial.write_text(json.dumps(found))
    partial.rename(options.out)


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    mentions = {split: _lines(options.data / "mentions" / file) for split, file in _FILES.items()}
    start, trained = _start(options, folder / "start"), folder / "trained"
    worlds = sorted({mention["corpus"] for mention in mentions["train"]})
    entities = [entity for world in worlds for entity in _entities(options.data, world)]
    train = _dataset(options.data, mentions["train"])
    _train(options, start, entities, train, _TIMED_STEPS, folder / "warm-up")
    timed = _train(options, start, entities, train, 2 * _TIMED_STEPS, folder / "timed") / (2 * _TIMED_STEPS)
    steps = max(1, int(options.seconds / timed))
    seconds = _train(options, start, entities, train, steps, trained)
    ranks = {split: _ranks(options, trained, mentions[split]) for split in ("valid", "test")}
    epochs = steps * options.batch_size / len(mentions["train"])
    return {"ranks": ranks, "seconds": seconds, "epochs": epochs}


def _start(options: argparse.Namespace, folder: Path) -> Path:
    """Write the start model in the package's own format, the only one that it reads from a folder."""
    config = DUALENCODER.Config()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    markers = [config.ent_start_token, config.ent_end_token, config.entity_token, config.nil_token]
    tokenizer.add_special_tokens({"additional_special_tokens": markers})
    tokenizer.save_pretrained(folder)
    model = AutoModel.from_pretrained(options.model)
    model.resize_token_embeddings(len(tokenizer))
    for tower in ("context_model", "candidate_model"):
        model.save_pretrained(folder / tower)
    encoder = {"model_name_or_path": str(options.model), "pooling": "mean", "distance": "cosine", "temperature": 0.05}
    (folder / "encoder_config.json").write_text(json.dumps(encoder))
    return folder


def _retriever(options: argparse.Namespace, model: Path, entities: list[dict[str, str]]) -> DUALENCODER:
    config = DUALENCODER.Config(
        model_name_or_path=str(model),
        distance="cosine",
        max_context_length=options.length,
        max_candidate_length=options.length,
    )
    return DUALENCODER(EntityDictionary(Dataset.from_list(entities)), config)


def _train(
    options: argparse.Namespace, start: Path, entities: list[dict[str, str]], train: Dataset, steps: int, out: Path
) -> float:
    """Train for a number of steps. Returns the seconds."""
    retriever = _retriever(options, start, entities)
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        learning_rate=options.learning_rate,
        per_device_train_batch_size=options.batch_size,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        report_to=[],
        disable_tqdm=True,
    )
    started = time.perf_counter()
    result = retriever.train(train, training_args=arguments)
    print(f"{steps} steps: {time.perf_counter() - started:.1f} s in all, {result.metrics}", flush=True)
    return float(result.metrics["train_runtime"])


def _ranks(options: argparse.Namespace, model: Path, mentions: list[dict[str, Any]]) -> dict[str, int]:
    ranks = {}
    for world in sorted({mention["corpus"] for mention in mentions}):
        mine = [mention for mention in mentions if mention["corpus"] == world]
        retriever = _retriever(options, model, _entities(options.data, world))
        found = retriever.retrieve_candidates(_dataset(options.data, mine), top_k=_TOP_K)
        for mention, ids in zip(mine, found, strict=True):
            gold = mention["label_document_id"]
            ranks[mention["mention_id"]] = ids.index(gold) if gold in ids else -1
    return ranks


def _entities(data: Path, world: str) -> list[dict[str, str]]:
    pages = _lines(data / "documents" / f"{world}.json")
    return [{"id": page["document_id"], "name": page["title"], "description": page["text"]} for page in pages]


def _dataset(data: Path, mentions: list[dict[str, Any]]) -> Dataset:
    worlds = {mention["corpus"] for mention in mentions}
    texts = {page["id"]: page["description"] for world in worlds for page in _entities(data, world)}
    rows = []
    for mention in mentions:
        text = texts[mention["context_document_id"]]
        words = text.split(" ")
        start = len(" ".join([*words[: mention["start_index"]], ""]))
        end = start + len(" ".join(words[mention["start_index"] : mention["end_index"] + 1]))
        entity = {"start": start, "end": end, "label": [mention["label_document_id"]]}
        rows.append({"id": mention["mention_id"], "text": text, "entities": [entity]})
    return Dataset.from_list(rows)


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
