"""The flags of ``zeshel import-entities`` and ``zeshel import-mentions``."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from pathlib import Path
from typing import get_args

from zeshel_tasks.commands.argument_types import parsed, path, seed, store
from zeshel_tasks.commands.outputs import STREAM, check_open_output, with_folder
from zeshel_tasks.compute.disk import full_output_named
from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.config.splits import DEFAULT_SHARES, SPLITS, Shares, Split
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.importing.annotated import Match
from zeshel_tasks.importing.bad_rows import MaxSkipped
from zeshel_tasks.importing.entity_columns import COLUMNS, REQUIRED
from zeshel_tasks.importing.entity_formats import ENTITY_FORMATS, EntitySettings, entity_reader
from zeshel_tasks.importing.mention_formats import MENTION_FORMATS, mention_source
from zeshel_tasks.importing.offsets import OffsetUnit
from zeshel_tasks.importing.publish import world_name
from zeshel_tasks.importing.splits import SplitBy
from zeshel_tasks.text.logs import log_to_stderr

log = logging.getLogger(__name__)


def add_entity_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``import-entities``."""
    _add_inputs(parser)
    add_format_flags(parser)
    parser.add_argument("--world", required=True, type=world, metavar="NAME", help="name of the world")
    add_max_skipped(parser)
    parser.set_defaults(command=_import_entities)


def add_format_flags(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the flags that say what the files of a knowledge base look like, for :func:`entity_settings`."""
    formats = "; ".join(f"{name}: {found.summary}" for name, found in ENTITY_FORMATS.items())
    usage = formats if default is None else f"{formats} (default: {default})"
    required = default is None
    parser.add_argument("--format", required=required, default=default, choices=list(ENTITY_FORMATS), help=usage)
    for part in COLUMNS:
        usage = f"column of the entity's {part}{'' if part in REQUIRED else ', if any'}"
        parser.add_argument(f"--{part}", metavar="COLUMN", help=usage)
    parser.add_argument(
        "--template", metavar="TEXT", help="text of an entity without one; {title}, {aliases} or {COLUMN} is replaced"
    )
    parser.add_argument("--separator", help="separates aliases and types in one string (default for tables: |)")
    parser.add_argument("--delimiter", metavar="CHARACTER", help="between the fields of csv (default: ,)")
    parser.add_argument("--language", help="of the names in wikidata (default: en)")


def entity_settings(options: argparse.Namespace) -> EntitySettings:
    """The settings that the flags give."""
    names = {part: name for part in COLUMNS if (name := getattr(options, part)) is not None}
    return EntitySettings(names, options.template, options.separator, options.delimiter, options.language)


def add_mention_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``import-mentions``."""
    _add_inputs(parser, "*")
    for split in SPLITS:
        parser.add_argument(f"--{split}", nargs="+", default=[], type=store, metavar="IN", help=f"files for {split}")
    parser.add_argument("--entities", required=True, type=store, metavar="ADDRESS", help="the --out of import-entities")
    formats = "; ".join(f"{name}: {found.summary}" for name, found in MENTION_FORMATS.items())
    parser.add_argument("--format", required=True, choices=list(MENTION_FORMATS), help=formats)
    parser.add_argument("--world", type=world, metavar="NAME", help="world of texts that name none")
    golds = "; ".join(f"{name}: {', '.join(found.golds)}" for name, found in MENTION_FORMATS.items())
    parser.add_argument("--gold", metavar="FIELD", help=f"where the entity is; the first is the default. {golds}")
    parser.add_argument("--match", choices=get_args(Match), help="what this field has of the entity")
    parser.add_argument("--offsets", choices=get_args(OffsetUnit), help="unit of the offsets (default: the format's)")
    parser.add_argument("--nil_if_unknown", action="store_true", help="unknown entities and missing labels mean NIL")
    add_split_flags(parser)
    add_max_skipped(parser)
    parser.set_defaults(command=_import_mentions)


def add_split_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that decide about the splits of mentions."""
    parser.add_argument(
        "--shares",
        type=_shares,
        default=DEFAULT_SHARES,
        metavar="SPLIT=SHARE,...",
        help="of mentions without a split of their own (default: train=0.8,valid=0.1,test=0.1)",
    )
    parser.add_argument("--split_by", choices=get_args(SplitBy), default="document", help="what stays in one split")
    parser.add_argument("--seed", type=seed, default=7)


def add_mention_export_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``export-mentions``."""
    parser.add_argument("data", type=store, metavar="DATA", help="a data set of import-mentions: a folder or s3://")
    parser.add_argument("--out", required=True, type=path, metavar="FILE", help="the file to write (.jsonl), or -")
    parser.set_defaults(command=_export_mentions)


def _add_inputs(parser: argparse.ArgumentParser, number: str = "+") -> None:
    usage = "files, local or s3://, may be compressed"
    parser.add_argument("inputs", nargs=number, type=store, metavar="IN", help=usage)
    parser.add_argument("--out", required=True, type=store, metavar="ADDRESS", help="a folder or s3://bucket/prefix")


def add_max_skipped(parser: argparse.ArgumentParser) -> None:
    """Add ``--max_skipped``."""
    parser.add_argument(
        "--max_skipped",
        type=_max_skipped,
        default=MaxSkipped(),
        metavar="NUMBER",
        help="how many rows that cannot be used may be skipped, or a share such as 1%% (default: 0)",
    )


def world(text: str) -> str:
    """Check the name of a world."""
    return parsed(text, world_name)


def _max_skipped(text: str) -> MaxSkipped:
    return parsed(text, MaxSkipped.parse)


def _shares(text: str) -> Shares:
    return parsed(text, Shares.parse)


def _import_entities(options: argparse.Namespace) -> None:
    from zeshel_tasks.importing.entities import import_entities

    reader = entity_reader(options.format, entity_settings(options))
    done = import_entities(options.inputs, reader, options.out, options.world, options.max_skipped)
    print(f"{options.world}: {done.used:,} entities, {done.skipped:,} rows skipped")


def _import_mentions(options: argparse.Namespace) -> None:
    from zeshel_tasks.importing.mentions import MentionSettings, import_mentions

    sources: list[tuple[str, Split | None]] = [(address, None) for address in options.inputs]
    sources += [(address, split) for split in SPLITS for address in getattr(options, split)]
    if not sources:
        raise ConfigError("IN: expected at least one file, got none")
    settings = MentionSettings(
        source=mention_source(options.format, options.gold, options.match, options.offsets),
        world=options.world,
        nil_if_unknown=options.nil_if_unknown,
        shares=options.shares,
        split_by=options.split_by,
        seed=options.seed,
        max_skipped=options.max_skipped,
    )
    done = import_mentions(sources, options.entities, options.out, settings)
    counts = ", ".join(f"{split} {count:,}" for split, count in done.mentions.items())
    print(f"mentions: {counts}; without an entity: {done.nil:,}; skipped: {done.skipped:,}")
    for reason, count in done.left_out.items():
        print(f"left out {count:,} texts: {reason}")


def _export_mentions(options: argparse.Namespace) -> None:
    from zeshel_tasks.importing.export import export_mentions

    if options.out != Path(STREAM):
        print(f"{export_mentions(options.data, with_folder(options.out)):,} texts")
        return
    log_to_stderr()
    check_open_output()
    with scratch_folder() as scratch:
        count = export_mentions(options.data, scratch / "mentions.jsonl")
        with (scratch / "mentions.jsonl").open("rb") as file, full_output_named():
            shutil.copyfileobj(file, sys.stdout.buffer)
    log.info("%s texts", f"{count:,}")
