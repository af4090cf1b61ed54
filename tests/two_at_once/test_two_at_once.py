"""Concurrent runs, attempts and cleanups in one store, interleaved by a seed at every operation of the store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.faults import Fault
from tests.support.rounds import rounds
from tests.two_at_once import safeguards
from tests.two_at_once.situations import (
    SITUATIONS,
    STORES,
    Situation,
    Torn,
    cleanup_that_dies,
    rerun_and_cleanup,
    two_runs,
)
from zeshel_tasks.pipeline import contract
from zeshel_tasks.store import Run, artifacts

SEEDS = range(rounds(usual=50, nightly=400))
"""Seeds for each of the four situations. Without a safeguard, fewer than 40 are enough to damage the store."""


@pytest.fixture(autouse=True)
def _witnessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes stages use the situations' stores, and lets the cleanup continue while they wait for its decision."""

    def open_run(address: str) -> Run:
        folder, _, run = address.rpartition("/runs/")
        return Run(STORES[folder], run)

    monkeypatch.setattr(contract, "open_run", open_run)
    monkeypatch.setattr(artifacts, "_DECISION_PAUSES", (0,) * 40)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_interleaving_damages_the_store(
    tmp_path: Path, fault: Fault, situation: Callable[[Situation], None]
) -> None:
    orders = set()
    for seed in SEEDS:
        played = Situation(tmp_path / str(seed), seed)
        situation(played)
        try:
            played.play()
        except Torn as error:
            raise AssertionError(f"seed {seed}: {error}; order: {' '.join(played.baton.order)}") from error
        orders.add(tuple(played.baton.order))
    assert len(orders) > 0.75 * len(SEEDS)
    fault(f"two at once: {situation.__name__.replace('_', ' ')}", len(SEEDS))


BROKEN = {
    safeguards.without_a_second_look_by_the_run: rerun_and_cleanup,
    safeguards.without_a_second_look_by_the_cleanup: rerun_and_cleanup,
    safeguards.without_putting_manifests_aside: rerun_and_cleanup,
    safeguards.without_a_way_back: cleanup_that_dies,
    safeguards.without_records_of_what_is_used: rerun_and_cleanup,
    safeguards.without_following_uses: rerun_and_cleanup,
    safeguards.without_conditional_writes: two_runs,
    safeguards.without_uploading_before_the_commit: two_runs,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_removing_any_safeguard_damages_the_store(
    tmp_path: Path, broken: Callable[[], AbstractContextManager[object]]
) -> None:
    with broken():
        for seed in range(400):
            played = Situation(tmp_path / str(seed), seed)
            BROKEN[broken](played)
            try:
                played.play()
            except Torn:
                return
    raise AssertionError("no order in which it matters was found")
