"""Cuts the entities of a large world into shards. Needs no model library."""

from __future__ import annotations

import logging

from zeshel_tasks.data.shard_files import cut
from zeshel_tasks.pipeline.contract import derived_artifact
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.pipeline.world_shards import cut_target
from zeshel_tasks.stages.inputs import world_documents
from zeshel_tasks.store import Artifact, Metrics

log = logging.getLogger(__name__)


def cut_world(job: Job, world: str, shards: int) -> Artifact:
    """Writes the entities of each shard of a world into a file, unless that has been done."""
    download = job.inputs["download"]

    def work(part: Job) -> Metrics:
        folder = part.new_folder("shards")
        entities = cut(world_documents(download, world), shards, folder)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            part.attempt.add(path.relative_to(folder).as_posix(), path)
        log.info("%s: %d entities in %d shards", world, entities, shards)
        return {"entities": entities, "shards": shards}

    target = cut_target(download.manifest, world, shards)
    return derived_artifact(job, target.stage, target.config, target.inputs, work)
