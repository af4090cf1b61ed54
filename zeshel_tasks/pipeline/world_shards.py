"""The artifacts of a world that is encoded in shards: how it is cut, and the encodings of each shard.

The orchestrator needs to know them, too, so this imports no numpy.
"""

from __future__ import annotations

from collections.abc import Iterator

from zeshel_tasks.config.retrieval import RetrievalConfig
from zeshel_tasks.data.shards import shard_count, shard_file
from zeshel_tasks.pipeline.job import Target
from zeshel_tasks.store import Manifest, Run, artifact_folder
from zeshel_tasks.store.artifacts import read_manifest

CUT, ENCODINGS = "entity-shards", "candidate-encodings"
_DECIDING = ("candidate_form", "precision", "vector_dtype")


def world_target(download: Manifest, biencoder: Manifest, world: str, config: RetrievalConfig) -> Target:
    """Returns the encodings of a whole world."""
    inputs = {"documents": _documents(download, world), "train-biencoder": biencoder.fingerprint}
    return Target(ENCODINGS, None, {"world": world, **_settings(config)}, inputs)


def cut_target(download: Manifest, world: str, shards: int) -> Target:
    """Returns the files with the entities of each shard of a world."""
    return Target(CUT, None, {"shards": shards}, {"documents": _documents(download, world)})


def shard_target(cut: Manifest, biencoder: Manifest, shard: int, config: RetrievalConfig) -> Target:
    """Returns the encodings of a shard, which depend on nothing but its own entities and the bi-encoder."""
    documents = cut.files[shard_file(shard)].sha256
    return Target(
        ENCODINGS, None, _settings(config), {"documents": documents, "train-biencoder": biencoder.fingerprint}
    )


def shards_of_world(download: Manifest, world: str, config: RetrievalConfig) -> int:
    """Returns the number of shards of a world; 1 if it is encoded as a whole."""
    return shard_count(int(download.metrics["documents_by_world"][world]), config.sharded_from)


def large_worlds(run: Run, config: RetrievalConfig) -> dict[str, int]:
    """Returns the worlds with mentions that are encoded in shards, and the number of their shards.

    Raises:
        ConfigError: ``download`` or ``convert`` has not finished.
    """
    download, convert = run.finished("download"), run.finished("convert")
    worlds = sorted({world for split in convert.metrics["worlds"].values() for world in split})
    counts = {world: shards_of_world(download, world, config) for world in worlds}
    return {world: count for world, count in counts.items() if count > 1}


def cut_of(run: Run, world: str, shards: int) -> Manifest | None:
    """Returns how a world was cut; None if it was not."""
    return _made(run, cut_target(run.finished("download"), world, shards))


def encoded_shard(run: Run, world: str, shard: int, config: RetrievalConfig) -> Manifest | None:
    """Returns the encodings of a shard; None if they do not exist."""
    cut = cut_of(run, world, shards_of_world(run.finished("download"), world, config))
    biencoder = run.finished("train-biencoder")
    return None if cut is None else _made(run, shard_target(cut, biencoder, shard, config))


def shard_names(worlds: dict[str, int]) -> Iterator[str]:
    """Yields the name of each shard: ``world/7``."""
    return (f"{world}/{shard}" for world, count in worlds.items() for shard in range(count))


def shard_of_name(name: str) -> tuple[str, int]:
    """Returns world and number of a shard.

    Raises:
        ValueError: not a name of :func:`shard_names`.
    """
    world, _, number = name.rpartition("/")
    if not world or not number.isdecimal():
        raise ValueError(f"expected a shard such as world/7, got {name}")
    return world, int(number)


def _settings(config: RetrievalConfig) -> dict[str, str]:
    return {name: getattr(config, name) for name in _DECIDING}


def _documents(download: Manifest, world: str) -> str:
    return download.files[f"documents/{world}.json"].sha256


def _made(run: Run, target: Target) -> Manifest | None:
    return read_manifest(run.store, artifact_folder(target.stage, target.fingerprint))
