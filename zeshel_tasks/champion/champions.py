"""The champion: the model that is in use, in ``models/champion.json``, with those before it.

A champion changes by compare-and-swap alone: of two runs that promote at once, one sees the other's.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.store.base import Store
from zeshel_tasks.store.checksummed import checksummed, read_checksummed

log = logging.getLogger(__name__)

KEY = "models/champion.json"


class Champion(BaseModel):
    """A model that was promoted.

    Attributes:
        run: id of the run that promoted it.
        biencoder: folder of its train-biencoder artifact in the store.
        crossencoder: folder of its train-crossencoder artifact; it tells one model from another.
        promoted_at: when.
        decision: why, as the manifest of ``promote`` has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str
    biencoder: str
    crossencoder: str
    promoted_at: str
    decision: dict[str, Any]

    @property
    def folders(self) -> tuple[str, str]:
        """Of its artifacts."""
        return self.biencoder, self.crossencoder


class RolledBack(BaseModel):
    """A champion that was taken back, when and why; it is not promoted again."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    champion: Champion
    at: str
    reason: str


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    champion: Champion | None
    earlier: tuple[Champion, ...] = ()
    rolled_back: tuple[RolledBack, ...] = ()


class Champions:
    """What ``models/champion.json`` says, and changes to it.

    Args:
        store: where it lies.
        content: of the file, an empty one where there is none.
        version: of the file, None where there is none.
    """

    def __init__(self, store: Store, content: _File, version: str | None) -> None:
        self._store, self._content, self.version = store, content, version

    @property
    def champion(self) -> Champion | None:
        """The model in use, if any."""
        return self._content.champion

    @property
    def earlier(self) -> tuple[Champion, ...]:
        """Those before it, the latest first."""
        return self._content.earlier

    @property
    def all_rolled_back(self) -> tuple[RolledBack, ...]:
        """Those that were taken back, the latest first."""
        return self._content.rolled_back

    @property
    def folders(self) -> set[str]:
        """Folders of the models of all champions, earlier ones too: what a roll-back needs."""
        known = self.earlier if self.champion is None else (self.champion, *self.earlier)
        return {folder for champion in known for folder in champion.folders}

    def rival_of(self, crossencoder: str) -> Champion | None:
        """Whom a model has to beat, or had to: the champion, or the one before it where the model is the champion."""
        if self.champion is None or self.champion.crossencoder != crossencoder:
            return self.champion
        return self.earlier[0] if self.earlier else None

    def knows(self, crossencoder: str) -> bool:
        """Whether this model is the champion, or was one."""
        return crossencoder in self.folders or self.rolled_back(crossencoder) is not None

    def rolled_back(self, crossencoder: str) -> RolledBack | None:
        """How this model was taken back, if it was."""
        return next((found for found in self._content.rolled_back if found.champion.crossencoder == crossencoder), None)

    def promote(self, champion: Champion) -> bool:
        """Puts ``champion`` in front; False where the file has changed since it was read."""
        known = self.earlier if self.champion is None else (self.champion, *self.earlier)
        earlier = tuple(before for before in known if before.crossencoder != champion.crossencoder)
        return self._replace(self._content.model_copy(update={"champion": champion, "earlier": earlier}))

    def roll_back(self, reason: str) -> bool:
        """Puts the champion before this one in front again; False where the file has changed since it was read.

        Raises:
            ConfigError: there is none before it.
        """
        if self.champion is None or not self.earlier:
            found = "no champion at all" if self.champion is None else f"the first champion, {self.champion.run}"
            raise ConfigError(f"{self._store.address}/{KEY}: expected an earlier champion to go back to, got {found}")
        taken_back = RolledBack(champion=self.champion, at=_now(), reason=reason)
        return self._replace(
            _File(
                champion=self.earlier[0],
                earlier=self.earlier[1:],
                rolled_back=(taken_back, *self._content.rolled_back),
            )
        )

    def _replace(self, content: _File) -> bool:
        data = checksummed(content)
        if self.version is None:
            return self._store.put_if_absent(KEY, data)
        return self._store.put_if_unchanged(KEY, data, self.version)


def read_champions(store: Store) -> Champions:
    """What the file says now.

    Raises:
        CorruptArtifact: it is broken.
    """
    # The version first: if the file changes in between, the swap fails, and is tried again with what is there then.
    found = store.get_version(KEY)
    remedy = "put an earlier version of it back, or delete it to begin without a champion"
    content = read_checksummed(store, KEY, _File, remedy)
    return Champions(store, content or _File(champion=None), None if found is None else found[1])


def champion_folders(store: Store) -> set[str]:
    """Folders of the artifacts that a cleanup must keep for the champion and for a roll-back."""
    return read_champions(store).folders


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
