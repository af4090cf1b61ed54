"""``zeshel cut-worlds`` and ``zeshel encode-shard``: encode the entities of large worlds on many machines."""

from __future__ import annotations

import argparse
import logging
import time

from zeshel_tasks.commands.settings_flags import add_recipe, add_stage_settings, recipe_of
from zeshel_tasks.compute import telemetry
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.world_shards import large_worlds, shard_names, shard_of_name
from zeshel_tasks.store import open_run

log = logging.getLogger(__name__)

_EVALUATION = STAGES["eval-biencoder"]


def add_cut_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``cut-worlds``, besides ``--run``."""
    _add_settings(parser)
    parser.set_defaults(command=_cut)


def add_encode_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``encode-shard``, besides ``--run``."""
    parser.add_argument(
        "--shard",
        action="append",
        required=True,
        metavar="WORLD/N",
        help="encode this shard of a world, from 0 (repeatable)",
    )
    _add_settings(parser)
    parser.set_defaults(command=_encode)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    add_stage_settings(parser, _EVALUATION)


@telemetry.exported()
@telemetry.stage("cut-worlds")
def _cut(options: argparse.Namespace) -> None:
    from zeshel_tasks.stages.shard_jobs import cut_worlds

    run, recipe = open_run(options.run), recipe_of(options, prefix=f"{_EVALUATION.settings}.")
    cut_worlds(run, recipe)


@telemetry.exported()
@telemetry.stage("encode-shard")
def _encode(options: argparse.Namespace) -> None:
    started = time.monotonic()
    run, recipe = open_run(options.run), recipe_of(options, prefix=f"{_EVALUATION.settings}.")
    known = set(shard_names(large_worlds(run, recipe.eval_biencoder)))
    for name in options.shard:
        if name not in known:
            raise ConfigError(f"--shard: expected one of {len(known):,} shards such as world/7, got {name}")
    from zeshel_tasks.stages.shard_jobs import encode_shards

    encode_shards(run, recipe, [shard_of_name(name) for name in options.shard])
    log.info("%s took %.1f s", ", ".join(options.shard), time.monotonic() - started)
