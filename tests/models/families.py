"""Small random models of many families, each with a tokenizer of its own kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoConfig,
    AutoModel,
    BertTokenizer,
    CamembertTokenizer,
    PhobertTokenizer,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

POSITIONS = 64  # tokens of the longest sequence
_WORDS = ["The", "the", "Sword", "sword", "of", "Dawn", "dawn", "é", "e", "東", "京"]
_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789[]<>.'é東京"
_CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "hidden_dropout_prob": 0.0,  # only the attention is random
}

Build = Callable[[Path], None]


def save_model(directory: Path, model_type: str, tokenizer: Any, vocab_size: int, **config: Any) -> None:
    """Writes a model with this tokenizer. The large weights make every difference visible."""
    torch.manual_seed(7)
    known = AutoConfig.for_model(model_type, vocab_size=vocab_size, **_CONFIG, **config)
    AutoModel.from_config(known).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    weights = AutoModel.from_pretrained(directory)
    with torch.no_grad():
        for parameter in weights.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    weights.save_pretrained(directory)


def with_word_pieces(model_type: str, *unused: str, spare: int = 0, **config: Any) -> Build:
    """A model with the vocabulary of a BERT, and ``spare`` embeddings more than tokens."""

    def build(directory: Path) -> None:
        directory.mkdir()
        pieces = [f"##{character}" for character in _CHARACTERS]
        tokens = [
            "[PAD]",
            *unused,
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            *dict.fromkeys((*_WORDS, *_CHARACTERS)),
            *pieces,
        ]
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
        tokenizer = BertTokenizer(vocab=str(directory / "vocab.txt"), do_lower_case=False)
        save_model(directory, model_type, tokenizer, len(tokens) + spare, max_position_embeddings=POSITIONS, **config)

    return build


def with_bytes(model_type: str, **config: Any) -> Build:
    """A model with a byte-level vocabulary, in which a word and the space before it are one token."""

    def build(directory: Path) -> None:
        tokens, merges = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet())], []
        for word in ("Ġsword", "Ġthe", "ĠThe", "Ġof", "ĠDawn", "Ġdawn", "the"):
            for end in range(1, len(word)):
                if (word[:end], word[end]) not in merges:
                    merges.append((word[:end], word[end]))
                    tokens.append(word[: end + 1])
        tokens.append("<mask>")
        tokenizer = RobertaTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
        save_model(directory, model_type, tokenizer, len(tokens), **_after_padding(config))

    return build


def with_pieces(model_type: str, **config: Any) -> Build:
    """A model with a vocabulary of SentencePiece, which contains the special tokens."""

    def build(directory: Path) -> None:
        pieces = [(f"▁{word}", -1.0) for word in _WORDS] + [("▁", -3.0), *((c, -5.0) for c in _CHARACTERS)]
        if model_type == "camembert":
            first = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
            make: Any = CamembertTokenizer
        else:
            first, make = ["<s>", "<pad>", "</s>", "<unk>"], XLMRobertaTokenizer
        vocabulary = [*((token, 0.0) for token in first), *pieces, ("<mask>", 0.0)]
        config["bos_token_id"], config["eos_token_id"] = first.index("<s>"), first.index("</s>")
        save_model(directory, model_type, make(vocab=vocabulary), len(vocabulary), **_after_padding(config))

    return build


def with_codes(model_type: str) -> Build:
    """A model whose tokenizer is written in Python, which takes a line end for a letter."""

    def build(directory: Path) -> None:
        directory.mkdir()
        merges = ["t h", "th e</w>", "o f</w>", "s w", "sw o", "swo r", "swor d</w>"]
        joined = [merge.replace(" ", "") for merge in merges]
        symbols = [*_CHARACTERS, *(f"{character}</w>" for character in _CHARACTERS), *joined]
        tokens = [s.removesuffix("</w>") if s.endswith("</w>") else f"{s}@@" for s in symbols]
        vocabulary, codes = directory / "vocab.txt", directory / "bpe.codes"
        vocabulary.write_text("".join(f"{token} 1\n" for token in dict.fromkeys(tokens)))
        codes.write_text("".join(f"{merge} 1\n" for merge in merges))
        tokenizer = PhobertTokenizer(vocab_file=str(vocabulary), merges_file=str(codes))
        save_model(directory, model_type, tokenizer, len(tokenizer.get_vocab()), **_after_padding({}))

    return build


def _after_padding(config: dict[str, Any]) -> dict[str, Any]:
    """Positions are counted from the number after that of padding."""
    return {"pad_token_id": 1, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1, **config}


ACCEPTED: dict[str, Build] = {
    "bert": with_word_pieces("bert", "[unused0]", "[unused1]", "[unused2]"),
    "cased bert": with_word_pieces("bert", "[unused1]", "[unused2]"),
    "bert with spare embeddings": with_word_pieces("bert", spare=8),
    "bert with one segment": with_word_pieces("bert", type_vocab_size=1),
    "ernie": with_word_pieces("ernie", use_task_id=True),
    "layoutlm": with_word_pieces("layoutlm", "[unused0]", "[unused1]", "[unused2]"),
    "roberta": with_bytes("roberta"),
    "roberta with two segments": with_bytes("roberta", type_vocab_size=2),
    "roberta with a tokenizer in Python": with_codes("roberta"),
    "data2vec-text": with_bytes("data2vec-text"),
    "xlm-roberta": with_pieces("xlm-roberta"),
    "camembert": with_pieces("camembert"),
}
