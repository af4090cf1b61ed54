"""Writes all of an export: both encoders and the model card."""

from __future__ import annotations

from pathlib import Path

from zeshel_tasks.export.folders import CANDIDATE_ENCODER, write_biencoder, write_crossencoder
from zeshel_tasks.export.model_card import model_card
from zeshel_tasks.export.source import Source


def write_models(source: Source, out: Path, license_id: str) -> None:
    """Write ``candidate_encoder/``, ``mention_encoder/``, ``cross_encoder/`` and ``README.md``.

    Args:
        source: the models to export.
        out: an existing directory.
        license_id: identifier of the models' licence on the hub.

    Raises:
        ConfigError: a model cannot be read.
        DataError: an artifact is damaged, or comes from a version with other metrics.
    """
    write_biencoder(source.biencoder.directory("model"), out)
    write_crossencoder(source.crossencoder.directory("model"), out)
    run_code = any((out / CANDIDATE_ENCODER).glob("*.py"))
    card = model_card(source, license_id=license_id, candidates_run_code=run_code)
    (out / "README.md").write_text(card, encoding="utf-8")
