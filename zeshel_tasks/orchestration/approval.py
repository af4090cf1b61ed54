"""The task between ``report`` and ``promote`` that asks a person to approve the model, if the run requires it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.champion.gate import decide_now
from zeshel_tasks.champion.metrics import ComparisonMetrics, Decision
from zeshel_tasks.orchestration.params import recipe_of, run_config_of
from zeshel_tasks.orchestration.settings import run_address
from zeshel_tasks.orchestration.web.links import report_page
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.store import open_run
from zeshel_tasks.text.safe_text import one_line

DOC = (
    "With the Param `approve`, waits for a person if the model is better than the champion; *Required Actions* shows "
    "the figures of both models. *Reject* skips `promote`. Without the Param the task succeeds at once."
)


class ApprovePromotion(ApprovalOperator):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Waits for *Approve* or *Reject* if the run requires approval and the gate would promote the model.

    Args:
        store: root address of runs and artifacts.
    """

    ui_color = "#f6ead1"

    def __init__(self, *, store: str, **kwargs: Any) -> None:
        super().__init__(task_id="approve", subject="Promote this model?", doc_md=DOC, **kwargs)
        self.store = store

    def execute(self, context: Any) -> Any:
        """Ask, or return at once if there is nothing to decide.

        Raises:
            TaskAwaitingInput: the task now waits for an answer.
        """
        params, run = context["params"], open_run(run_address(self.store, context["run_id"]))
        if not run_config_of(params).approve:
            self.log.info("no approval needed: the Param approve is not set")
            return None
        compared, trained, fused = run.manifest("compare"), run.record("train-crossencoder"), run.record("fuse")
        assert compared is not None  # all are upstream
        assert trained is not None
        assert fused is not None
        champions = read_champions(run.store)
        if champions.champion is not None and champions.champion.identity == fused.artifact:
            self.log.info("no approval needed: this model is already the champion")
            return None
        measured = ComparisonMetrics.model_validate(compared.metrics)
        decision = decide_now(champions, fused.artifact, trained.artifact, measured, recipe_of(params).promote)
        if not decision.promoted:
            self.log.info("no approval needed: the model will not be promoted: %s", decision.reason)
            return None
        self.body = "\n".join(_question(run.address, report_page(context["run_id"], STAGES["compare"]), decision))
        return super().execute(context)


def _question(run: str, report: str, decision: Decision) -> Iterator[str]:
    """Return the lines of the question, in Markdown: the figures of both models."""
    yield f"Run `{run}`: [its report]({report}).\n"
    yield f"The gate says: {_literal(decision.reason)}.\n"
    if decision.overall is None:
        yield f"Unnormalized accuracy on test: **{decision.unnormalized_accuracy:.2%}**."
        return
    yield "| world | mentions | champion | this model | difference | interval |"
    yield "|---|---|---|---|---|---|"
    for world, figures in [("all", decision.overall), *sorted(decision.worlds.items())]:
        low, high = (f"{100 * end:+.2f}" for end in figures.interval)
        yield (
            f"| {_literal(world)} | {figures.mentions:,} | {figures.champion:.2%} | {figures.new:.2%} "
            f"| {100 * figures.difference:+.2f} | {low} to {high} |"
        )


def _literal(text: str) -> str:
    """Escape text for Markdown, because names of worlds and runs are data and may contain links, HTML or columns."""
    return re.sub(r"([\\`\[\]<>|])", r"\\\1", one_line(text))
