"""The linker's most confident mistakes, with their contexts and both entities."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import Any

from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.blink_format import read_blink_mentions
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.pipeline.job import Job
from zeshel_tasks.report.report_data import EntityFacts, EntityText, Mistake
from zeshel_tasks.stages.calibrate import PROBABILITIES
from zeshel_tasks.stages.inputs import split_file, world_documents


def most_confident_mistakes(job: Job, split: Split, count: int) -> list[Mistake]:
    """The ``count`` wrong predictions with the highest calibrated probability of a split, the most confident first."""
    right = read_array(job.inputs["calibrate"].path(f"{split}/{PROBABILITIES}"))[:, 0]
    predictions = read_json_lines(job.inputs["fuse"].path(f"{split}/predictions.jsonl"))
    wrong = ((row, prediction) for row, prediction in enumerate(predictions) if not prediction["correct"])
    chosen = dict(heapq.nsmallest(count, wrong, key=lambda item: -right[item[0]]))
    entities = _entities(job, chosen)
    mistakes = {}
    for row, mention in enumerate(read_blink_mentions(split_file(job, split))):
        if row in chosen:
            prediction = chosen[row]
            gold, predicted = (entities[mention.world, prediction[key]] for key in ("label_id", "predicted_id"))
            mistakes[row] = Mistake(
                split=split,
                world=mention.world,
                category=mention.category,
                mention=mention.mention,
                context_left=mention.context_left,
                context_right=mention.context_right,
                confidence=round(float(right[row]), 6),
                gold_title=gold.title,
                gold_text=EntityText.of(gold.text),
                gold_rank=prediction["gold_rank"],
                predicted_title=predicted.title,
                predicted_text=EntityText.of(predicted.text),
                gold_facts=EntityFacts.of(gold),
                predicted_facts=EntityFacts.of(predicted),
            )
    return [mistakes[row] for row in chosen]


def _entities(job: Job, predictions: dict[int, dict[str, Any]]) -> dict[tuple[str, int], Document]:
    """The gold and predicted entities by world and position. Reads the file of one world at a time."""
    wanted: dict[str, set[int]] = {}
    for prediction in predictions.values():
        wanted.setdefault(prediction["world"], set()).update((prediction["label_id"], prediction["predicted_id"]))
    entities = {}
    for world, positions in wanted.items():
        documents = islice(world_documents(job.inputs["download"], world), max(positions) + 1)
        entities.update({(world, n): document for n, document in enumerate(documents) if n in positions})
    return entities
