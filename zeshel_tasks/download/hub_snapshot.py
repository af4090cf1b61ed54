"""The files of a hub model at one commit, as the hub lists them and as the cache of huggingface_hub holds them.

A model is identified by the hashes of the files that are read, because the hub makes a new commit for each edit of a
README. The layout of the cache:
https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zeshel_tasks.compute.disk import DISK_FULL
from zeshel_tasks.compute.temporary import temporary_file
from zeshel_tasks.compute.termination import removed_on_sigterm
from zeshel_tasks.download.hub_settings import cache_folder
from zeshel_tasks.download.model_file_names import files_read, missing_files, names_in
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.store.artifacts import sha256_of
from zeshel_tasks.store.identity import digest_of

COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Git LFS keeps files with these ends, and others from this size on.
_LARGE = (".safetensors", ".bin", ".model")
_LARGE_BYTES = 10 * 2**20


class Snapshot(BaseModel):
    """The files from which the model is loaded, at one commit.

    Attributes:
        commit: 40 hexadecimal digits.
        files: name -> hash: the SHA-256 of a large file, else the SHA-1 of git. They name the blobs of the cache. Some
            mirrors state the SHA-1 of the bytes alone.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    commit: str = Field(pattern=f"^{COMMIT.pattern}$")
    files: dict[str, str]

    @property
    def identity(self) -> str:
        """``hub:...``, equal for all commits with the same files."""
        return f"hub:{digest_of(self.files)}"


def parsed(text: bytes | None) -> Snapshot | None:
    """The snapshot that a store noted. None if there is none, or if another version noted it."""
    try:
        return None if text is None else Snapshot.model_validate_json(text)
    except ValidationError:
        return None


def has_hash(path: Path, expected: str) -> bool:
    """True if the file has this hash of a :class:`Snapshot`."""
    return expected in ([sha256_of(path)] if len(expected) == 64 else _sha1s(path))


class HubCache:
    """The cached files of one model. Files that huggingface_hub or transformers downloaded are found here, too."""

    def __init__(self, repository: str) -> None:
        self.folder = cache_folder() / f"models--{repository.replace('/', '--')}"

    def snapshot(self, revision: str) -> Snapshot | None:
        """The files of the commit that the revision was when a file was last downloaded. None unless all are cached."""
        folder = self.snapshot_folder(self.commit(revision))
        if missing_files(folder):
            return None
        names = files_read(names_in(folder))
        return Snapshot(commit=folder.name, files={name: _hash_of(folder / name) for name in names})

    def commit(self, revision: str) -> str:
        """The commit that the revision was when a file was last downloaded; empty if that never happened."""
        if COMMIT.fullmatch(revision):
            return revision
        try:
            commit = (self.folder / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return commit if COMMIT.fullmatch(commit) else ""

    def snapshot_folder(self, commit: str) -> Path:
        """The folder with the files of a commit."""
        return self.folder / "snapshots" / commit

    def hash_of(self, commit: str, name: str) -> str | None:
        """The hash of a cached file; None if it is not cached."""
        path = self.snapshot_folder(commit) / name
        return _hash_of(path) if path.is_file() else None

    def holds(self, commit: str, name: str, content_hash: str) -> bool:
        """True if a file of a commit is cached and undamaged.

        If only another commit had its content, it is now linked to that.

        Raises:
            ConfigError: the cache is not writable.
        """
        path, blob = self.snapshot_folder(commit) / name, self._blob(content_hash)
        if not path.is_file() and blob.is_file():
            with _cache_named():
                _replace_link(path, blob)
        return path.is_file() and has_hash(path, content_hash)

    @contextmanager
    def adding(self, commit: str, name: str, content_hash: str | None = None) -> Iterator[Path]:
        """Yields the path to download a file to. It gets its name in the cache when the context ends without error.

        Args:
            commit: of the file.
            name: of the file.
            content_hash: of the file; None to compute it when the file is there.

        Raises:
            ConfigError: the cache is not writable.
        """
        final = self._blob(content_hash or name)
        with ExitStack() as stack:
            with _cache_named():
                final.parent.mkdir(parents=True, exist_ok=True)
                part = stack.enter_context(temporary_file(final))
            with removed_on_sigterm(part):
                yield part
            blob = self._blob(content_hash or _computed_hash(part, name))
            with _cache_named():
                part.replace(blob)
                _replace_link(self.snapshot_folder(commit) / name, blob)

    def point(self, revision: str, commit: str) -> None:
        """Records that a branch or a tag was this commit, for processes that cannot ask the hub.

        Raises:
            ConfigError: the cache is not writable.
        """
        if not COMMIT.fullmatch(revision) and self.commit(revision) != commit:
            reference = self.folder / "refs" / revision
            with _cache_named():
                reference.parent.mkdir(parents=True, exist_ok=True)
                with temporary_file(reference) as part:
                    part.write_text(commit)
                    part.replace(reference)

    def _blob(self, content_hash: str) -> Path:
        return self.folder / "blobs" / content_hash


@contextmanager
def _cache_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise ConfigError(f"HF_HUB_CACHE or HF_HOME: expected a writable folder, got: {error}") from error


def _replace_link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    new.symlink_to(os.path.relpath(target, path.parent))
    new.replace(path)


def _hash_of(path: Path) -> str:
    """The hash by which the hub lists a cached file: the name of its blob, or computed where that is no hash."""
    blob = path.readlink().name if path.is_symlink() else ""
    return blob if HASH.fullmatch(blob) else _computed_hash(path, path.name)


def _computed_hash(path: Path, name: str) -> str:
    is_large = name.endswith(_LARGE) or path.stat().st_size >= _LARGE_BYTES
    return sha256_of(path) if is_large else _sha1s(path)[0]


def _sha1s(path: Path) -> tuple[str, str]:
    """The SHA-1 of a file as git computes it, and that of its bytes alone."""
    git, plain = (hashlib.sha1(usedforsecurity=False) for _ in range(2))
    git.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(2**20):
            git.update(block)
            plain.update(block)
    return git.hexdigest(), plain.hexdigest()
