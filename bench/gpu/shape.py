"""A BERT of any shape with random weights, in a directory that the package opens like a pretrained one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from zeshel_tasks.demo.small_bert import SPECIAL_TOKENS

# Times 1/sqrt(hidden): with BERT's 0.02, attention over random words is next to uniform, and all sequences come to
# almost one vector (cosine 0.94 at 24 layers of 1,024), in which no error shows. This gives logits a deviation of 1.6.
_INITIALIZER_RANGE = 1.28


@dataclass(frozen=True)
class Shape:
    """A BERT's; that of bert-large-uncased without arguments.

    Attributes:
        layers: of the encoder.
        hidden: width of a token's vector.
        heads: of an attention; they divide ``hidden``.
        intermediate: width between the two products of a feed-forward part.
        vocabulary: rows of the word embeddings.
    """

    layers: int = 24
    hidden: int = 1024
    heads: int = 16
    intermediate: int = 4096
    vocabulary: int = 30_522


def write_model(shape: Shape, directory: Path, seed: int = 7) -> None:
    """Writes weights, configuration and the least of a tokenizer: the special tokens and the markers.

    Token tables are random here, so no other word is ever looked up.
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
