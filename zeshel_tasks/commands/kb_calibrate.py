"""``zeshel kb calibrate``: what the scores mean in one knowledge base, from labelled mentions of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeshel_tasks.commands.argument_types import run, store
from zeshel_tasks.commands.link_setup import Linking
from zeshel_tasks.commands.settings_flags import add_settings_of, given_settings
from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.location import store_location
from zeshel_tasks.text.safe_text import one_line

if TYPE_CHECKING:
    from zeshel_tasks.link_files.labels import LabelledMention
    from zeshel_tasks.linking.linker import Linked
    from zeshel_tasks.linking.own_calibration import FittedOwn, LabelledScores

_SETTINGS = ("device", "offsets", "tokenized", "eval_batch_size", "score_batch_size", "print_interval")
_PROBABILITIES = 0.5, 0.7, 0.9


def add_calibrate_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``kb calibrate``, except ``--store`` and ``--name``."""
    parser.add_argument(
        "--in",
        dest="source",
        required=True,
        type=store,
        metavar="ADDRESS",
        help="JSON lines as of zeshel link, with the id of an entity, or null, in the entity of each mention",
    )
    parser.add_argument(
        "--run", type=run, metavar="ADDRESS", help="calibrate the models of this run (default: the champion)"
    )
    add_settings_of(parser, LinkConfig, _SETTINGS)


def calibrate(options: argparse.Namespace) -> None:
    """Calibrate a knowledge base and print what that is worth.

    Raises:
        ConfigError: there is no champion, run or knowledge base, or the models are of an earlier version.
        DataError: a line is invalid, there are too few or too many mentions, or none of them has another candidate.
        TryAgain: another bi-encoder has encoded the knowledge base in the meantime.
    """
    from zeshel_tasks.knowledge_base.calibrating import set_calibration
    from zeshel_tasks.linking.own_calibration import error_of, fit_own
    from zeshel_tasks.pipeline.contract import scratch_space

    with scratch_space() as scratch:
        settings, cache = dict(given_settings(options)), scratch / "cache"
        linking = Linking(options.store, options.run, options.name, settings, cache, use_own=False)
        calibrations = linking.models.calibrations()
        if calibrations.reranked is None or calibrations.cascade is None:
            raise ConfigError(
                f"expected models with a cascade, got those of run {linking.models.run}, which are of an earlier "
                "version without one: repeat the stage calibrate of that run and name it with --run, or train a new "
                "champion"
            )
        mentions = _mentions(linking, options.source, scratch)
        scores = _scores(mentions, list(linking.linker.link(each.mention for each in mentions)))
        if not len(scores.nil.final) and not len(scores.known.masked().final):
            expected = "a mention whose entity is null, or one with a candidate besides its own entity"
            raise DataError("nothing to compare with", file=options.source, expected=expected, got="neither")
        fitted = fit_own(scores, calibrations.reranked, calibrations.cascade)
        errors = {name: error_of(getattr(fitted, name), scores.known.correct) for name in ("before", "after")}
        figures = {
            "mentions": len(mentions),
            "nil": len(scores.nil.final),
            "accuracy": float(scores.known.correct.mean()),
            **{f"calibration_error_{name}": error for name, error in errors.items()},
        }
        biencoder, models = linking.models.biencoder.manifest.fingerprint, linking.models.fingerprint
        set_calibration(linking.store, linking.name, fitted.calibration, biencoder, models, figures)
    _print(options.name, scores, fitted, errors)


def _mentions(linking: Linking, source: str, scratch: Path) -> list[LabelledMention]:
    from zeshel_tasks.data.json_lines import read_records
    from zeshel_tasks.link_files.labels import labelled_mentions
    from zeshel_tasks.link_files.shards import file_at

    given = file_at(store_location(source))
    records = read_records(given.fetched(scratch), given.location.name)
    reader = linking.reader(given.location.name)
    return _counted(labelled_mentions(records, reader, linking.entities.position), source)


def _counted(mentions: Iterable[LabelledMention], source: str) -> list[LabelledMention]:
    """The mentions, if they are enough and fit into memory."""
    from zeshel_tasks.linking.own_calibration import LEAST_MENTIONS, MOST_MENTIONS

    found = list(islice(mentions, MOST_MENTIONS + 1))
    if len(found) > MOST_MENTIONS:
        raise DataError("too many mentions", file=source, expected=f"at most {MOST_MENTIONS:,}", got="more")
    known = sum(mention.position is not None for mention in found)
    if known < LEAST_MENTIONS:
        expected = f"at least {LEAST_MENTIONS} mentions of entities of the knowledge base"
        raise DataError("too few mentions", file=source, expected=expected, got=f"{known:,}")
    return found


def _scores(mentions: Sequence[LabelledMention], linked: Sequence[Linked]) -> LabelledScores:
    """The scores in arrays. The mentions of a line stay together when the calibration is measured."""
    import numpy as np

    from zeshel_tasks.linking.fit_calibration import RankedScores
    from zeshel_tasks.linking.own_calibration import LabelledScores

    width = max(len(found.positions) for found in linked)

    def padded(values: Sequence[Any]) -> Any:
        table = np.full((len(values), width), -np.inf, dtype=np.float32)
        for row, scores in enumerate(values):
            table[row, : len(scores)] = scores
        return table

    gold = np.full(len(linked), -1, dtype=np.int32)
    for row, (mention, found) in enumerate(zip(mentions, linked, strict=True)):
        columns = np.flatnonzero(found.positions == (-1 if mention.position is None else mention.position))
        gold[row] = columns[0] if len(columns) else -1
    everything = RankedScores(
        padded([found.final for found in linked]),
        padded([found.retrieval for found in linked]),
        padded([found.crossencoder for found in linked]),
        gold,
        np.array([mention.line for mention in mentions], dtype=np.int32),
    )
    has_entity = np.array([mention.position is not None for mention in mentions])
    return LabelledScores(everything.of(has_entity), everything.of(~has_entity))


def _print(name: str, scores: LabelledScores, fitted: FittedOwn, errors: dict[str, float]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from zeshel_tasks.commands.table_console import TableConsole
    from zeshel_tasks.linking.reliability import at_threshold

    known, nil, correct = len(scores.known.final), len(scores.nil.final), scores.known.correct
    print(one_line(f"{name}: calibrated with {known:,} mentions that have an entity and {nil:,} that have none"))
    print(f"{correct.mean():.1%} of the first are linked correctly. By cross-validation:")
    table = Table(box=SIMPLE)
    for column in ("calibration", "error", *(f"precision at {each:g}" for each in _PROBABILITIES)):
        table.add_column(column, justify="left" if column == "calibration" else "right")
    for label, key in (("of the models", "before"), ("own", "after")):
        found = [at_threshold(getattr(fitted, key), correct, least) for least in _PROBABILITIES]
        cells = ("–" if at.precision is None else f"{at.precision:.1%} of {at.linked:.1%}" for at in found)
        table.add_row(label, f"{errors[key]:.1%}", *cells)
    TableConsole(piped_width=120).print(table)
