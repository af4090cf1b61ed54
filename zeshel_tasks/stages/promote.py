"""promote: the run's model becomes the champion, if it is better.

The decision is a function of what ``compare`` measured and of two settings. The champion changes by compare-and-swap,
so a retry finds what an attempt before it did, and two runs never promote over one another.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from zeshel_tasks.champion.champions import KEY, Champion, read_champions
from zeshel_tasks.champion.gate import decide_now
from zeshel_tasks.errors import TryAgain
from zeshel_tasks.pipeline.contract import Job
from zeshel_tasks.store import Metrics, artifact_folder

log = logging.getLogger(__name__)

_SWAPS = 5


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    own = _folder(job, "train-crossencoder")
    for _ in range(_SWAPS):
        champions = read_champions(job.run.store)
        job.check_outside()
        if champions.champion is not None and champions.champion.crossencoder == own:
            # By an attempt that did not live to commit, or by an earlier run of the same model.
            decision = champions.champion.decision
            break
        decision = decide_now(champions, own, job.inputs["compare"].manifest.metrics, job.recipe.promote)
        if not decision["promoted"] or champions.promote(_candidate(job, decision)):
            break
        log.info("%s has changed meanwhile, deciding again", KEY)
    else:
        raise TryAgain(f"{job.run.store.address}/{KEY}: changed {_SWAPS} times while this run tried to change it")
    log.info("%s: %s", "promoted" if decision["promoted"] else "not promoted", decision["reason"])
    return decision


def _candidate(job: Job, decision: Metrics) -> Champion:
    return Champion(
        run=job.run.run_id,
        biencoder=_folder(job, "train-biencoder"),
        crossencoder=_folder(job, "train-crossencoder"),
        promoted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        decision=decision,
    )


def _folder(job: Job, stage: str) -> str:
    return artifact_folder(stage, job.inputs[stage].manifest.fingerprint)
