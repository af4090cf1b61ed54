"""The tokens and vectors of the entities of a world: one artifact, or one for each shard of a large world."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt

from zeshel_tasks.data.arrays import new_array, read_array, release
from zeshel_tasks.data.shard_files import SHARDS, rows_of_shards
from zeshel_tasks.store import Artifact, Store, artifact_folder
from zeshel_tasks.store.artifacts import read_manifest

_ROWS = 4096  # copied at once: 12 MB of vectors for BERT-base


@dataclass(frozen=True)
class EncodedWorld:
    """The encodings of a world.

    Attributes:
        parts: the artifact of the whole world, or those of its shards.
        cut: which entities each shard has; None if the world is whole.
        scratch: local directory for files that are put together.
    """

    parts: tuple[Artifact, ...]
    cut: Artifact | None
    scratch: Path

    @property
    def tokens_identity(self) -> str | None:
        """The :meth:`~zeshel_tasks.data.tokens.Tokens.identity` of the token table; None if it is unknown."""
        found: str | None = self.parts[0].manifest.metrics.get("tokens")
        return found

    @property
    def record(self) -> Any:
        """What ``encodings.json`` says: the artifact's folder, or those of the shards and of how they were cut."""
        folders = [_folder(part) for part in self.parts]
        return folders[0] if self.cut is None else {"cut": _folder(self.cut), "shards": folders}

    @classmethod
    def read(cls, record: Any, store: Store, scratch: Path) -> Self | None:
        """Opens what :attr:`record` names; None if it was deleted."""
        folders = [record] if isinstance(record, str) else [*record["shards"], record["cut"]]
        found = [_opened(store, folder, scratch) for folder in folders]
        if any(artifact is None for artifact in found):
            return None
        parts = tuple(artifact for artifact in found if artifact is not None)
        return cls(parts, None, scratch) if isinstance(record, str) else cls(parts[:-1], parts[-1], scratch)

    def path(self, name: str) -> Path:
        """Returns a local file with the tokens or the vectors of all entities, in their order.

        Of shards, it is put together here. The disk holds it and one shard, and memory 8 bytes an entity.
        """
        if self.cut is None:
            return self.parts[0].path(name)
        path = self.scratch / "joined" / self.cut.manifest.fingerprint / self.parts[0].manifest.fingerprint / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            self._join(name, unfinished)
            unfinished.rename(path)
        return path

    def _join(self, name: str, path: Path) -> None:
        assert self.cut is not None
        rows = rows_of_shards(self.cut.path(SHARDS), len(self.parts))
        out: npt.NDArray[Any] | None = None
        for part, places in zip(self.parts, rows, strict=True):
            with tempfile.TemporaryDirectory(dir=self.scratch) as cache:
                table = read_array(opened_again(part, Path(cache)).path(name), mapped=True)
                if out is None:
                    out = new_array(path, table.dtype, (sum(map(len, rows)), *table.shape[1:]))
                for first in range(0, len(places), _ROWS):
                    out[places[first : first + _ROWS]] = table[first : first + _ROWS]
                    release(table)
                    release(out)


def candidate_encodings(retrieved: Artifact, cache: Path) -> dict[str, EncodedWorld | None]:
    """The candidate encodings by world, as an artifact of eval-biencoder names them; None if they were deleted."""
    records: dict[str, Any] = json.loads(retrieved.path("encodings.json").read_text())
    return {world: EncodedWorld.read(record, retrieved.store, cache) for world, record in records.items()}


def _folder(artifact: Artifact) -> str:
    return artifact_folder(artifact.manifest.stage, artifact.manifest.fingerprint)


def _opened(store: Store, folder: str, cache: Path) -> Artifact | None:
    manifest = read_manifest(store, folder)
    return None if manifest is None else Artifact(store, folder, manifest, cache)


def opened_again(artifact: Artifact, cache: Path) -> Artifact:
    """Opens an artifact with a cache of its own, which can be removed."""
    return Artifact(artifact.store, _folder(artifact), artifact.manifest, cache)
