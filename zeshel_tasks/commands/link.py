"""``zeshel link``: link the mentions of texts against a knowledge base."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from zeshel_tasks.commands.argument_types import path, run, store
from zeshel_tasks.commands.link_setup import Linking
from zeshel_tasks.commands.outputs import STREAM, check_open_output, check_replaceable
from zeshel_tasks.commands.settings_flags import add_settings_of, given_settings
from zeshel_tasks.compute import telemetry
from zeshel_tasks.compute.disk import full_output_named
from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import LocalPath, S3Address, StoreLocation, store_location
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.logs import log_to_stderr
from zeshel_tasks.text.safe_text import one_line

log = logging.getLogger(__name__)


def add_link_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``link``."""
    parser.add_argument("--store", type=store, metavar="ADDRESS", help="where the knowledge base is (default: --run's)")
    parser.add_argument("--kb", required=True, metavar="NAME", help="the knowledge base; see zeshel kb list")
    models = parser.add_mutually_exclusive_group()
    models.add_argument(
        "--run", type=run, metavar="ADDRESS", help="link with the models of this run (default: champion)"
    )
    models.add_argument(
        "--models", metavar="FINGERPRINT", help="link with the models of this champion, which may be an earlier one"
    )
    parser.add_argument("--text", help='link one text, such as "The [[Batmobile]] left"')
    parser.add_argument(
        "--in",
        dest="source",
        type=_file,
        metavar="ADDRESS",
        help="JSON lines: a file, -, a folder or s3://bucket/prefix/",
    )
    parser.add_argument(
        "--out", dest="target", type=_file, metavar="ADDRESS", help="where to write: a file, -, a folder or a prefix/"
    )
    parser.add_argument(
        "--shard", action="append", metavar="NAME", help="link only this file of the folder (repeatable)"
    )
    parser.add_argument(
        "--plan",
        type=store,
        metavar="FILE",
        help="link nothing: check everything, and write to this file which files of the folder to link with what",
    )
    parser.add_argument("--cache", type=path, metavar="FOLDER", help="keep fetched models and knowledge bases here")
    parser.add_argument("--json", action="store_true", help="with --text, print JSON also to a terminal")
    add_settings_of(parser, LinkConfig)
    parser.set_defaults(command=_link)


@telemetry.exported()
@telemetry.stage("link")
def _link(options: argparse.Namespace) -> None:
    if options.text is not None or options.target == STREAM:
        log_to_stderr()
    _check(options)
    with _cache(options) as cache, scratch_folder() as scratch:
        linking = Linking(
            options.store, options.run, options.kb, dict(given_settings(options)), cache, models=options.models
        )
        if options.text is not None:
            _link_text(linking, options)
        elif options.plan is not None:
            linking.plan(store_location(options.source)).write(store_location(options.plan))
        elif STREAM in (options.source, options.target) or not _is_folder(options.source):
            _link_file(linking, options.source, options.target, scratch)
        else:
            _link_folder(linking, options, scratch)


def _link_text(linking: Linking, options: argparse.Namespace) -> None:
    from io import BytesIO

    from zeshel_tasks.link_files.counts import LinkedCounts

    (line,) = linking.lines(BytesIO(to_json({"text": options.text}).encode()), "--text", LinkedCounts())
    if options.json or not sys.stdout.isatty():
        _write_out(line)
    else:
        print_links(json.loads(line)["links"])


def print_links(links: list[Mapping[str, Any]]) -> None:
    """Print links as a table."""
    from rich.box import SIMPLE
    from rich.table import Table

    from zeshel_tasks.commands.table_console import TableConsole

    table = Table(box=SIMPLE)
    for column in ("mention", "entity", "id", "probability", "none of them", "best candidate"):
        table.add_column(column, justify="right" if column in ("probability", "none of them") else "left")
    for link in links:
        entity = ("NIL", "") if link["nil"] else (one_line(link["title"]), one_line(link["id"]))
        rates = (_percent(link[rate]) for rate in ("probability", "nil_probability"))
        best = one_line(link["candidates"][0]["title"])
        table.add_row(one_line(link["mention"]), *entity, *rates, best if link["nil"] else "")
    TableConsole(piped_width=120).print(table)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _link_file(linking: Linking, source: str, target: str, scratch: Path) -> None:
    from zeshel_tasks.link_files.counts import LinkedCounts
    from zeshel_tasks.link_files.shards import file_at

    counts = LinkedCounts()
    if source == STREAM:
        if sys.stdin is None:  # Python's value for one that is closed
            raise ConfigError("--in: expected an open standard input for -, got a closed one")
        stream, name = sys.stdin.buffer, "--in"
    else:
        given = file_at(store_location(source))
        stream, name = given.fetched(scratch).open("rb"), given.location.name
    with stream:
        lines = linking.lines(stream, name, counts)
        if target == STREAM:
            for line in lines:
                _write_out(line)
        else:
            made = file_at(_resolved(store_location(target)))
            unfinished = scratch / "unfinished"
            _write_file(lines, unfinished)
            made.store.upload(unfinished, made.name)


def _link_folder(linking: Linking, options: argparse.Namespace, scratch: Path) -> None:
    from zeshel_tasks.link_files.counts import LinkedCounts
    from zeshel_tasks.link_files.shards import link_shards, shard_names

    source, target = store_location(options.source), store_location(options.target)
    names = shard_names(source)
    for wanted in options.shard or ():
        if wanted not in names:
            raise ConfigError(f"--shard: expected a file of {source.name}, got {wanted}")

    def link(given: Path, name: str, made: Path) -> LinkedCounts:
        counts = LinkedCounts()
        with given.open("rb") as stream:
            _write_file(linking.lines(stream, name, counts), made)
        return counts

    for name in link_shards(source, target, options.shard or names, linking.identities, link, scratch):
        log.info("%s is finished", name)


def _write_file(lines: Iterator[bytes], to: Path) -> None:
    with to.open("wb") as file:
        file.writelines(lines)


def _write_out(line: bytes) -> None:
    with full_output_named():
        sys.stdout.buffer.write(line)


def _check(options: argparse.Namespace) -> None:
    """Check what argparse cannot."""
    files = (options.source, options.target)
    if (options.text is None) == (files == (None, None)):
        raise ConfigError(
            "--text: expected either --text, or --in and --out, got " + ("neither" if options.text is None else "both")
        )
    if options.text is None and None in files:
        missing = "--in" if options.source is None else "--out"
        raise ConfigError(f"{missing}: expected a file, a folder, s3://bucket/key or -, got none")
    if options.target == STREAM:
        check_open_output()
    if options.text is not None or STREAM in files:
        if options.shard:
            raise ConfigError("--shard: expected --in with a folder, got none")
        if options.plan is not None:
            raise ConfigError("--plan: expected --in with a folder, got none")
        if options.target not in (None, STREAM):
            _check_replaceable(options.target)
        return
    if _is_folder(options.source) != (_is_folder(options.target) or _may_become_folder(options)):
        raise ConfigError(f"--out: expected a folder or prefix/ exactly if --in is one, got {options.target}")
    if _place(options.source) == _place(options.target):
        raise ConfigError(f"--out: expected another place than --in, got {options.target}")
    if not _is_folder(options.source):
        if options.plan is not None:
            raise ConfigError(f"--plan: expected --in with a folder, got {options.source}")
        _check_replaceable(options.target)


def _check_replaceable(target: str) -> None:
    location = store_location(target)
    if isinstance(location, LocalPath):
        check_replaceable(location.path)


def _resolved(location: StoreLocation) -> StoreLocation:
    """The same place without symbolic links: a finished file takes the place of what its name is."""
    return replace(location, path=location.path.resolve()) if isinstance(location, LocalPath) else location


def _place(address: str) -> tuple[object, ...]:
    location = store_location(address)
    return (location.path.resolve(),) if isinstance(location, LocalPath) else (location.bucket, location.key)


def _may_become_folder(options: argparse.Namespace) -> bool:
    location = store_location(options.target)
    return _is_folder(options.source) and isinstance(location, LocalPath) and not location.path.exists()


def _is_folder(address: str) -> bool:
    """A local folder, or a prefix of S3, whose address ends with a slash as in other settings."""
    location = store_location(address)
    if isinstance(location, S3Address):
        return address.endswith("/") or not location.key
    return location.path.is_dir() or address.endswith("/")


def _file(text: str) -> str:
    return text if text == STREAM else store(text)


@contextmanager
def _cache(options: argparse.Namespace) -> Iterator[Path]:
    if options.cache is None:
        with scratch_folder() as folder:
            yield folder
    else:
        try:
            options.cache.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"--cache: expected a folder, got {options.cache}: {error}") from error
        yield options.cache
