"""Large knowledge bases that are cut into segments, which other machines encode before a change names them.

The orchestrator needs to know them, too, so this imports no numpy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zeshel_tasks.data.shards import shard_file
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.knowledge_base.head import Encoding, changes_folder
from zeshel_tasks.pipeline.contract import scratch_space
from zeshel_tasks.pipeline.world_shards import CUT
from zeshel_tasks.store import Artifact, Manifest, Run, Store, artifact_folder
from zeshel_tasks.store.artifacts import read_manifest


def cut_of(store: Store, name: str, record: str) -> Manifest | None:
    """Returns how a change has cut a knowledge base.

    Args:
        store: the store.
        name: of the knowledge base.
        record: name of the change's records.

    Returns:
        The manifest of the segments' entities; None if the change has cut nothing, or is done.
    """
    return Run(store, record, changes_folder(name)).manifest(CUT)


def encoding_of_cut(cut: Manifest) -> Encoding:
    """Returns what encodes the segments."""
    return Encoding.model_validate(cut.config["encoding"])


def segment_names(name: str, cut: Manifest) -> list[str]:
    """Returns the name of each segment: ``products/7``."""
    return [f"{name}/{number}" for number in range(len(cut.config["segments"]))]


def encoded_segment(store: Store, cut: Manifest, number: int) -> Manifest | None:
    """Returns a segment; None if it is not encoded."""
    return read_manifest(store, cut.config["segments"][number])


def encode_segments(store: Store, name: str, record: str, numbers: Iterable[int], **options: Any) -> int:
    """Encodes segments that a change has cut, unless that has been done.

    Args:
        store: the store.
        name: of the knowledge base.
        record: name of the change's records.
        numbers: of the segments, from 0.
        options: see :class:`~zeshel_tasks.knowledge_base.segments.Change`.

    Returns:
        The number of entities that were encoded now.

    Raises:
        ConfigError: the change has cut nothing or has no such segment, or the bi-encoder was deleted.
    """
    from zeshel_tasks.knowledge_base.segments import Change

    cut = cut_of(store, name, record)
    if cut is None:
        raise ConfigError(f"--record: expected one that has cut the knowledge base {name}, got {record}")
    known = len(cut.config["segments"])
    with scratch_space() as scratch:
        change = Change(store, name, encoding_of_cut(cut), scratch, record=record, **options)
        for number in numbers:
            if number >= known:
                raise ConfigError(f"--segment: expected one of {known:,} segments, got {name}/{number}")
            with tempfile.TemporaryDirectory(dir=scratch) as cache:
                files = Artifact(store, artifact_folder(CUT, cut.fingerprint), cut, Path(cache))
                with files.path(shard_file(number)).open("rb") as lines:
                    change.encode(lines)
    return change.encoded
