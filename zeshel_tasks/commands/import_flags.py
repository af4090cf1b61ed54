"""The flags of ``zeshel import-entities`` and ``zeshel import-mentions``."""

from __future__ import annotations

import argparse

from zeshel_tasks.commands.argument_types import parsed, store
from zeshel_tasks.importing.bad_rows import MaxSkipped
from zeshel_tasks.importing.entity_columns import COLUMNS, REQUIRED
from zeshel_tasks.importing.entity_formats import ENTITY_FORMATS, EntitySettings, entity_reader
from zeshel_tasks.importing.publish import world_name


def add_entity_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``import-entities``."""
    _add_inputs(parser)
    add_format_flags(parser)
    parser.add_argument("--world", required=True, type=_world, metavar="NAME", help="name of the world")
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


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=store, metavar="IN", help="files, local or s3://, may be compressed")
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


def _world(text: str) -> str:
    return parsed(text, world_name)


def _max_skipped(text: str) -> MaxSkipped:
    return parsed(text, MaxSkipped.parse)


def _import_entities(options: argparse.Namespace) -> None:
    from zeshel_tasks.importing.entities import import_entities

    reader = entity_reader(options.format, entity_settings(options))
    done = import_entities(options.inputs, reader, options.out, options.world, options.max_skipped)
    print(f"{options.world}: {done.used:,} entities, {done.skipped:,} rows skipped")
