"""Settings with which mentions of texts are linked."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, model_validator

from zeshel_tasks.config.compute import ComputeConfig, Precision
from zeshel_tasks.config.stage_config import setting

Offsets = Literal["code_points", "utf16"]
Mentions = Literal["given", "titles"]
LinkMode = Literal["rerank", "cascade", "retrieve"]
LINK_MODES: tuple[LinkMode, ...] = ("rerank", "cascade", "retrieve")

_THRESHOLD = r"^(precision=)?(0|1|0?\.[0-9]{1,9}|1\.0{1,9})$"


def _checked_threshold(value: object) -> object:
    """Explains what the pattern, which the trigger form needs, does not."""
    if isinstance(value, str) and not re.match(_THRESHOLD, value):
        raise ValueError("expected a number from 0 to 1, such as 0.8, or precision= and such a number")
    return value


class LinkConfig(ComputeConfig):
    """Link the mentions of texts against a knowledge base. Not a stage of the recipe."""

    precision: Precision = setting(
        "fp32", "fp32, bf16, or auto: bf16 if the hardware supports it, else fp32; by default as in the evaluation."
    )
    candidates: int = setting(
        64, "Candidates to retrieve per mention; by default as many as in the evaluation.", ge=2, le=10_000
    )
    mode: LinkMode = setting(
        "rerank",
        "rerank scores the candidates of every mention with the cross-encoder; cascade only those of mentions that the "
        "retriever does not make clear, which is faster and loses little; retrieve those of none.",
    )
    top_k: int = setting(5, "Candidates to show per mention, the best ones.", ge=1, le=10_000)
    threshold: Annotated[str | None, BeforeValidator(_checked_threshold)] = setting(
        None,
        "Link a mention only if this is the probability at least that its best candidate is right; precision=0.95 is "
        "the probability at which the linked mentions of valid have this precision. None links a mention unless its "
        "entity is more likely missing than not.",
        pattern=_THRESHOLD,
    )
    nil_share: float = setting(
        0.2,
        "Share of the mentions whose entity the knowledge base lacks. The default is that of AIDA-CoNLL.",
        ge=0,
        lt=1,
    )
    mentions: Mentions = setting(
        "given",
        "Mentions of a text without a list of them: given in [[double brackets]]; titles finds the titles and aliases "
        "of the knowledge base's entities.",
    )
    ignore_case: bool = setting(False, "Find titles and aliases in any case.")
    offsets: Offsets = setting(
        "code_points", "Unit of start and end: code_points, as in Python, or utf16, as in JavaScript and Java."
    )
    tokenized: bool = setting(
        False,
        "The texts consist of tokens with single spaces between them, as ZESHEL's documents do, and stay as they are; "
        "false separates words and punctuation.",
    )
    eval_batch_size: int = setting(64, "Mentions per encoding batch.", affects_result=False, ge=1, le=100_000)
    score_batch_size: int = setting(
        2, "Mentions per scoring batch, each with all its candidates.", affects_result=False, ge=1, le=10_000
    )

    @model_validator(mode="after")
    def _check_case(self) -> LinkConfig:
        if self.ignore_case and self.mentions != "titles":
            raise ValueError(f"ignore_case: expected false unless mentions is titles, got true with {self.mentions}")
        return self
