"""Settings of the training of the bi-encoder."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from zeshel_tasks.config.encoder import EncoderConfig, WeightsAddress
from zeshel_tasks.config.stage_config import PRINTABLE, setting

Pooling = Literal["cls", "mean", "span", "span_and_mean"]
PoolingSetting = Literal["auto", "cls", "mean", "span", "span_and_mean"]
Similarity = Literal["dot", "cosine"]
SimilaritySetting = Literal["auto", "dot", "cosine"]
AUTO = "auto"
"""Value of a setting that follows what ``bert_model`` declares."""
HardNegativeSource = Literal["model", "bm25", "both"]
Prompt = Annotated[str, Field(max_length=255, pattern=rf"^{PRINTABLE}+$")]


class TrainBiencoderConfig(EncoderConfig):
    """Train the bi-encoder that retrieves candidate entities."""

    biencoder_weights: WeightsAddress | None = setting(
        None,
        "Initial weights: the pytorch_model.bin of a BLINK bi-encoder, at a local path, an s3 or a file address.",
        affects_result=False,
    )
    mask_duplicate_golds: bool = setting(
        True,
        "Score an entity once in a batch in which it is the gold of several mentions, so that it is no negative of "
        "theirs and a single negative of the others.",
    )
    one_world_batches: bool = setting(
        False, "Draw each batch from a single world, so that in-batch negatives come from the mention's own world."
    )
    hard_negatives: int = setting(
        0, "Hard negatives per mention, from the high-scoring entities of its world; 0 uses in-batch negatives only.",
        ge=0, le=1000,
    )  # fmt: skip
    hard_negative_rounds: int = setting(
        1,
        "How many times hard negatives are mined, at equal intervals over the epochs. With one epoch, a single round "
        "runs before it.",
        ge=1,
        le=100,
    )
    hard_negatives_from: HardNegativeSource = setting(
        "model",
        "Rank hard negatives by the bi-encoder in training, by BM25 with the words of the mention, or by both, half of "
        "the entities each.",
    )
    gradient_cache: bool = setting(
        False,
        "With gradient_accumulation_steps, share in-batch negatives among all parts of a batch, at the cost of "
        "encoding each part twice.",
    )
    pooling: PoolingSetting = setting(
        "cls",
        "Source of the vector: the output for [CLS], or the mean over all tokens; for a mention also the mean over its "
        "own tokens between the markers (span), or the sum of both means. Candidates then have the mean over all. "
        "auto is what bert_model declares in the files of sentence-transformers, or else the mean over all tokens.",
    )
    similarity: SimilaritySetting = setting(
        "dot",
        "Score: dot product, or cosine divided by a learned temperature. auto is the cosine, unless bert_model "
        "declares vectors that are not normalized.",
    )
    mention_prompt: Prompt | None = setting(
        None,
        "Text before each mention and its context, for which bert_model was trained: 'query: ' in the e5 family. auto "
        "is what bert_model declares in the files of sentence-transformers; none is no text.",
    )
    candidate_prompt: Prompt | None = setting(
        None, "Text before each candidate, such as 'passage: ' in the e5 family; auto and none as for mention_prompt."
    )
    temperature: float = setting(0.05, "Initial temperature of the cosine similarity.", ge=0.01, le=1)
    temperature_learning_rate: float = setting(
        1e-2,
        "Peak learning rate of the temperature's logarithm, with the same schedule. A step changes the temperature by "
        "about this fraction, so 1e-5 leaves it as it is.",
        ge=1e-9,
        le=1,
    )

    valid_top_k: int = setting(
        64,
        "The best epoch has the highest recall of valid mentions at this number of candidates, then at 1.",
        ge=1,
        le=10_000,
    )
    valid_entities: int | None = setting(
        10_000,
        "Entities of the valid worlds that a validation searches besides the golds: a random sample, in which each "
        "stands for several; none searches all.",
        ge=1,
        le=10**9,
    )

    @property
    def mines_before_training(self) -> bool:
        """True if the first of the rounds, which are spread evenly over the epochs, is before the first epoch."""
        return self.hard_negatives > 0 and self.hard_negative_rounds >= self.num_train_epochs

    @model_validator(mode="after")
    def _each_mention_has_negatives(self) -> Self:
        """Without any, the loss is 0 in every step."""
        if self.num_train_epochs == 0 or self.mines_before_training:
            return self
        if self.train_batch_size < 2:
            raise ValueError(
                "train_batch_size: expected 2 or more, because the negatives of a mention are the golds of the others, "
                f"got {self.train_batch_size}"
            )
        if self.gradient_accumulation_steps > self.train_batch_size // 2 and not self.gradient_cache:
            raise ValueError(
                f"gradient_accumulation_steps: expected at most half of train_batch_size ({self.train_batch_size}), "
                "because without gradient_cache the negatives of a mention are the golds of the others in its part, "
                f"got {self.gradient_accumulation_steps}"
            )
        return self

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if self.type_optimization == "additional_layers" and not self.add_linear:
            raise ValueError(
                "type_optimization: expected layers that exist: additional_layers is the layer of add_linear, "
                "got it with add_linear false"
            )
        if self.add_linear and self.similarity != "dot" and self.out_dim < 2:
            raise ValueError(
                f"out_dim: expected 2 or more with similarity {self.similarity}, because one number has no direction "
                f"to learn, got {self.out_dim}"
            )
        return self

    @model_validator(mode="after")
    def _add_linear_needs_cls_pooling(self) -> Self:
        if self.add_linear and self.pooling != "cls":
            raise ValueError(
                f"pooling: expected cls with add_linear, whose layer reads the pooler's [CLS], got {self.pooling}"
            )
        return self
