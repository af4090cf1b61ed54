"""The test worlds of a finished run as knowledge bases, its test mentions, and what the evaluation said of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.config.retrieval import EvalBiencoderConfig
from zeshel_tasks.data.blink_format import BlinkMention, read_blink_mentions
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.evaluation.entity_encoding import EntityEncoder
from zeshel_tasks.linking.calibration import in_text
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.linking.fusion import Scores
from zeshel_tasks.linking.linker import Linker
from zeshel_tasks.linking.loaded_models import LoadedModels
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.stages.inputs import RankedSplit, world_documents
from zeshel_tasks.stages.run_models import models_of_run
from zeshel_tasks.store import Artifact, Run

NIL_SHARE = 0.2


@dataclass(frozen=True)
class LinkedWorlds:
    """See above; ``probabilities`` (float32 [mentions, 2]: right, none) are those in a text, by ``NIL_SHARE``."""

    models: LinkerModels
    download: Artifact
    mentions: list[BlinkMention]
    predictions: list[dict[str, Any]]
    ranked: RankedSplit
    final: Scores
    probabilities: npt.NDArray[np.float32]
    entities: dict[str, EntitySet]

    def rows(self) -> Iterator[tuple[str, list[int]]]:
        """Yields each test world and the rows of its mentions."""
        for world in self.entities:
            yield world, [row for row, mention in enumerate(self.mentions) if mention.world == world]

    def linker(self, world: str, settings: dict[str, Any] | None = None, **changed: Any) -> Linker:
        """Returns a new linker. Its batches are the evaluation's."""
        config = LinkConfig(candidates=self.models.evaluation().top_k, score_batch_size=8, nil_share=NIL_SHARE)
        models = LoadedModels.load(self.models, config.model_copy(update=settings or {}))
        return Linker(models, replace(self.entities[world], **changed))


def linked_worlds(run: Run, folder: Path) -> LinkedWorlds:
    models = models_of_run(run, folder / "cache")
    step = {name: run.artifact(name, folder / "cache") for name in ("download", "convert", "fuse", "calibrate")}
    evaluated = (run.artifact(f"eval-{name}-test", folder / "cache") for name in ("biencoder", "crossencoder"))
    step["convert"].path("test.mentions.jsonl")
    mentions = list(read_blink_mentions(step["convert"].path("test.jsonl")))
    settings = models.evaluation()
    config = EvalBiencoderConfig(candidate_form=settings.candidate_form, vector_dtype=settings.vector_dtype)
    encoder = EntityEncoder.load(models.biencoder.directory("model"), config)
    entities = {
        world: EntitySet.write(
            world_documents(step["download"], world),
            encoder,
            models.biencoder.manifest.fingerprint,
            folder / world,
            world,
        )
        for world in sorted({mention.world for mention in mentions})
    }
    return LinkedWorlds(
        models,
        step["download"],
        mentions,
        list(read_json_lines(step["fuse"].path("test/predictions.jsonl"))),
        RankedSplit.read(*evaluated),
        np.load(step["fuse"].path("test/scores.npy")),
        np.stack(in_text(*np.load(step["calibrate"].path("test/probabilities.npy")).T, NIL_SHARE), axis=1),
        entities,
    )
