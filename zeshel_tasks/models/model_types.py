"""The model types that both encoders accept, and the facts about a model in its ``config.json``.

A type is accepted if ``tests/models/test_model_types.py`` shows that our vectors and scores equal those of its own
forward pass in ``transformers``. Models of other types may have the same modules and compute something else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import CONFIG_MAPPING

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.broken import BROKEN, described
from zeshel_tasks.text.safe_text import quoted

_FROM_ZERO = ("bert", "ernie", "layoutlm")
_AFTER_PADDING = ("camembert", "data2vec-text", "roberta", "xlm-roberta")
MODEL_TYPES = tuple(sorted(_FROM_ZERO + _AFTER_PADDING))

# Settings for other uses, which may be saved with a model: what its forward pass returns, and how it saves memory.
_PLAIN = {
    "return_dict": True,
    "output_attentions": False,
    "output_hidden_states": False,
    "chunk_size_feed_forward": 0,
}


class ModelShape(BaseModel):
    """The values in a model's ``config.json`` that we rely on. The defaults of its type replace missing ones."""

    model_config = ConfigDict(frozen=True, strict=True)
    model_type: str
    vocab_size: int = Field(ge=1, le=10_000_000)
    hidden_size: int = Field(ge=1, le=100_000)
    intermediate_size: int = Field(ge=1, le=1_000_000)
    num_hidden_layers: int = Field(ge=1, le=1000)
    num_attention_heads: int = Field(ge=1, le=10_000)
    max_position_embeddings: int = Field(ge=1, le=10_000_000)
    type_vocab_size: int = Field(ge=1, le=1000)
    pad_token_id: int | None = Field(ge=0, le=10_000_000)
    hidden_dropout_prob: float = Field(ge=0, lt=1)
    attention_probs_dropout_prob: float = Field(ge=0, lt=1)
    layer_norm_eps: float = Field(gt=0, lt=1)
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False
    position_embedding_type: Literal["absolute", None] = None
    quantization_config: None = None

    @property
    def positions(self) -> int:
        """The largest number of tokens of a sequence."""
        unused = 1 + (self.pad_token_id or 0) if counts_after_padding(self.model_type) else 0
        return self.max_position_embeddings - unused


def counts_after_padding(model_type: str) -> bool:
    """True if the models number tokens from the padding token's id + 1 on, as those of fairseq do."""
    return model_type in _AFTER_PADDING


def takes_whole_masks(model_type: str) -> bool:
    """True if the models also accept a mask of four dimensions. The others make it themselves."""
    return model_type != "layoutlm"


def model_shape(directory: Path) -> ModelShape:
    """The shape of the model, from the directory's ``config.json``.

    Raises:
        ConfigError: the file cannot be read, does not describe a model, or describes one that is not accepted.
    """
    path = directory / "config.json"
    try:
        return ModelShape.model_validate(_with_defaults(json.loads(path.read_bytes()), path))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "all of it"
        raise ConfigError(f"bert_model: {path}: {where}: {problem['msg']}; got {quoted(problem['input'])}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"bert_model: {path}: expected a JSON object, got: {error}") from error


def model_config(directory: Path) -> Any:
    """The configuration of a model that is accepted, for ``transformers``.

    Raises:
        ConfigError: see :func:`model_shape`; or ``transformers`` refuses a value.
    """
    shape, path = model_shape(directory), directory / "config.json"
    try:
        return CONFIG_MAPPING[shape.model_type].from_dict(json.loads(path.read_bytes()) | _PLAIN)
    except BROKEN as error:
        problem = f"expected values that {shape.model_type} has, got: {described(error)}"
        raise ConfigError(f"bert_model: {path}: {problem}") from error


def check_length(shape: ModelShape, setting: str, tokens: int) -> None:
    """Check that the model has enough positions for this number of tokens.

    Raises:
        ConfigError: it has fewer; the message names ``setting``.
    """
    if tokens > shape.positions:
        raise ConfigError(
            f"{setting}: expected at most {shape.positions}, the positions that bert_model has, got {tokens}"
        )


def check_layer(layers: int, pull_from_layer: int) -> None:
    """Check that a model of this number of layers has the layer ``pull_from_layer``.

    Raises:
        ConfigError: it does not.
    """
    if not -layers - 1 <= pull_from_layer <= layers:
        raise ConfigError(
            f"pull_from_layer: expected {-layers - 1} to {layers} for a model of {layers} layers, got {pull_from_layer}"
        )


def _with_defaults(values: Any, path: Path) -> Any:
    name = values.get("model_type") if isinstance(values, dict) else None
    if not isinstance(name, str):
        return values
    if name not in MODEL_TYPES:
        raise ConfigError(
            f"bert_model: {path}: model_type: expected one of {', '.join(MODEL_TYPES)}, got {quoted(name)}"
        )
    return CONFIG_MAPPING[name]().to_dict() | values
