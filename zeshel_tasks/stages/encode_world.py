"""Encodes the entities of a world, a large one in shards.

A shard gets the vectors that it would get with the whole world, so it does not matter who makes it: a task of its own,
or a stage that needs it and does not find it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from zeshel_tasks.compute.device import device_name
from zeshel_tasks.config.retrieval import RetrievalConfig
from zeshel_tasks.data.document_file import document_of_line
from zeshel_tasks.data.shards import shard_file
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.evaluation.entity_encoding import TOKENS, VECTORS, EntityEncoder
from zeshel_tasks.pipeline.contract import derived_artifact
from zeshel_tasks.pipeline.job import Job, Target, Work
from zeshel_tasks.pipeline.world_shards import shard_target, shards_of_world, world_target
from zeshel_tasks.stages.cut_world import cut_world
from zeshel_tasks.stages.encoded_world import EncodedWorld, opened_again
from zeshel_tasks.stages.inputs import world_documents, world_size
from zeshel_tasks.store import Artifact, Metrics

LoadEncoder = Callable[[], EntityEncoder]
"""Returns the candidate tower. It is called only if there is something to encode."""


def encoded_world(job: Job, world: str, config: RetrievalConfig, encoder: LoadEncoder) -> EncodedWorld:
    """Returns the encodings of a world. Reuses those of an earlier stage, run, attempt or task.

    Args:
        job: of a stage with the inputs ``download`` and ``train-biencoder``.
        world: its name.
        config: what decides the vectors, and from where on a world is encoded in shards.
        encoder: loads the candidate tower.
    """
    download, biencoder = (job.inputs[name].manifest for name in ("download", "train-biencoder"))
    scratch = job.scratch / "cache"
    shards = shards_of_world(download, world, config)
    if shards == 1:
        target = world_target(download, biencoder, world, config)
        whole = job.inputs["download"]
        work = _encoding(world, world_size(whole, world), lambda: world_documents(whole, world), encoder)
        return EncodedWorld((_derived(job, target, work),), None, scratch)
    made = cut_world(job, world, shards)
    parts = tuple(encoded_shard(job, world, made, shard, config, encoder) for shard in range(shards))
    return EncodedWorld(parts, made, scratch)


def loader(job: Job, config: RetrievalConfig) -> LoadEncoder:
    """Returns what loads the candidate tower of the job's bi-encoder once."""

    @cache
    def load() -> EntityEncoder:
        loaded = EntityEncoder.load(job.inputs["train-biencoder"].directory("model"), config)
        job.device = device_name(loaded.placement)
        return loaded

    return load


def encoded_shard(
    job: Job, world: str, made: Artifact, shard: int, config: RetrievalConfig, encoder: LoadEncoder
) -> Artifact:
    """Encodes one shard of a world, unless that has been done; ``made`` is what :func:`cut_world` returned."""
    target = shard_target(made.manifest, job.inputs["train-biencoder"].manifest, shard, config)

    def work(part: Job) -> Metrics:
        path = opened_again(made, part.scratch / "cut").path(shard_file(shard))
        with path.open("rb") as lines:
            count = sum(1 for _ in lines)
        metrics = _encoding(f"{world}/{shard}", count, lambda: _documents(path), encoder, is_shard=True)(part)
        part.after_commit.append(lambda: shutil.rmtree(part.scratch))  # else the disk would hold all shards
        return metrics

    return _derived(job, target, work)


def _encoding(
    name: str,
    count: int,
    documents: Callable[[], Iterable[Document]],
    encoder: LoadEncoder,
    *,
    is_shard: bool = False,
) -> Work:
    def work(part: Job) -> Metrics:
        folder, loaded = part.new_folder("encodings"), encoder()
        part.device = device_name(loaded.placement)
        progress = loaded.write(documents(), count, folder, name, is_shard=is_shard)
        for file in (TOKENS, VECTORS):
            part.attempt.add(file, folder / file)
        return {
            "world": name,
            "entities": count,
            "entities_per_second": round(progress.rate, 1),
            "tokens": loaded.tokens_identity,
        }

    return work


def _documents(path: Path) -> Iterator[Document]:
    with path.open("rb") as lines:
        yield from map(document_of_line, lines)


def _derived(job: Job, target: Target, work: Work) -> Artifact:
    return derived_artifact(job, target.stage, target.config, target.inputs, work)
