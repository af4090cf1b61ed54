"""What encodes the entities of a knowledge base: the bi-encoder of a champion or of a run, as it was evaluated."""

from __future__ import annotations

from zeshel_tasks.knowledge_base.head import Encoding
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.store import artifact_folder


def encoding_of(models: LinkerModels) -> Encoding:
    """Returns the bi-encoder with the settings of its evaluation, which linking uses, too."""
    evaluation = models.evaluation()
    return Encoding(
        biencoder=artifact_folder("train-biencoder", models.biencoder.manifest.fingerprint),
        candidate_form=evaluation.candidate_form,
        precision=evaluation.precision,
        vector_dtype=evaluation.vector_dtype,
    )
