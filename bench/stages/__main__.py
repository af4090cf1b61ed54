"""Compares the speed of each stage with a plain implementation of BLINK's scripts (``bench/plain``).

    python -m bench.stages --data ARCHIVE-or-folder --model DIRECTORY [--seconds 20] [--rounds 2] [--stage NAME ...]

Both sides use the same data and weights. They start at the beginning of the same sample and process as much as they can
in about ``--seconds``. They take turns, so that a noisy machine affects both, and each turn runs in a separate process,
so that its peak memory belongs to one side. Loading the model and making the results of earlier stages are not timed.

The time limit makes the comparator look better than at full size, because its copies and its memory grow with the data.
Both sides train the parameters that ``--type_optimization`` names. Both use BLINK's definition of vectors, scores and
steps. Our other settings are those of the preset ``recommended``, except for the precision.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.data_folder import data_folder
from bench.facts import chosen_device, commit_facts, data_facts, machine_facts
from bench.own_process import in_own_process
from bench.stages.inputs import Inputs
from bench.stages.measure import Measurement, Side, make_inputs, measure
from bench.stages.stage_list import STAGES
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.recipe import build_recipe

_SIDES: tuple[Side, Side] = ("comparator", "ours")
_HEADINGS = ("stage", "items", "comparator/s", "ours/s", "ratio", "goal", "comparator MB", "ours MB", "samples")


@dataclass
class Row:
    """The measurements of a stage on both sides.

    Attributes:
        name: name of the stage.
        precision: of our side.
        measured: measurements of each side, one per round.
    """

    name: str
    precision: str
    measured: dict[Side, list[Measurement]] = field(default_factory=lambda: {side: [] for side in _SIDES})

    def rate(self, side: Side) -> float:
        """Return the items per second over all rounds."""
        return sum(m.items for m in self.measured[side]) / sum(m.seconds for m in self.measured[side])

    def memory(self, side: Side) -> str:
        """Return the highest peak of all rounds, in MB."""
        host = f"{max(m.peak_mb for m in self.measured[side]):,.0f}"
        gpu = [m.peak_gpu_mb for m in self.measured[side] if m.peak_gpu_mb is not None]
        return f"{host} + {max(gpu):,.0f} GPU" if gpu else host

    def cells(self) -> tuple[str, ...]:
        """Return the cells below :data:`_HEADINGS`."""
        stage, theirs, ours = STAGES[self.name], self.rate("comparator"), self.rate("ours")
        return (
            stage.title,
            stage.items,
            f"{theirs:,.2f}",
            f"{ours:,.2f}",
            f"{ours / theirs:.2f}x",
            f"{stage.goals[self.precision]:g}x",
            self.memory("comparator"),
            self.memory("ours"),
            " / ".join(f"{self.measured[side][0].count:,}" for side in _SIDES),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(arguments)
    recipe = _recipe(options)
    for line in _facts(options, recipe):
        print(line, flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.scratch) as folder:
        inputs = Inputs(data_folder(options.data, Path(folder)), options.model, recipe, Path(folder))
        names = options.stage or list(STAGES)
        in_own_process(make_inputs, names, inputs)
        rows = [_measured(name, options.precision, inputs, options.seconds, options.rounds) for name in names]
    print()
    for line in _table([_HEADINGS, *(row.cells() for row in rows)]):
        print(line)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="archive or folder in ZESHEL's format")
    parser.add_argument("--model", type=Path, required=True, help="directory of a pretrained BERT, with vocab.txt")
    parser.add_argument("--seconds", type=float, default=20, help="approximate time of each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each side")
    parser.add_argument(
        "--stage", action="append", choices=list(STAGES), help="measure only this stage; may be repeated"
    )
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="precision of our side")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N, for both sides")
    parser.add_argument(
        "--type_optimization",
        choices=["all_encoder_layers", "all"],
        default="all_encoder_layers",
        help="type_optimization of both sides",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting, for both sides if the comparator has it",
    )
    parser.add_argument("--scratch", type=Path, help="directory for temporary files; default: the system's")
    return parser.parse_args(arguments)


def _recipe(options: argparse.Namespace) -> Recipe:
    names = ("precision", "device", "type_optimization")
    settings = {name: getattr(options, name) for name in names}
    settings |= {"pooling": "cls", "similarity": "dot", "train_candidates": None}  # as the comparator does
    settings |= {"learning_rate": 1e-5}
    return build_recipe("recommended", settings, dict(item.split("=", 1) for item in options.set))


def _facts(options: argparse.Namespace, recipe: Recipe) -> Iterator[str]:
    device = chosen_device(options.device)
    yield from machine_facts(device)
    yield data_facts(options.data)
    yield commit_facts()
    bi, cross = recipe.train_biencoder, recipe.train_crossencoder
    yield f"precision: comparator fp32, ours {options.precision}"
    yield f"type_optimization: {bi.type_optimization} on both sides"
    yield (
        f"mentions in a step: bi-encoder {bi.train_batch_size}, cross-encoder {cross.train_batch_size} with "
        f"{recipe.eval_biencoder.top_k} candidates each, on both sides"
    )


def _measured(name: str, precision: str, inputs: Inputs, seconds: float, rounds: int) -> Row:
    row = Row(name, precision)
    for turn in range(rounds):
        for side, known in row.measured.items():
            found = in_own_process(measure, name, side, inputs, seconds, known[0].count if known else None)
            known.append(found)
            told = f"{found.items:,} in {found.seconds:.2f} s, {found.items / found.seconds:,.2f}/s"
            print(f"{name}  round {turn + 1}  {side}: {told}", flush=True)
    return row


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *others])


if __name__ == "__main__":
    main()
