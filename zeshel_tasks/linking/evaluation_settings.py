"""How the evaluation linked the mentions. Linking others in the same way gives the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zeshel_tasks.config.compute import Precision
from zeshel_tasks.config.retrieval import CandidateForm, VectorDtype
from zeshel_tasks.errors import DataError

FILE = "evaluation.json"


class EvaluationSettings(BaseModel):
    """Settings of ``convert``, ``eval-biencoder`` and ``eval-crossencoder`` that decide a mention's scores.

    The defaults are for a champion of an earlier version, which has no record of them. They are those of the preset
    ``recommended``.

    Attributes:
        context_tokens: tokens of context on each side of a mention.
        top_k: candidates of a mention.
        candidate_form: text of a candidate, as the bi-encoder reads it.
        vector_dtype: type of the candidates' vectors.
        precision: of the models.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    context_tokens: int = Field(128, ge=1)
    top_k: int = Field(64, ge=1)
    candidate_form: CandidateForm = "title_and_text"
    vector_dtype: VectorDtype = "float16"
    precision: Precision = "auto"

    @classmethod
    def of_configs(cls, convert: dict[str, Any], eval_biencoder: dict[str, Any]) -> EvaluationSettings:
        """Selects the settings from what the manifests of these stages say."""
        known = {**convert, **eval_biencoder}
        return cls.model_validate({name: known[name] for name in cls.model_fields if name in known})

    @classmethod
    def read(cls, path: Path) -> EvaluationSettings:
        """Reads ``evaluation.json``.

        Raises:
            DataError: not such a file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise DataError("no settings", file=path.name, expected="those of an evaluation", got=str(error)) from error
