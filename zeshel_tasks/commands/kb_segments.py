"""``zeshel kb encode-segment``, and what ``kb build`` and ``kb refresh`` leave to it: encoding on several machines."""

from __future__ import annotations

import argparse
import logging
import time
from itertools import groupby
from typing import Any

from zeshel_tasks.commands.argument_types import entities, record
from zeshel_tasks.compute import telemetry
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.pipeline.world_shards import shard_of_name
from zeshel_tasks.text.safe_text import quoted

log = logging.getLogger(__name__)


def add_change_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags with which a command leaves segments to other machines, or finishes the change afterwards."""
    parser.add_argument("--record", type=record, metavar="NAME", help="name of what several machines change together")
    parser.add_argument(
        "--sharded_from",
        type=entities,
        metavar="N",
        help="only cut more entities than these into segments, for `kb encode-segment` with the same --record; then "
        "run the command again without this (default: encode all entities here)",
    )


def change_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the values of :func:`add_change_flags`.

    Raises:
        ConfigError: ``--sharded_from`` is given without ``--record``.
    """
    if options.sharded_from is not None and options.record is None:
        raise ConfigError("--sharded_from: expected it together with --record, got no --record")
    return {"record": options.record, "sharded_from": options.sharded_from}


def add_encode_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``kb encode-segment``, except ``--store`` and the settings of the encoding."""
    parser.add_argument(
        "--record", type=record, required=True, metavar="NAME", help="what was given to `kb build` or `kb refresh`"
    )
    parser.add_argument(
        "--segment",
        type=_segment,
        action="append",
        required=True,
        metavar="NAME/N",
        help="encode this segment of a knowledge base, from 0 (repeatable)",
    )


def _segment(text: str) -> tuple[str, int]:
    try:
        return shard_of_name(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a segment such as products/7, got {quoted(text)}") from None


@telemetry.exported()
@telemetry.stage("kb-encode-segment")
def encode_segment(options: argparse.Namespace, settings: dict[str, str]) -> None:
    """Encode segments that ``kb build`` or ``kb refresh`` has cut. Those that are encoded are left as they are."""
    from zeshel_tasks.knowledge_base.cuts import encode_segments
    from zeshel_tasks.store import open_store

    started, opened = time.monotonic(), open_store(options.store)
    for name, segments in groupby(options.segment, key=lambda segment: segment[0]):
        numbers = [number for _, number in segments]
        encoded = encode_segments(opened, name, options.record, numbers, **settings)
        log.info("%s: %d entities of %d segments encoded", name, encoded, len(numbers))
    log.info("%d segments took %.1f s", len(options.segment), time.monotonic() - started)
