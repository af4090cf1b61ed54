"""Measures how well the package uses one GPU, checks its numbers there, and projects the time for all of ZESHEL.

    python -m bench.gpu [--seconds 5] [--compile] [--layers 24 --hidden 1024 --heads 16 --intermediate 4096]

Needs no download: it uses a BERT with the shape of bert-large-uncased and random weights, and random tokens in
sequences of maximum length. It runs the package's own code with the preset ``recommended`` in bf16.
``bench/gpu/flops.py`` describes which FLOP are counted, ``bench/gpu/projection.py`` which work the hours leave out.
Ceilings are measured in the same process.
Exits with 1 if a number is wrong. On a CPU, choose tiny shapes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bench.facts import chosen_device, commit_facts, gpu_facts, machine_facts
from bench.gpu import rows
from bench.gpu.ceilings import Ceiling, copied_bytes_per_second, kinds_on, measure_ceiling
from bench.gpu.numerics import checks
from bench.gpu.projection import Amounts, Rates, table
from bench.gpu.setup import Setup
from bench.gpu.shape import Shape, write_model
from zeshel_tasks.config.stages import Preset
from zeshel_tasks.recipe import build_recipe

_CEILING_SHARE = 0.1  # share of a row's seconds for each product
_HEADINGS = ("row", "with", "items/s", "TFLOP/s", "of ceiling", "goal", "GPU MB")
_AS_IT_IS = ""
_PRESETS: tuple[Preset, ...] = ("blink", "recommended", "best")
Results = dict[tuple[rows.Row, str], rows.Result]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, measure and print. Return the exit code."""
    options = _options(arguments)
    device = chosen_device(options.device)
    for line in (*machine_facts(device), *gpu_facts(device), commit_facts()):
        print(line, flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.scratch) as folder:
        setup = _setup(options, device, Path(folder))
        write_model(setup.shape, setup.model)
        print(f"model: {setup.shape}\n")
        right = _numbers_are_right(setup)
        ceilings = _ceilings(setup, options.seconds)
        results = _results(setup, options, ceilings)
    _print_table([_HEADINGS, *(_cells(row, option, found, ceilings) for (row, option), found in results.items())])
    for preset in _PRESETS:
        print(f"preset {preset}:")
        _print_table(table(_columns(results), Amounts.of(build_recipe(preset))))
    if not right:
        print("numbers are WRONG, see above", flush=True)
    return 0 if right else 1


def _numbers_are_right(setup: Setup) -> bool:
    right = True
    for check in checks(setup):
        print(check.line(), flush=True)
        right &= check.ok
    return right


def _ceilings(setup: Setup, seconds: float) -> dict[str, Ceiling]:
    found: dict[str, Ceiling] = {}
    print()
    for kind in kinds_on(setup.device):
        found[kind] = measure_ceiling(kind, setup.shape, setup.device, seconds * _CEILING_SHARE)
        print(found[kind].line(), flush=True)
    copied = copied_bytes_per_second(setup.device, seconds * _CEILING_SHARE)
    print(f"memory copy: {copied / 1e9:,.4g} GB/s, read and written\n", flush=True)
    return found


def _results(setup: Setup, options: argparse.Namespace, ceilings: dict[str, Ceiling]) -> Results:
    """Measure the package as it is, then options that may be faster. Options that fail are reported and left out."""
    found: Results = {}
    for row, option, changed in _measurements(setup, options.compile):
        try:
            found[row, option] = rows.measured(row, changed, options.seconds)
        except Exception as error:
            if option == _AS_IT_IS:
                raise
            print(f"{row.name}, {option}: not measured: {type(error).__name__}: {error}", flush=True)
            continue
        print("  ".join(_cells(row, option, found[row, option], ceilings)), flush=True)
    print()
    return found


def _measurements(setup: Setup, backend: str | None) -> Iterator[tuple[rows.Row, str, Setup]]:
    yield from ((row, _AS_IT_IS, setup) for row in rows.ROWS)
    dropout = setup.with_settings(attention_dropout=None)
    yield from ((row, "attention dropout", dropout) for row in rows.TRAINING_ROWS)
    yield rows.SEARCH_ON_DEVICE, "vectors on the device", setup
    if backend is not None:
        yield from ((row, "compiled", replace(setup, compiled=backend)) for row in rows.MODEL_ROWS)


def _cells(row: rows.Row, option: str, found: rows.Result, ceilings: dict[str, Ceiling]) -> tuple[str, ...]:
    """Return the cells below :data:`_HEADINGS`."""
    share = found.flop_per_second / ceilings[row.ceiling].best
    return (
        row.name,
        option,
        f"{found.items_per_second:,.2f} {row.items}",
        f"{found.flop_per_second / 1e12:,.4g}",
        f"{share:.1%} of {row.ceiling}",
        "" if row.goal is None else f"{row.goal:.0%}",
        "" if found.peak_gpu_mb is None else f"{found.peak_gpu_mb:,.0f}",
    )


def _columns(results: Results) -> dict[str, Rates]:
    """Return the rates of the package as it is, and the fastest measured rate of each row."""

    def as_it_is(row: rows.Row) -> float:
        return results[row, _AS_IT_IS].items_per_second

    def fastest(row: rows.Row) -> float:
        return max(found.items_per_second for (other, _), found in results.items() if other.name == row.name)

    return {"as it is": _rates(as_it_is), "fastest rows": _rates(fastest)}


def _rates(of: Callable[[rows.Row], float]) -> Rates:
    return Rates(
        train_biencoder=of(rows.TRAIN_BIENCODER),
        encode=of(rows.ENCODE),
        search=of(rows.SEARCH),
        train_crossencoder=of(rows.TRAIN_CROSSENCODER),
        score=of(rows.SCORE),
    )


def _print_table(cells: Iterable[tuple[str, ...]]) -> None:
    everything = list(cells)
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    for first, *others in everything:
        padded = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *padded]))
    print()


def _setup(options: argparse.Namespace, device: torch.device, scratch: Path) -> Setup:
    shape = Shape(options.layers, options.hidden, options.heads, options.intermediate, options.vocabulary)
    sizes = {name: getattr(options, name) for name in ("length", "batch", "encode_batch", "candidates", "entities")}
    return Setup(shape, scratch / "model", scratch, device, **sizes)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="approximate time for each row")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        metavar="BACKEND",
        help="also measure with torch.compile of the towers' layers",
    )
    shape, setup = Shape(), {"length": 128, "batch": 128, "encode_batch": 256, "candidates": 64, "entities": 100_000}
    for name, default in (*vars(shape).items(), *setup.items()):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--scratch", type=Path, help="directory with space for the model; default: the system's temporary directory"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
