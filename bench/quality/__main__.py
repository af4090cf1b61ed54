"""Compares retrievers and linkers on the same mentions of worlds that none of them is trained on.

    python -m bench.quality --data ARCHIVE-or-folder --model DIRECTORY --work DIRECTORY --out FILE.md

Every trained row is a run of the pipeline in the store of the work directory. If the bench is killed, start it again
with the same arguments: it goes on at the last checkpoint. The tables are written anew after each row. Choose by the
valid worlds, which two large train worlds join.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.data_folder import data_folder
from bench.facts import chosen_device, commit_facts, data_facts, machine_facts
from bench.quality.rows import TRAINED, UNTRAINED, Row, row_named, settings_of
from bench.quality.sample import Sample, hard_worlds, world_size
from bench.quality.tables import Result, WorldOf, tables
from bench.quality.trained import SPLITS, Bench
from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.zeshel import Dataset
from zeshel_tasks.text.logs import set_up_logs

_AGAINST = ("exact title match", "BM25", "retriever")
_RIVAL = "entity-linkings 0.3.0, dual encoder"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the tables."""
    options = _options(arguments)
    set_up_logs()
    with tempfile.TemporaryDirectory(prefix="quality-") as scratch:
        data = data_folder(options.data, Path(scratch))
        held_out = hard_worlds(data, options.evaluated) if options.held_out is None else tuple(options.held_out)
        evaluated_valid = options.evaluated if options.evaluated_valid is None else options.evaluated_valid
        sample = Sample(data, held_out, options.evaluated, evaluated_valid, tuple(options.without))
        folders = {count: sample.write(options.work / f"data-{count}", count) for count in options.mentions}
        small = sample.write_small(options.work / "data-small", 256)
    facts, results = list(_facts(options, sample)), []
    evaluated = folders[options.mentions[0]]
    worlds = {split: _world_of(evaluated, split) for split in SPLITS}
    names = dict.fromkeys(world for of_split in worlds.values() for world in of_split.values())
    facts.append(f"entities: {', '.join(f'{world} {world_size(evaluated, world):,}' for world in names)}")
    for result in _results(options, folders, small):
        results.append(result)
        lines = ["```", *facts, "```", "", *tables(results, worlds, options.against)]
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))


def _results(options: argparse.Namespace, folders: dict[int, Path], small: Path) -> Iterator[Result]:
    settings = {"bert_model": str(options.model)} | settings_of(options.set)
    bench = Bench(options.work / "store", options.preset, settings, _limits(options), small)
    for row in UNTRAINED:
        yield _measured(bench, row, folders[options.mentions[0]], None)
    for count, folder in folders.items():
        minutes = None
        for row in map(row_named, options.row):
            result = _measured(bench, row, folder, count)
            minutes = minutes or result.minutes
            yield result
        if options.rival_python and minutes:
            yield _rival(options, folder, count, minutes)


def _measured(bench: Bench, row: Row, data: Path, count: int | None) -> Result:
    name = f"{count or 'untrained'}-{''.join(filter(str.isalnum, row.name))}"
    found = bench.measured(row, name, data, count or 0)
    if isinstance(found, str):
        return Result(row.name, {}, count, note=found)
    known = Result(row.name, found.ranks, hours=found.seconds / 3600, candidates=found.candidates)
    if count is None:
        return known
    epochs = ", ".join(map(str, found.epochs))
    return replace(known, mentions=count, epochs=epochs, minutes=found.training_seconds / 60)


def _rival(options: argparse.Namespace, data: Path, count: int, minutes: float) -> Result:
    """Train the rival for the given minutes, or read what an earlier start of the bench found."""
    out = options.work / f"rival-{count}-{minutes:.1f}.json"
    if not out.exists():
        command = [options.rival_python, Path(__file__).with_name("rival.py"), data, options.model]
        subprocess.run([*map(str, command), str(60 * minutes), str(out), *options.rival_options.split()], check=True)
    found = json.loads(out.read_text())
    return Result(
        _RIVAL, found["ranks"], count, f"{found['epochs']:.1f}", found["seconds"] / 60, found["all_seconds"] / 3600
    )


def _limits(options: argparse.Namespace) -> dict[str, float]:
    limits = {"train_biencoder": options.minutes, "train_crossencoder": options.crossencoder_minutes}
    return {stage: minutes for stage, minutes in limits.items() if minutes is not None}


def _world_of(data: Path, split: Split) -> WorldOf:
    return {mention.mention_id: mention.world for mention in Dataset(data).mentions(split)}


def _facts(options: argparse.Namespace, sample: Sample) -> Iterator[str]:
    yield time.strftime("%Y-%m-%d", time.gmtime())
    yield f"python -m bench.quality {shlex.join(options.arguments)}"
    yield from machine_facts(chosen_device("auto"))
    yield data_facts(options.data)
    yield commit_facts()
    yield f"train worlds held out for valid: {', '.join(sample.held_out) or 'none'}"
    for stage, minutes in _limits(options).items():
        yield f"{stage}: as many epochs as fit into {minutes:g} minutes, at most those of the preset"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="archive or folder in ZESHEL's format")
    parser.add_argument("--model", type=Path, required=True, help="directory of a pretrained BERT")
    parser.add_argument("--work", type=Path, required=True, help="directory for data sets, artifacts and checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="file for the tables")
    parser.add_argument("--mentions", type=int, nargs="+", default=[650, 2600, 10_000], help="train mentions")
    parser.add_argument("--evaluated", type=int, default=600, help="mentions of each test world")
    parser.add_argument("--evaluated_valid", type=int, help="mentions of each valid world; default: as --evaluated")
    parser.add_argument("--without", nargs="*", default=[], metavar="WORLD", help="train worlds to leave out")
    parser.add_argument(
        "--held_out", nargs="*", metavar="WORLD",
        help="train worlds that join the valid worlds; default: the two with the fewest mentions of those with 2,000 "
        "entities and enough mentions",
    )  # fmt: skip
    parser.add_argument("--preset", default="recommended")
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.SETTING=VALUE", help="for all rows")
    parser.add_argument(
        "--row", action="append", metavar="ROW[ with STAGE.SETTING=VALUE,...]",
        help=f"measure only this row; may be repeated. Rows: {', '.join(row.name for row in TRAINED)}",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, help="most minutes of bi-encoder training; default: no limit")
    parser.add_argument("--crossencoder_minutes", type=float, help="the same for the cross-encoder")
    parser.add_argument("--against", action="append", default=list(_AGAINST), help="show gains over this row, too")
    parser.add_argument("--rival_python", help="Python with entity-linkings; it trains as long as the first row")
    parser.add_argument("--rival_options", default="", help="options of bench/quality/rival.py")
    options = parser.parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    options.model, options.work = options.model.absolute(), options.work.absolute()
    options.row = options.row or [row.name for row in TRAINED]
    return options


if __name__ == "__main__":
    main()
