"""Measures the memory of a bi-encoder's training on random text of varying length, step by step.

    python -m bench.training_memory [--model DIRECTORY] [--steps 2000] [--batch 32] [--length 128]
                                    [--checkpoint_minutes 0.5] [--allowed 10]

The training is the package's own, with validations and checkpoints. Memory may grow until every part of it has run, in
the first quarter of the steps. Exits with 1 if the peak of the last quarter exceeds the one of the second quarter by
more than ``--allowed`` percent.

With these defaults, a BERT of two layers of 64 dimensions takes some minutes on one core. A larger ``--model`` is
slower and more like the real thing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from torch import nn

from bench import ours
from bench.gpu.shape import Shape, write_model
from bench.gpu.tables import Tables
from zeshel_tasks.compute.machine import peak_memory_mb, reset_peak_memory
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.models.biencoder import new_biencoder
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.objective import Part

_SHORTEST = 8  # tokens
_EPOCHS = 4  # a validation after each
_VALIDATION_BATCHES = 4


class Curve:
    """Peak memory of a training in equal stretches of its steps, printed as they end.

    Args:
        steps: steps of the training.
        stretches: number of stretches.
    """

    def __init__(self, steps: int, stretches: int) -> None:
        self._every, self._step, self._process = max(1, steps // stretches), 0, psutil.Process()
        self.peaks: list[float] = []

    def step(self) -> None:
        """Counts a step that begins."""
        if self._step and self._step % self._every == 0:
            resident, peak = self._process.memory_info().rss / 1e6, peak_memory_mb()
            print(f"{self._step:>6,} {resident:>12,.0f} {peak:>12,.0f}", flush=True)
            self.peaks.append(peak)
            reset_peak_memory()
        self._step += 1


class WatchedObjective(BiencoderObjective):
    """Counts the steps of a training."""

    curve: Curve

    def parts(self, model: nn.Module, rows: Rows, count: int) -> Iterator[Part]:
        self.curve.step()
        return super().parts(model, rows, count)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the curve; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="directory of a BERT; default: a small one with random weights")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32, help="mentions in a step")
    parser.add_argument("--length", type=int, default=128, help="most tokens of a mention and of a candidate")
    parser.add_argument("--checkpoint_minutes", type=float, default=0.5)
    parser.add_argument("--allowed", type=float, default=10, help="allowed growth in percent")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        peaks = _measured(options, Path(folder))
    quarter = max(1, len(peaks) // 4)
    before, after = max(peaks[quarter : 2 * quarter]), max(peaks[-quarter:])
    growth = 100 * (after / before - 1)
    print(f"peak of the second quarter {before:,.0f} MB, of the last {after:,.0f} MB: {growth:+.1f}%")
    return int(growth > options.allowed)


def _measured(options: argparse.Namespace, scratch: Path) -> list[float]:
    shape, model = Shape(2, 64, 2, 256, 2000), options.model
    if model is None:
        write_model(shape, model := scratch / "model")
    settings: dict[str, Any] = {
        "device": "cpu",
        "precision": "fp32",
        "max_context_length": options.length,
        "max_cand_length": options.length,
        "train_biencoder.learning_rate": 1e-5,
        "train_biencoder.train_batch_size": options.batch,
        "train_biencoder.eval_batch_size": options.batch,
        "train_biencoder.num_train_epochs": _EPOCHS,
        "train_biencoder.checkpoint_minutes": options.checkpoint_minutes,
    }
    recipe, tables = build_recipe("recommended", settings), Tables(shape.vocabulary, options.length, _SHORTEST)
    config, accelerator, tokenizer = recipe.train_biencoder, ours.accelerator_of(recipe), ours.tokenizer_of(model)
    encoder, known = new_biencoder(model, config)
    pairs = tables.pairs(options.batch * (options.steps // _EPOCHS))
    valid = tables.searched(options.batch * _VALIDATION_BATCHES)
    objective = WatchedObjective(pairs, valid, known, tokenizer, accelerator, config)
    objective.curve = Curve(options.steps, 40)
    print(f"{'step':>6} {'resident MB':>12} {'peak MB':>12}")
    reset_peak_memory()
    ours.train_to_the_end(encoder, objective, config, accelerator, scratch)
    return objective.curve.peaks


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
