"""Settings of the stages that train the cross-encoder and score with it."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from zeshel_tasks.config.compute import ComputeConfig
from zeshel_tasks.config.encoder import EncoderConfig, WeightsAddress
from zeshel_tasks.config.stage_config import setting


class TrainCrossencoderConfig(EncoderConfig):
    """Train the cross-encoder that re-ranks the retrieved candidates."""

    learning_rate: float | None = setting(
        2e-5,
        "Peak learning rate; none suits it to the size of the model. docs/recipe.md explains why it is not BLINK's "
        "1e-03.",
        ge=1e-9,
        le=1,
    )
    train_batch_size: int = setting(2, "Mentions per training step, each with all its candidates.", ge=1, le=10_000)
    eval_batch_size: int = setting(
        2, "Mentions per validation batch, each with all its candidates.", affects_result=False, ge=1, le=10_000
    )
    max_seq_length: int = setting(256, "Maximum tokens of mention and candidate together.", ge=16, le=512)
    train_candidates: int | None = setting(
        None,
        "Candidates per mention in a training step: the gold and a random sample of the others, redrawn each epoch; "
        "none uses all.",
        ge=2,
        le=10_000,
    )
    max_train_mentions: int | None = setting(
        None,
        "Train mentions, drawn at random from those whose gold was retrieved. A larger number includes those of a "
        "smaller one; none uses all.",
        ge=1,
        le=10_000_000,
    )
    from_biencoder: bool = setting(
        False,
        "Start from the mention tower of the trained bi-encoder instead of bert_model.",
    )
    add_linear: bool = setting(True, "Compute the score with a linear layer on the pooled output; must be true.")
    crossencoder_weights: WeightsAddress | None = setting(
        None,
        "Initial weights: the pytorch_model.bin of a BLINK cross-encoder, at a local path, an s3 or a file address.",
        affects_result=False,
    )

    @model_validator(mode="after")
    def _check_score_and_lengths(self) -> Self:
        if not self.add_linear or self.out_dim != 1:
            raise ValueError(
                "add_linear, out_dim: expected true and 1, which a cross-encoder's score needs, "
                f"got {str(self.add_linear).lower()} and {self.out_dim}"
            )
        if self.max_seq_length <= self.max_context_length:
            raise ValueError(
                f"max_seq_length: expected more than max_context_length ({self.max_context_length}), "
                f"got {self.max_seq_length}"
            )
        return self


class EvalCrossencoderConfig(ComputeConfig):
    """Score the candidates with the cross-encoder and measure its accuracy."""

    eval_batch_size: int = setting(
        2, "Mentions per scoring batch, each with all its candidates.", affects_result=False, ge=1, le=10_000
    )
