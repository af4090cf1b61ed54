"""``zeshel kb``: build, change, list and delete knowledge bases."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeshel_tasks.commands.argument_types import path, run, store
from zeshel_tasks.commands.import_flags import add_format_flags, add_max_skipped, entity_settings
from zeshel_tasks.commands.kb_calibrate import add_calibrate_flags, calibrate
from zeshel_tasks.commands.kb_index import add_index_flags, index
from zeshel_tasks.commands.kb_segments import add_change_flags, add_encode_flags, change_options, encode_segment
from zeshel_tasks.compute import telemetry
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError, TryAgain, ZeshelError
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.safe_text import one_line

if TYPE_CHECKING:
    from zeshel_tasks.data.zeshel import Document
    from zeshel_tasks.knowledge_base.changes import Changed
    from zeshel_tasks.knowledge_base.head import Encoding, Head
    from zeshel_tasks.store import Store

log = logging.getLogger(__name__)

_MAX_IDS_BYTES = 256 * 2**20

Commands = Any  # of argparse: the subcommands of a parser


def add_kb_commands(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of ``zeshel kb``."""
    commands = parser.add_subparsers(required=True, metavar="ACTION", parser_class=type(parser))
    build = _add(commands, "build", "Encode entities as a new knowledge base, or as the new content of one.", _build)
    _add_entities(build)
    _add_run(build)
    add_change_flags(build)
    added = _add(commands, "add", "Add entities, and replace those that have changed. Encodes only these.", _add_new)
    _add_entities(added)
    remove = _add(commands, "remove", "Remove entities.", _remove)
    remove.add_argument("ids", nargs="*", metavar="ID", help="ids of entities")
    remove.add_argument("--file", type=path, metavar="FILE", help="a file with an id on each line")
    refresh = _add(
        commands, "refresh", "Encode all entities again, with the champion's bi-encoder.", _refresh, named=False
    )
    which = refresh.add_mutually_exclusive_group(required=True)
    which.add_argument("--name", help="name of the knowledge base")
    which.add_argument("--all", action="store_true", help="refresh all knowledge bases of the store")
    _add_run(refresh)
    _add_options(refresh)
    add_change_flags(refresh)
    encode = _add(
        commands, "encode-segment", "Encode segments of a large knowledge base.", _encode_segment, named=False
    )
    add_encode_flags(encode)
    _add_options(encode)
    _add(commands, "compact", "Merge small segments and drop what was removed. Encodes nothing.", _compact)
    calibrated = _add(
        commands, "calibrate", "Fit what scores mean in a knowledge base, on labelled mentions.", calibrate
    )
    add_calibrate_flags(calibrated)
    add_index_flags(_add(commands, "index", "Make an index with which a service searches a large one.", index))
    show = _add(commands, "show", "Show a knowledge base and its segments.", _show)
    show.add_argument("--json", action="store_true", help="print everything as JSON")
    _add(commands, "delete", "Delete a knowledge base.", _delete)
    _add(commands, "list", "List the knowledge bases of a store.", _list, named=False)


def _add(commands: Commands, name: str, summary: str, command: Any, *, named: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument(
        "--store", required=True, type=store, metavar="ADDRESS", help="a directory or s3://bucket/prefix"
    )
    if named:
        parser.add_argument("--name", required=True, help="name of the knowledge base")
    parser.set_defaults(command=command)
    return parser


def _add_entities(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=store, metavar="IN", help="files, local or s3://, may be compressed")
    add_format_flags(parser, default="zeshel")
    add_max_skipped(parser)
    _add_options(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    models = parser.add_mutually_exclusive_group()
    models.add_argument(
        "--run", type=run, metavar="ADDRESS", help="take the bi-encoder of this run (default: the champion's)"
    )
    models.add_argument(
        "--models", metavar="FINGERPRINT", help="take the bi-encoder of this champion, which may be an earlier one"
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Add the settings of the encoding that do not change its result."""
    parser.add_argument("--encode_batch_size", help="entities per encoding batch (default: 256)")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: auto)")


@telemetry.exported()
@telemetry.stage("kb-build")
def _build(options: argparse.Namespace) -> None:
    from zeshel_tasks.knowledge_base.changes import build

    opened = _store(options)
    encoding = _encoding(opened, options)
    given = {**_options(options), **change_options(options)}
    with _documents(options) as documents:
        _print(options.name, build(opened, options.name, documents, encoding, **given))


@telemetry.exported()
@telemetry.stage("kb-add")
def _add_new(options: argparse.Namespace) -> None:
    from zeshel_tasks.knowledge_base.changes import add

    with _documents(options) as documents:
        _print(options.name, add(_store(options), options.name, documents, **_options(options)))


def _remove(options: argparse.Namespace) -> None:
    from zeshel_tasks.knowledge_base.changes import remove

    ids = [*options.ids, *(() if options.file is None else _ids_of(options.file))]
    if not ids:
        raise ConfigError("expected ids of entities, or --file with an id on each line, got none")
    _print(options.name, remove(_store(options), options.name, ids))


@telemetry.exported()
@telemetry.stage("kb-refresh")
def _refresh(options: argparse.Namespace) -> None:
    from zeshel_tasks.knowledge_base.head import names

    opened = _store(options)
    chosen = sorted(names(opened)) if options.all else [options.name]
    if not chosen:
        print(_no_bases(opened))
        return
    encoding = _encoding(opened, options)
    problems: list[ZeshelError] = []
    for name in chosen:
        try:
            changed = _refreshed(opened, name, encoding, options)
            if changed is not None:
                _print(name, changed)
        except ZeshelError as error:  # the others are refreshed nevertheless
            problems.append(error)
            if len(chosen) > 1:
                log.error("%s: %s", name, error)
    if problems:
        raise next((error for error in problems if isinstance(error, TryAgain)), problems[0])


def _refreshed(opened: Store, name: str, encoding: Encoding, options: argparse.Namespace) -> Changed | None:
    """Refreshes a knowledge base. Returns None if it was one of all and has been deleted in the meantime."""
    from zeshel_tasks.knowledge_base.changes import refresh
    from zeshel_tasks.knowledge_base.head import KnowledgeBase

    try:
        return refresh(opened, name, encoding, **_options(options), **change_options(options))
    except ConfigError:
        if not options.all or KnowledgeBase.read(opened, name).exists:
            raise
    log.info("%s: deleted in the meantime", name)
    return None


def _encode_segment(options: argparse.Namespace) -> None:
    encode_segment(options, _options(options))


@telemetry.exported()
@telemetry.stage("kb-compact")
def _compact(options: argparse.Namespace) -> None:
    from zeshel_tasks.knowledge_base.changes import compact

    _print(options.name, compact(_store(options), options.name))


def _delete(options: argparse.Namespace) -> None:
    from zeshel_tasks.knowledge_base.changes import delete

    delete(_store(options), options.name)
    print(one_line(f"{options.name}: deleted; the next `zeshel gc` frees its space"))


def _list(options: argparse.Namespace) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from zeshel_tasks.commands.table_console import TableConsole
    from zeshel_tasks.knowledge_base.head import KnowledgeBase, names

    opened = _store(options)
    table = Table(box=SIMPLE)
    for column in ("name", "entities", "segments", "bi-encoder", "fingerprint", "changed"):
        table.add_column(column, justify="right" if column in ("entities", "segments") else "left", no_wrap=True)
    broken = None
    for name in sorted(names(opened)):
        try:
            head = KnowledgeBase.read(opened, name).head
        except CorruptArtifact as error:
            table.add_row(one_line(name), "broken")
            broken = error
        else:
            table.add_row(one_line(name), *_cells(head))
    if not table.row_count:
        print(_no_bases(opened))
        return
    TableConsole(piped_width=160).print(table)
    if broken is not None:
        raise broken


def _show(options: argparse.Namespace) -> None:
    from zeshel_tasks.knowledge_base.head import KnowledgeBase

    head = KnowledgeBase.read(_store(options), options.name).head
    if options.json:
        print(to_json({"name": options.name, "fingerprint": head.fingerprint, **head.model_dump()}, indent=2))
        return
    entities, segments, _, fingerprint, _ = _cells(head)
    lines = {
        "name": options.name,
        "entities": entities,
        "bi-encoder": head.encoding.biencoder,
        "encoded with": ", ".join(head.encoding.settings.values()),
        "fingerprint": fingerprint,
        "calibration": _calibration(head),
        "created": head.created_at,
        "changed": head.changed_at,
        "segments": segments,
    }
    for name, value in lines.items():
        print(one_line(f"{name:<14}{value}"))
    for segment in head.segments:
        what = f"{segment.entities:,} entities" if segment.entities else f"removes {segment.removed:,}"
        print(one_line(f"  {what:<20}{segment.artifact}"))


def _calibration(head: Head) -> str:
    if head.calibration is None:
        return "of the models; `zeshel kb calibrate` makes an own one"
    return f"{head.calibration.mentions:,} mentions, for the models {head.calibration.models[:12]}"


def _no_bases(opened: Store) -> str:
    return one_line(f"no knowledge bases in {opened.address}; make one with `zeshel kb build`")


def _cells(head: Head) -> tuple[str, str, str, str, str]:
    counts = f"{head.entities:,}", f"{len(head.segments):,}"
    return *counts, head.encoding.fingerprint[:12], head.fingerprint[:12], head.changed_at


def _store(options: argparse.Namespace) -> Store:
    from zeshel_tasks.store import open_store

    return open_store(options.store)


def _encoding(opened: Store, options: argparse.Namespace) -> Encoding:
    """The bi-encoder of the champion, or of the run that the user named."""
    from zeshel_tasks.knowledge_base.encoding import encoding_of
    from zeshel_tasks.linking.models import LinkerModels
    from zeshel_tasks.pipeline.contract import scratch_space
    from zeshel_tasks.stages.run_models import models_of_run
    from zeshel_tasks.store import open_run

    with scratch_space() as scratch:
        if options.run is None:
            return encoding_of(LinkerModels.of_champion(opened, scratch, options.models))
        of_run = open_run(options.run)
        if of_run.store.address != opened.address:
            raise ConfigError(f"--run: expected a run of the store {opened.address}, got one of {of_run.store.address}")
        return encoding_of(models_of_run(of_run, scratch))


def _options(options: argparse.Namespace) -> dict[str, Any]:
    found = {name: getattr(options, name) for name in ("encode_batch_size", "device")}
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def _documents(options: argparse.Namespace) -> Iterator[Iterator[Document]]:
    """The entities of the input files."""
    from zeshel_tasks.importing.bad_rows import BadRows
    from zeshel_tasks.importing.entities import read_entities
    from zeshel_tasks.importing.entity_formats import entity_reader
    from zeshel_tasks.importing.inputs import input_at
    from zeshel_tasks.pipeline.contract import scratch_space

    reader = entity_reader(options.format, entity_settings(options))
    with scratch_space() as scratch, BadRows(options.max_skipped, scratch / "skipped.jsonl") as bad:
        copies = scratch / "inputs"
        copies.mkdir()
        inputs = [input_at(source, copies) for source in options.inputs]

        def checked() -> Iterator[Document]:
            used = 0
            for document in read_entities(inputs, reader, scratch, bad):
                used += 1
                yield document
            bad.check_share(used)

        yield checked()


def _ids_of(file: Path) -> list[str]:
    """The ids of a file, one on each line."""
    if not file.is_file():
        raise ConfigError(f"--file: expected a file with an id on each line, got {file}")
    with file.open("rb") as stream:
        data = stream.read(_MAX_IDS_BYTES + 1)
    if len(data) > _MAX_IDS_BYTES:
        raise DataError("too large", file=str(file), expected=f"at most {_MAX_IDS_BYTES:,} bytes")
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", file=str(file), expected="an id on each line", got=str(error)) from error
    return [line for line in (line.removesuffix("\r") for line in lines) if line]


def _print(name: str, changed: Changed) -> None:
    if changed.cut:
        print(one_line(f"{name}: cut into {changed.cut:,} segments; nothing has changed before they are encoded"))
        return
    counts = {"added": changed.added, "changed": changed.updated, "removed": changed.removed}
    done = [f"{count:,} {what}" for what, count in counts.items() if count] or ["nothing added or removed"]
    parts = [*done, f"{changed.encoded:,} encoded"]
    print(one_line(f"{name}: {changed.entities:,} entities ({', '.join(parts)})"))
