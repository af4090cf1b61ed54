"""``zeshel import-wiki``: the dump of a MediaWiki becomes a world."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from zeshel_tasks.commands.argument_types import count, parsed, path, store
from zeshel_tasks.commands.import_flags import add_split_flags, world
from zeshel_tasks.location import LocalPath, store_location

_DEFAULT_PROCESSES = 2


def add_wiki_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``import-wiki``."""
    usage = "pages-articles XML, all files of one wiki, local or s3://, may be compressed"
    parser.add_argument("dumps", nargs="+", type=store, metavar="DUMP", help=usage)
    parser.add_argument("--world", required=True, type=world, metavar="NAME", help="name of the world")
    parser.add_argument("--out", required=True, type=store, metavar="ADDRESS", help="a folder or s3://bucket/prefix")
    parser.add_argument(
        "--namespaces", nargs="+", type=count, default=[0], metavar="N", help="whose pages are entities (default: 0)"
    )
    parser.add_argument(
        "--exact_share",
        type=_share,
        default=0.05,
        metavar="SHARE",
        help="of the mentions that may be equal to their title; a seeded sample of them stays (default: 0.05)",
    )
    add_split_flags(parser)
    parser.add_argument(
        "--work", type=path, metavar="DIR", help="folder for parsed pages, which the import of a later dump reuses"
    )
    parser.add_argument(
        "--processes", type=_processes, default=_DEFAULT_PROCESSES, help="that parse at the same time (default: 2)"
    )
    parser.set_defaults(command=_import_wiki)


def _import_wiki(options: argparse.Namespace) -> None:
    from zeshel_tasks.importing.inputs import input_at
    from zeshel_tasks.importing.publish import publish_data_set
    from zeshel_tasks.importing.wiki.world import WikiSettings, make_world
    from zeshel_tasks.pipeline.contract import scratch_space
    from zeshel_tasks.report.wiki_report import write_wiki_report

    settings = WikiSettings(
        world=options.world,
        namespaces=tuple(options.namespaces),
        exact_share=options.exact_share,
        shares=options.shares,
        split_by=options.split_by,
        seed=options.seed,
        processes=options.processes,
    )
    with scratch_space() as scratch:
        for name in ("inputs", "import", "publish"):
            (scratch / name).mkdir()
        dumps = [input_at(address, scratch / "inputs") for address in options.dumps]
        work = options.work or _beside(options.out) or scratch / "parsed"
        data = scratch / "data"
        summary = make_world(dumps, settings, data, work, scratch / "import")
        write_wiki_report(summary, data / "report")
        publish_data_set(options.out, data, scratch / "publish")
        if options.work is None:
            shutil.rmtree(work)
    splits = ", ".join(f"{split} {number:,}" for split, number in summary.splits.items())
    print(f"{options.world}: {summary.entities.count:,} entities, mentions: {splits}")


def _beside(out: str) -> Path | None:
    """Where parsed pages lie until the import has ended, so that another attempt finds them."""
    location = store_location(out)
    if not isinstance(location, LocalPath):
        return None
    folder = location.path.absolute()
    return folder.with_name(f".{folder.name[:100]}-parsed")


def _processes(text: str) -> int:
    number = count(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected at least 1 process, got 0")
    return number


def _share(text: str) -> float:
    return parsed(text, _share_of)


def _share_of(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("expected a share from 0 to 1")
    return share
