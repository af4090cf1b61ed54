"""Settings of both training stages."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from zeshel_tasks.config.compute import ComputeConfig
from zeshel_tasks.config.stage_config import ADDRESS, setting, takes
from zeshel_tasks.location import model_location, store_location

ModelAddress = Annotated[str, ADDRESS, takes(model_location)]
WeightsAddress = Annotated[str, ADDRESS, takes(store_location)]
TypeOptimization = Literal["all", "additional_layers", "top_layer", "top4_layers", "all_encoder_layers"]


class EncoderConfig(ComputeConfig):
    """Settings of both training stages: encoder, optimizer and schedule."""

    bert_model: ModelAddress = setting(
        "bert-large-uncased",
        "Pretrained model to start from, of the type bert, camembert, data2vec-text, ernie, layoutlm, roberta or "
        "xlm-roberta: a Hugging Face hub name (name@revision pins a commit, tag or branch), a local directory, or an "
        "s3 or file address.",
        shared=True,
        affects_result=False,  # as for `source`
    )
    learning_rate: float | None = setting(
        1e-5, "Peak learning rate; none suits it to the size of the model (docs/recipe.md).", ge=1e-9, le=1
    )
    num_train_epochs: int = setting(
        5, "Epochs, each one pass over the training mentions; 0 keeps the initial weights.", ge=0, le=1000
    )
    train_batch_size: int = setting(128, "Mentions per training step.", ge=1, le=100_000)
    eval_batch_size: int = setting(
        64, "Mentions or entities per validation batch of a process.", affects_result=False, ge=1, le=100_000
    )
    gradient_accumulation_steps: int = setting(
        1, "Compute each training step in this many parts to save memory.", ge=1, le=10_000
    )
    max_context_length: int = setting(
        128, "Maximum tokens of a mention in its context, including the mention markers.", shared=True, ge=8, le=512
    )
    max_cand_length: int = setting(
        128, "Maximum tokens of a candidate's title and description.", shared=True, ge=8, le=512
    )
    type_optimization: TypeOptimization = setting("all_encoder_layers", "Parameters to train.")
    warmup_proportion: float = setting(
        0.1, "Fraction of the training steps during which the learning rate warms up.", ge=0, le=1
    )
    max_grad_norm: float = setting(1.0, "Norm to which gradients are clipped.", ge=1e-6, le=10**6)
    attention_dropout: float | None = setting(
        None,
        "Dropout on attention probabilities; none uses the model's own value. 0 allows a fused attention kernel.",
        ge=0,
        lt=1,
    )
    weight_decay: float = setting(
        0.01, "Weight decay of AdamW. Biases and LayerNorm weights are never decayed.", ge=0, le=1
    )
    seed: int = setting(52313, "Seed of the initial weights, dropout and shuffling.", shared=True, ge=0, le=2**32 - 1)
    shuffle: bool = setting(True, "Reshuffle the training mentions in every epoch.")
    pull_from_layer: int = setting(-1, "Layer whose output is used; -1 is the last.", ge=-100, le=100)
    out_dim: int = setting(1, "Output dimension of the linear layer that add_linear adds.", ge=1, le=65_536)
    add_linear: bool = setting(False, "Add dropout and a linear layer on top of the pooled output.")
    lowercase: bool = setting(True, "Lowercase text before tokenizing; false for a cased model.", shared=True)
    data_parallel: bool = setting(True, "Use all GPUs of the machine, with one process per GPU.", affects_result=False)
    gradient_precision: Literal["fp32", "bf16"] = setting(
        "fp32",
        "Precision in which several processes exchange gradients. bf16 halves the bytes, which a slow network between "
        "machines needs, and rounds the gradients to 8 bits.",
    )
    patience: int | None = setting(
        None,
        "Stop after this many consecutive epochs without a better validation result; none trains all epochs.",
        ge=1,
        le=1000,
    )
    eval_interval: int = setting(
        0,
        "Also validate every this many steps, for the learning curve only: the validations at the end of the epochs "
        "decide which epoch is best. 0 validates at the end of epochs only.",
        affects_result=False, ge=0, le=10**9,
    )  # fmt: skip
    checkpoint_minutes: float = setting(
        10.0, "Minutes between checkpoints within an epoch.", affects_result=False, ge=1e-6, le=1440
    )

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate. If it was none, ``training/learning_rates.py`` has replaced it before."""
        assert self.learning_rate is not None
        return self.learning_rate

    @model_validator(mode="after")
    def _batch_has_enough_mentions_for_its_parts(self) -> Self:
        if self.gradient_accumulation_steps > self.train_batch_size:
            raise ValueError(
                f"gradient_accumulation_steps: expected at most train_batch_size ({self.train_batch_size}), "
                f"got {self.gradient_accumulation_steps}"
            )
        return self
