"""Settings of the stages that retrieve candidates."""

from __future__ import annotations

from typing import Literal

from zeshel_tasks.config.compute import ComputeConfig
from zeshel_tasks.config.stage_config import setting

VectorDtype = Literal["float32", "float16"]
CandidateForm = Literal["title_and_text", "blink_eval"]


class RetrievalConfig(ComputeConfig):
    """Settings of both stages that retrieve candidates."""

    encode_batch_size: int = setting(
        256, "Candidates per encoding batch.", shared=True, affects_result=False, ge=1, le=100_000
    )
    eval_batch_size: int = setting(64, "Mentions per encoding batch.", affects_result=False, ge=1, le=100_000)
    vector_dtype: VectorDtype = setting(
        "float32",
        "Storage type of the candidates' vectors. float16 halves the files and may change the order of near ties.",
        shared=True,
    )
    sharded_from: int = setting(
        250_000,
        "Encode the entities of a world in shards, one task for each, if it has more than this many.",
        shared=True,
        affects_result=False,
        ge=32,
        le=10**9,
    )
    candidate_form: CandidateForm = setting(
        "title_and_text",
        "Text of a candidate: title and text as in training, or text[:256] without a title as in BLINK's evaluation.",
        shared=True,
    )


class FitRetrievalConfig(RetrievalConfig):
    """Fit the weights of the hybrid retriever on the valid mentions."""

    hybrid: bool = setting(
        False,
        "Retrieve also by words (BM25 over title, aliases and text) and by name, and rank all candidates by a score "
        "whose weights are fitted on valid; false retrieves with the bi-encoder alone.",
    )
    context_words: int = setting(
        32, "Words on each side of a mention that BM25 searches for as its context.", ge=1, le=1000
    )


class EvalBiencoderConfig(RetrievalConfig):
    """Retrieve candidates and measure recall."""

    top_k: int = setting(
        64, "Candidates to retrieve per mention. A single one leaves a cross-encoder no choice.", ge=2, le=10_000
    )
