"""Cuts the large worlds of a run into shards, and encodes some of the shards, ahead of the stages that need them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.pipeline.contract import scratch_space
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.pipeline.lineage import read_inputs
from zeshel_tasks.pipeline.world_shards import ENCODINGS, large_worlds, shards_of_world
from zeshel_tasks.stages.cut_world import cut_world
from zeshel_tasks.store import Run


def cut_worlds(run: Run, recipe: Recipe) -> None:
    """Cuts all worlds that are encoded in shards, unless that has been done."""
    with _job(run, recipe, "download") as job:
        for world, shards in large_worlds(run, recipe.eval_biencoder).items():
            cut_world(job, world, shards)


def encode_shards(run: Run, recipe: Recipe, shards: Iterable[tuple[str, int]]) -> None:
    """Encodes shards, given their worlds and numbers, unless that has been done."""
    from zeshel_tasks.stages.encode_world import encoded_shard, loader  # imports torch, which cutting does not need

    config = recipe.eval_biencoder
    with _job(run, recipe, "download", "train-biencoder") as job:
        load = loader(job, config)
        for world, shard in shards:
            made = cut_world(job, world, shards_of_world(job.inputs["download"].manifest, world, config))
            encoded_shard(job, world, made, shard, config, load)


@contextmanager
def _job(run: Run, recipe: Recipe, *inputs: str) -> Iterator[Job]:
    """A job that makes only artifacts for later stages."""
    with scratch_space() as scratch:
        found = read_inputs(run, inputs, (), scratch / "cache")
        yield Job(run, recipe, found, Target(ENCODINGS, None, {}, {}), scratch)
