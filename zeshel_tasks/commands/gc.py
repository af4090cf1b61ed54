"""``zeshel gc``: remove old runs by rule, and everything that neither a run nor a knowledge base refers to."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from zeshel_tasks.champion.champions import champion_folders, champion_runs
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.knowledge_base.head import knowledge_base_folders
from zeshel_tasks.store import Store, open_store
from zeshel_tasks.store.garbage import Cleanup, Garbage, clean_up
from zeshel_tasks.store.retention import Retention

_SHORTEST = timedelta(days=2)
"""Younger files may belong to a live stage: a training saves a checkpoint at least once a day (checkpoint_minutes)."""

_SHORTEST_OF_RUNS = timedelta(days=14)
"""In a run that is younger, a training may still work, for up to a week, or an approval may wait for its answer."""


def collect_garbage(store_address: str, older_than: str, keep_runs: int | None = None, *, dry_run: bool) -> None:
    """Remove everything that no run refers to and that is older than a number of days (``30d``), and print it.

    Args:
        store_address: the store.
        older_than: the least age.
        keep_runs: how many of the newest runs stay, besides those of the champion and of the champions before it. The
            others are removed once they are as old. None keeps all runs.
        dry_run: True to remove nothing.

    Raises:
        ConfigError: the age is malformed or too short, or the address is not that of a store.
        TryAgain: another cleanup is running.
        CorruptArtifact: a record, or a manifest that a run refers to, is broken. Nothing was removed.
    """
    age, store = _age(older_than, _SHORTEST if keep_runs is None else _SHORTEST_OF_RUNS), _store(store_address)
    retention = None if keep_runs is None else Retention(keep_runs, champion_runs)
    done = clean_up(store, datetime.now(UTC) - age, roots=roots, retention=retention, dry_run=dry_run)
    for garbage in done.removed:
        print(_line(garbage))
    removed = sum(garbage.size for garbage in done.removed)
    print(f"{'would remove' if dry_run else 'removed'} {_size(removed)}; {_kept(done)}")


def roots(store: Store) -> set[str]:
    """The artifact folders that must stay although no run refers to them."""
    return champion_folders(store) | knowledge_base_folders(store)


def _age(text: str, shortest: timedelta) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})d", text)
    age = timedelta(days=int(found[1])) if found else timedelta()
    if age < shortest:
        which = "" if shortest == _SHORTEST else " with --keep-runs"
        expected = f"a number of days, such as 30d, and at least {shortest.days}d{which}"
        raise ConfigError(f"--older-than: expected {expected}, got {text!r}")
    return age


def _store(address: str) -> Store:
    store = open_store(address)
    if next(store.keys("runs/"), None) is None and next(store.keys("artifacts/"), None) is None:
        raise ConfigError(f"--store: expected a store with runs/ or artifacts/, got {address!r}")
    return store


def _line(garbage: Garbage) -> str:
    day = datetime.fromtimestamp(garbage.modified, UTC).strftime("%Y-%m-%d")
    return f"{day}  {_size(garbage.size):>9}  {garbage.place}  {garbage.reason}"


def _kept(done: Cleanup) -> str:
    return f"{done.kept:,} artifact{'' if done.kept == 1 else 's'} of {_size(done.kept_bytes)} stay"


def _size(size: int) -> str:
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB") if size >= 1e6 else (1e3, "kB")
    return f"{size / unit:,.1f} {name}"
