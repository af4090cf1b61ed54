"""fuse: fit the final score on valid, link the mentions of every split by it, measure accuracy."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zeshel_tasks.config.splits import ALL_SPLITS, Split
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.blink_format import read_blink_mentions
from zeshel_tasks.data.json_lines import write_json_lines
from zeshel_tasks.evaluation.measures import Flags, accuracy_metrics
from zeshel_tasks.evaluation.metrics import AccuracyMetrics
from zeshel_tasks.linking import evaluation_settings
from zeshel_tasks.linking.evaluation_settings import EvaluationSettings
from zeshel_tasks.linking.fit_fusion import fit_fusion
from zeshel_tasks.linking.fusion import CROSSENCODER_ALONE, FUSION_FILE, Fusion, best_candidates
from zeshel_tasks.linking.metrics import FusionMetrics, LinkerMetrics
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.stages.inputs import SCORES, RankedSplit, split_file
from zeshel_tasks.store import Metrics

PREDICTIONS = "predictions.jsonl"

log = logging.getLogger(__name__)


class _Mention(NamedTuple):
    """What a prediction repeats of a mention. Its texts may be large, so they stay in the file."""

    mention_id: str
    world: str
    category: str
    label_id: int


def work(job: Job) -> Metrics:
    """Does the stage's work; returns the metrics of its manifest."""
    fusion = _fusion(job, _ranked(job, "valid"))
    path = job.scratch / FUSION_FILE
    path.write_text(fusion.model_dump_json(indent=1))
    job.attempt.add(FUSION_FILE, path)
    _add_evaluation_settings(job)
    splits = [split for split in ALL_SPLITS if f"eval-crossencoder-{split}" in job.inputs]
    return FusionMetrics(
        combines=fusion.combines,
        weights=fusion.model_dump(),
        splits={split: _linked(job, split, fusion) for split in splits},
    ).dump()


def _add_evaluation_settings(job: Job) -> None:
    """Whoever links other texts with these models does it as the evaluation did."""
    configs = (job.inputs[name].manifest.config for name in ("convert", "eval-biencoder-valid"))
    path = job.scratch / evaluation_settings.FILE
    path.write_text(EvaluationSettings.of_configs(*configs).model_dump_json(indent=1))
    job.attempt.add(evaluation_settings.FILE, path)


def _fusion(job: Job, valid: RankedSplit) -> Fusion:
    if job.recipe.fuse.final_score == "crossencoder":
        return CROSSENCODER_ALONE
    return fit_fusion(valid.crossencoder, valid.retrieval, valid.gold_rank)


def _ranked(job: Job, split: Split) -> RankedSplit:
    return RankedSplit.read(job.inputs[f"eval-biencoder-{split}"], job.inputs[f"eval-crossencoder-{split}"])


def _linked(job: Job, split: Split, fusion: Fusion) -> LinkerMetrics:
    """Writes the final scores and the predictions of a split; returns its accuracy."""
    ranked, folder = _ranked(job, split), job.new_folder(split)
    scores = fusion.final_scores(ranked.crossencoder, ranked.retrieval)
    best, confidence = best_candidates(scores)
    np.save(folder / SCORES, scores)
    mentions = list(_mentions(job, split))
    write_json_lines(folder / PREDICTIONS, _predictions(mentions, ranked, best, confidence))
    for name in (SCORES, PREDICTIONS):
        job.attempt.add(f"{split}/{name}", folder / name)
    crossencoder = AccuracyMetrics.model_validate(job.inputs[f"eval-crossencoder-{split}"].manifest.metrics)
    linker, retriever = (
        _accuracy(mentions, correct, ranked.gold_rank >= 0)
        for correct in (best == ranked.gold_rank, ranked.gold_rank == 0)
    )
    log.info(
        "%s: unnormalized accuracy %.4f; cross-encoder alone %.4f, retriever alone %.4f",
        split,
        *(found.unnormalized_accuracy.micro for found in (linker, crossencoder, retriever)),
    )
    return LinkerMetrics(linker=linker, crossencoder=crossencoder, retriever=retriever)


def _mentions(job: Job, split: Split) -> Iterator[_Mention]:
    for mention in read_blink_mentions(split_file(job, split)):
        yield _Mention(mention.mention_id, mention.world, mention.category, mention.label_id)


def _accuracy(mentions: Sequence[_Mention], correct: Flags, retrieved: Flags) -> AccuracyMetrics:
    worlds, world = _numbered(mention.world for mention in mentions)
    categories, category = _numbered(mention.category for mention in mentions)
    rows_of_world = {name: np.flatnonzero(world == index) for index, name in enumerate(worlds)}
    return accuracy_metrics(correct, retrieved, rows_of_world, category, categories)


def _numbered(names: Iterable[str]) -> tuple[list[str], npt.NDArray[np.int32]]:
    """The distinct names, sorted, and the position of each name among them."""
    given = list(names)
    position = {name: index for index, name in enumerate(sorted(set(given)))}
    return list(position), np.array([position[name] for name in given], dtype=np.int32)


def _predictions(
    mentions: Sequence[_Mention], ranked: RankedSplit, best: Rows, confidence: npt.NDArray[np.float32]
) -> Iterator[dict[str, Any]]:
    """A line of ``predictions.jsonl`` for each mention, one at a time."""
    for row, mention in enumerate(mentions):
        predicted, gold = int(ranked.candidates[row, best[row]]), int(ranked.gold_rank[row])
        yield {
            "mention_id": mention.mention_id,
            "world": mention.world,
            "category": mention.category,
            "label_id": mention.label_id,
            "predicted_id": predicted,
            "correct": predicted == mention.label_id,
            "confidence": round(float(confidence[row]), 6),
            "gold_rank": None if gold < 0 else gold + 1,
        }
