"""promote: the run's model becomes the champion, if it is better.

The artifact is the decision, a function of what ``compare`` measured, of two settings and of the champion. Delivering
it changes the champion by compare-and-swap, so a retry finds what an attempt before it did, and two runs never promote
over one another.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from zeshel_tasks.champion.approval import read_approval
from zeshel_tasks.champion.champions import KEY, Champion, read_champions
from zeshel_tasks.champion.gate import decide_now, is_compared_with
from zeshel_tasks.champion.metrics import ComparisonMetrics, Decision
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import TryAgain
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.store import Artifact, Metrics, Run, artifact_folder

log = logging.getLogger(__name__)

_SWAPS = 5


def work(job: Job) -> Metrics:
    """Returns the decision; the champion stays as it is."""
    own = _folder(job.inputs, "fuse")
    champions = read_champions(job.run.store)
    job.check_outside()
    if champions.champion is not None and champions.champion.identity == own:
        return champions.champion.decision  # an earlier run promoted the same model
    compared = ComparisonMetrics.model_validate(job.inputs["compare"].manifest.metrics)
    return decide_now(champions, own, _folder(job.inputs, "train-crossencoder"), compared, job.recipe.promote).dump()


def deliver(run: Run, _: Recipe, decided: Artifact, inputs: Mapping[str, Artifact]) -> None:
    """Makes the model the champion if it was decided so, unless it is or was the champion.

    Raises:
        TryAgain: the champion has changed since the decision.
    """
    decision = Decision.model_validate(decided.manifest.metrics)
    if decision.promoted:
        _promote(run, _candidate(run, decision, inputs), decision)
    log.info("%s: %s", "promoted" if decision.promoted else "not promoted", decision.reason)


def _promote(run: Run, candidate: Champion, decision: Decision) -> None:
    for _ in range(_SWAPS):
        champions = read_champions(run.store)
        if champions.knows(candidate.identity) or champions.rolled_back(candidate.crossencoder):
            return
        if not is_compared_with(champions.rival_of(candidate.identity), decision):
            raise TryAgain(f"{run.store.address}/{KEY}: the champion has changed since the model was compared with it")
        if champions.promote(candidate):
            return
        log.info("%s has changed meanwhile, looking again", KEY)
    raise TryAgain(f"{run.store.address}/{KEY}: changed {_SWAPS} times while this run tried to change it")


def _candidate(run: Run, decision: Decision, inputs: Mapping[str, Artifact]) -> Champion:
    approval = read_approval(run, _folder(inputs, "fuse"))
    return Champion(
        run=run.run_id,
        biencoder=_folder(inputs, "train-biencoder"),
        retriever=_folder(inputs, "fit-retrieval"),
        crossencoder=_folder(inputs, "train-crossencoder"),
        fusion=_folder(inputs, "fuse"),
        calibration=_folder(inputs, "calibrate"),
        promoted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        decision=decision.dump(),
        approval=approval if approval is not None and approval.approved else None,
    )


def _folder(inputs: Mapping[str, Artifact], stage: str) -> str:
    return artifact_folder(stage, inputs[stage].manifest.fingerprint)
