"""Creates a BERT of any shape with random weights, which the package opens like a pretrained one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from zeshel_tasks.demo.small_bert import SPECIAL_TOKENS

# Multiplied by 1/sqrt(hidden). With BERT's 0.02, attention over random words is almost uniform, and all sequences get
# almost the same vector (cosine 0.94 at 24 layers of 1,024), which hides errors. Here, logits have a deviation of 1.6.
_INITIALIZER_RANGE = 1.28


@dataclass(frozen=True)
class Shape:
    """The shape of a BERT; by default that of bert-large-uncased.

    Attributes:
        layers: number of layers.
        hidden: width of a token's vector.
        heads: attention heads, a divisor of ``hidden``.
        intermediate: width between the two products of a feed-forward part.
        vocabulary: rows of the word embeddings.
    """

    layers: int = 24
    hidden: int = 1024
    heads: int = 16
    intermediate: int = 4096
    vocabulary: int = 30_522


def write_model(shape: Shape, directory: Path, seed: int = 7) -> None:
    """Write weights, configuration and a minimal tokenizer, which has only the special tokens and the markers.

    The token tables are random, so no other word is needed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in SPECIAL_TOKENS))
    BertTokenizer(vocab=str(vocabulary), do_lower_case=True).save_pretrained(directory)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        initializer_range=_INITIALIZER_RANGE / shape.hidden**0.5,
    )
    BertModel(config).save_pretrained(directory)
