"""Compares ingredients of the recipe. Every row gets the same base model, data and training time.

    python -m bench.quality --data ARCHIVE-or-folder --model DIRECTORY [--seconds 60] [--seeds 3] [--out FILE]

First, a few steps of each row are timed. Then the row trains for one epoch on as many mentions as fit into its time,
once for each seed. The seed decides mentions, order, dropout and random initial weights. Choose rows by the valid
worlds: the test worlds are only measured for some rows, see ``rows.py``.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from bench.data_folder import data_folder
from bench.facts import commit_facts, data_facts, machine_facts
from bench.quality import rows
from bench.quality.biencoders import biencoder_config, biencoder_pace, retrieved, train_biencoder
from bench.quality.crossencoders import (
    Candidates,
    crossencoder_config,
    crossencoder_pace,
    train_crossencoder,
    unnormalized_accuracy,
)
from bench.quality.results import Figures, table
from bench.quality.sample import Sample
from bench.quality.training import Pace
from zeshel_tasks.config import Split
from zeshel_tasks.models.tokenizer import load_tokens

_TIMED_MENTIONS = 160
_RECALL_AT = (1, 8, 64)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the tables."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="quality-", dir=options.scratch) as scratch:
        folder = Path(scratch)
        tokens = load_tokens(options.model, lowercase=True)
        data = data_folder(options.data, folder)
        sample = Sample(data, tokens, options.length, options.most_entities, folder)
        lines = list(_facts(options, sample))
        print("\n".join(lines), flush=True)
        biencoders = _biencoders(options, sample)
        lines += ["", *table(biencoders, [f"{split} R@{at}" for split in ("valid", "test") for at in _RECALL_AT])]
        print("\n".join(lines[-len(biencoders) - 3 :]), flush=True)
        crossencoders = _crossencoders(options, sample)
        lines += ["", *table(crossencoders, ["valid accuracy", "test accuracy"])]
        print("\n".join(lines[-len(crossencoders) - 3 :]), flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _biencoders(options: argparse.Namespace, sample: Sample) -> list[Figures]:
    results = []
    for row in _chosen(rows.BIENCODER, options.row):
        batch = biencoder_config(row, sample, 0).train_batch_size
        pace = biencoder_pace(row, sample, options.model, max(1, _TIMED_MENTIONS // batch))
        mentions = pace.mentions_in(options.seconds, batch, sample.available())
        print(_described(row, pace, mentions), flush=True)
        results.append(Figures(row, mentions))
    for seed in range(options.seeds):
        for result in results:
            model, seconds = train_biencoder(result.row, sample, options.model, seed, result.mentions)
            result.seconds.append(seconds)
            for split in _splits(result.row):
                found = retrieved(model, sample.pairs(split, options.recall_mentions), sample)
                result.add({f"{split} R@{at}": found.recall(at) for at in _RECALL_AT})
            print(f"seed {seed}  {result.row.name}  {seconds:.0f} s  {_last(result)}", flush=True)
            if result.row is rows.RETRIEVER:
                shutil.copytree(model, _retriever(sample, seed))
    return results


def _crossencoders(options: argparse.Namespace, sample: Sample) -> list[Figures]:
    results: list[Figures] = []
    for seed in range(options.seeds):
        candidates = _candidates(options, sample, seed)
        for number, row in enumerate(_chosen(rows.CROSSENCODER, options.row)):
            if seed == 0:
                results.append(Figures(row, _crossencoder_mentions(options, row, candidates)))
            result = results[number]
            model, seconds = train_crossencoder(row, candidates, options.model, result.mentions)
            result.seconds.append(seconds)
            for split in _splits(row):
                sets = candidates.sets(split, options.accuracy_mentions)
                result.add({f"{split} accuracy": unnormalized_accuracy(model, sets, sample.tokens.pad)})
            print(f"seed {seed}  {row.name}  {seconds:.0f} s  {_last(result)}", flush=True)
    return results


def _candidates(options: argparse.Namespace, sample: Sample, seed: int) -> Candidates:
    """Return the candidates of the retriever with the same seed, which is trained here if its row was left out."""
    model = _retriever(sample, seed)
    if not model.exists():
        batch = biencoder_config(rows.RETRIEVER, sample, seed).train_batch_size
        pace = biencoder_pace(rows.RETRIEVER, sample, options.model, max(1, _TIMED_MENTIONS // batch))
        mentions = pace.mentions_in(options.seconds, batch, sample.available())
        trained, _ = train_biencoder(rows.RETRIEVER, sample, options.model, seed, mentions)
        shutil.copytree(trained, model)
    return Candidates(sample, model, options.candidates, seed, options.crossencoder_mentions)


def _crossencoder_mentions(options: argparse.Namespace, row: rows.Row, candidates: Candidates) -> int:
    batch = crossencoder_config(row, candidates.sample, 0).train_batch_size
    pace = crossencoder_pace(row, candidates, options.model, max(1, _TIMED_MENTIONS // 20 // batch))
    mentions = pace.mentions_in(options.crossencoder_seconds, batch, candidates.trainable())
    print(_described(row, pace, mentions), flush=True)
    return mentions


def _retriever(sample: Sample, seed: int) -> Path:
    return sample.scratch / f"retriever-{seed}"


def _chosen(everything: tuple[rows.Row, ...], names: list[str] | None) -> Iterator[rows.Row]:
    return (row for row in everything if not names or row.name in names)


def _splits(row: rows.Row) -> tuple[Split, ...]:
    return ("valid", "test") if row.on_test else ("valid",)


def _described(row: rows.Row, pace: Pace, mentions: int) -> str:
    prepared = f" after {pace.prepared_seconds:.0f} s" if pace.prepared_seconds >= 1 else ""
    return f"{row.name}: {pace.mentions_per_second:.2f} mentions/s{prepared}, so {mentions:,} mentions"


def _last(result: Figures) -> str:
    return "  ".join(f"{name} {100 * values[-1]:.1f}" for name, values in result.values.items())


def _facts(options: argparse.Namespace, sample: Sample) -> Iterator[str]:
    yield time.strftime("%Y-%m-%d", time.gmtime())
    yield from machine_facts(torch.device("cpu"))
    yield data_facts(options.data)
    yield commit_facts()
    yield f"training: {options.seconds:g} s a bi-encoder, {options.crossencoder_seconds:g} s a cross-encoder"
    yield f"{options.seeds} seeds; contexts, candidates: {sample.length} tokens"
    yield f"train worlds of at most {sample.most_entities:,} entities: {sample.available():,} mentions"
    yield f"recall: {options.recall_mentions} mentions of each world, among all its entities"
    yield f"accuracy: {options.accuracy_mentions} mentions of each world, {options.candidates} candidates"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="archive or folder in ZESHEL's format")
    parser.add_argument("--model", type=Path, required=True, help="directory of a pretrained BERT")
    parser.add_argument("--seconds", type=float, default=60, help="training time of each row of the bi-encoder")
    parser.add_argument(
        "--crossencoder_seconds", type=float, default=240, help="training time of each row of the cross-encoder"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--row", action="append", help="measure only the row with this name; may be repeated")
    parser.add_argument("--length", type=int, default=64, help="tokens of a mention in its context, and of a candidate")
    parser.add_argument("--most_entities", type=int, default=3000, help="larger train worlds are left out")
    parser.add_argument("--recall_mentions", type=int, default=100, help="evaluated mentions of each world")
    parser.add_argument("--accuracy_mentions", type=int, default=40, help="evaluated mentions of each world")
    parser.add_argument("--crossencoder_mentions", type=int, default=800, help="train mentions with candidates")
    parser.add_argument("--candidates", type=int, default=16, help="candidates of the cross-encoder")
    parser.add_argument("--scratch", type=Path, help="directory for temporary files; default: the system's")
    parser.add_argument("--out", type=Path, help="file for the tables")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
