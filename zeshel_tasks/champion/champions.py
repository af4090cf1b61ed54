"""The champions of a store: ``models/champion.json`` records the model in use and the models before it.

The file changes only by compare-and-swap, so of two runs that promote at once, one notices the other.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from zeshel_tasks.champion.approval import Approval
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.store.base import Store
from zeshel_tasks.store.checksummed import checksummed, read_checksummed
from zeshel_tasks.text.safe_text import quoted

log = logging.getLogger(__name__)

KEY = "models/champion.json"


class Champion(BaseModel):
    """A model that was promoted.

    Attributes:
        run: id of the run that promoted it.
        biencoder: folder of its train-biencoder artifact in the store.
        retriever: folder of its fit-retrieval artifact; None for a champion of an earlier version, whose bi-encoder
            retrieves alone.
        crossencoder: folder of its train-crossencoder artifact.
        fusion: folder of its fuse artifact, which has the weights of the final score; None for a champion of an earlier
            version, whose cross-encoder decides alone.
        calibration: folder of its calibrate artifact; None for a champion of an earlier version, whose scores are no
            probabilities.
        promoted_at: time of the promotion, ISO 8601.
        decision: metrics of ``promote``, which contain the reason.
        approval: who approved the promotion; None if it needed no approval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str
    biencoder: str
    retriever: str | None = None
    crossencoder: str
    fusion: str | None = None
    calibration: str | None = None
    promoted_at: str
    decision: dict[str, Any]
    approval: Approval | None = None

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the model's artifacts."""
        folders = self.biencoder, self.retriever, self.crossencoder, self.fusion, self.calibration
        return tuple(folder for folder in folders if folder is not None)

    @property
    def identity(self) -> str:
        """The folder that identifies the model: that of the last artifact that decides its links."""
        return self.fusion or self.crossencoder

    @property
    def models(self) -> str:
        """The :func:`models_fingerprint` of its artifacts."""
        folders = self.biencoder, self.retriever, self.crossencoder, self.fusion, self.calibration
        return models_fingerprint(None if folder is None else folder.rpartition("/")[2] for folder in folders)


class RolledBack(BaseModel):
    """A champion that was rolled back, with time and reason. It is not promoted again."""

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
    """Content of ``models/champion.json``, and changes to it.

    Args:
        store: the store that holds the file.
        content: content of the file; empty if it does not exist.
        version: version of the file; None if it does not exist.
    """

    def __init__(self, store: Store, content: _File, version: str | None) -> None:
        self._store, self._content, self.version = store, content, version

    @property
    def champion(self) -> Champion | None:
        """The model in use, if any."""
        return self._content.champion

    @property
    def earlier(self) -> tuple[Champion, ...]:
        """Earlier champions, the latest first."""
        return self._content.earlier

    @property
    def all_rolled_back(self) -> tuple[RolledBack, ...]:
        """Champions that were rolled back, the latest first."""
        return self._content.rolled_back

    @property
    def folders(self) -> set[str]:
        """Folders of the champion's and the earlier champions' models, which a rollback needs."""
        return {folder for champion in self._known for folder in champion.folders}

    @property
    def runs(self) -> set[str]:
        """Ids of the runs that promoted the champion and the earlier champions."""
        return {champion.run for champion in self._known}

    def rival_of(self, identity: str) -> Champion | None:
        """Returns the champion that a model must beat. If the model is the champion, this is the previous one."""
        if self.champion is None or self.champion.identity != identity:
            return self.champion
        return self.earlier[0] if self.earlier else None

    def knows(self, identity: str) -> bool:
        """Returns True if this model is or was the champion, and was not rolled back."""
        return identity in self.folders

    def with_models(self, fingerprint: str) -> Champion | None:
        """Returns the champion with these models, also one from before or one that was rolled back, if there is one."""
        known = *self._known, *(found.champion for found in self.all_rolled_back)
        return next((champion for champion in known if champion.models == fingerprint), None)

    def chosen(self, fingerprint: str | None = None) -> Champion:
        """Returns the champion, or that with these models; see :meth:`with_models`.

        Raises:
            ConfigError: there is none.
        """
        found = self.champion if fingerprint is None else self.with_models(fingerprint)
        if found is None and fingerprint is not None:
            expected = f"--models: expected the fingerprint of models in {self._store.address}/{KEY}"
            raise ConfigError(f"{expected}, got {quoted(fingerprint)}")
        if found is None:
            raise ConfigError(
                f"--store: expected a store with a champion, got none at {self._store.address}/{KEY}: name the run "
                "whose models to use with --run"
            )
        return found

    def rolled_back(self, crossencoder: str) -> RolledBack | None:
        """Returns the rollback of a model with this cross-encoder, if there was one, whatever its final score."""
        return next((found for found in self._content.rolled_back if found.champion.crossencoder == crossencoder), None)

    def promote(self, champion: Champion) -> bool:
        """Makes ``champion`` the champion. Returns False if the file has changed since it was read."""
        earlier = tuple(before for before in self._known if before.identity != champion.identity)
        return self._replace(self._content.model_copy(update={"champion": champion, "earlier": earlier}))

    def roll_back(self, reason: str) -> bool:
        """Restores the previous champion. Returns False if the file has changed since it was read.

        Raises:
            ConfigError: there is no previous champion.
        """
        if self.champion is None or not self.earlier:
            found = "no champion" if self.champion is None else f"the first champion, {self.champion.run}"
            raise ConfigError(f"{self._store.address}/{KEY}: expected an earlier champion, got {found}")
        rolled_back = RolledBack(champion=self.champion, at=_now(), reason=reason)
        return self._replace(
            _File(
                champion=self.earlier[0],
                earlier=self.earlier[1:],
                rolled_back=(rolled_back, *self._content.rolled_back),
            )
        )

    @property
    def _known(self) -> tuple[Champion, ...]:
        """The champion and the earlier ones, the latest first."""
        return self.earlier if self.champion is None else (self.champion, *self.earlier)

    def _replace(self, content: _File) -> bool:
        data = checksummed(content)
        if self.version is None:
            return self._store.put_if_absent(KEY, data)
        return self._store.put_if_unchanged(KEY, data, self.version)


def read_champions(store: Store) -> Champions:
    """Reads the champions of a store.

    Raises:
        CorruptArtifact: the file is broken.
    """
    # Read the version first: if the file changes in between, the swap fails and the caller reads the file again.
    found = store.get_version(KEY)
    remedy = "restore an earlier version, or delete it to start without a champion"
    content = read_checksummed(store, KEY, _File, remedy)
    return Champions(store, content or _File(champion=None), None if found is None else found[1])


def models_fingerprint(artifacts: Iterable[str | None]) -> str:
    """Returns the SHA-256 (hex) of the fingerprints of all artifacts that link text, in the order of ``Champion``.

    Models with equal ones give the same scores.
    """
    return hashlib.sha256(" ".join(artifact or "-" for artifact in artifacts).encode()).hexdigest()


def champion_folders(store: Store) -> set[str]:
    """Returns the artifact folders that a cleanup must keep for the champion and for a rollback."""
    return read_champions(store).folders


def champion_runs(store: Store) -> set[str]:
    """Returns the ids of the runs that a cleanup must keep for the champion and for a rollback."""
    return read_champions(store).runs


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
