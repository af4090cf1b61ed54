"""Builds a small BERT from scratch, for demos and tests on a machine without pretrained weights.

Two measures let it learn linking within a minute on a CPU, which a randomly initialized model does not: half the heads
of its first layer initially attend to other occurrences of the same token, and a short pretraining on pages of the
train worlds teaches the pooler to count such matches.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, BertTokenizer

from zeshel_tasks.demo.small_bert_pretraining import pretrain_matching
from zeshel_tasks.demo.train_pages import TrainPage, read_train_pages
from zeshel_tasks.errors import ConfigError

log = logging.getLogger(__name__)

SPECIAL_TOKENS = ("[PAD]", *(f"[unused{number}]" for number in range(10)), "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_MAX_LENGTH = 512
_VOCAB_SIZES = (300, 200_000)
_INITIALIZER_RANGE = 0.1  # about 1/sqrt(hidden size): signals keep their scale, as 0.02 does for BERT-large's 1024


def build_small_bert(
    archive: Path, out_dir: Path, seed: int = 7, *, vocab_size: int = 1200, max_pretraining_steps: int = 400
) -> None:
    """Write a model directory for ``AutoModel`` and ``AutoTokenizer``.

    Vocabulary and weights depend only on the train worlds of the archive.

    Args:
        archive: a ZESHEL archive (``.tar.bz2`` or another tar).
        out_dir: the model directory, which is created.
        seed: of the weights and of the pretraining's examples. Equal seeds give equal files on one machine.
        vocab_size: number of word pieces; small, so that names of unseen worlds consist of trained pieces.
        max_pretraining_steps: about 0.1 s each on one core. Pretraining usually stops before 200. 0 saves the initial
            weights.

    Raises:
        ConfigError: the vocabulary is too large, or too small for single characters.
        DataError: the archive is broken or contains too few pages.
    """
    if not _VOCAB_SIZES[0] <= vocab_size <= _VOCAB_SIZES[1]:
        raise ConfigError(f"vocab_size: expected {_VOCAB_SIZES[0]} to {_VOCAB_SIZES[1]}, got {vocab_size}")
    worlds = read_train_pages(archive)
    out_dir.mkdir(parents=True, exist_ok=True)
    tokenizer = _train_tokenizer(worlds, out_dir, vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_small_bert(len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        if max_pretraining_steps:
            done = pretrain_matching(model, tokenizer, worlds, max_steps=max_pretraining_steps, seed=seed)
            log.info("pretrained for %d steps: right page in %.0f%% of cases", done.steps, 100 * done.accuracy)
    model.save_pretrained(out_dir)


def make_small_bert(vocab_size: int, *, pad_token_id: int = 0) -> BertModel:
    """Two randomly initialized layers of 64 dimensions, without dropout (the model is too small to overfit)."""
    model = BertModel(
        BertConfig(
            vocab_size=vocab_size,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=_MAX_LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=_INITIALIZER_RANGE,
            pad_token_id=pad_token_id,
        )
    )
    _shrink_embeddings(model)
    _start_matching_heads(model)
    return model


@torch.no_grad()
def _shrink_embeddings(model: BertModel) -> None:
    """Make the embeddings learn fast, and keep positions from hiding equal tokens.

    LayerNorm removes the scale of the embeddings, but Adam's steps do not depend on it: at a fifth of the scale, the
    same learning rate turns them five times as fast.
    """
    embeddings = model.embeddings
    for table, scale in (
        (embeddings.word_embeddings, 0.2),
        (embeddings.token_type_embeddings, 0.2),
        (embeddings.position_embeddings, 0.04),
    ):
        table.weight.mul_(scale)


@torch.no_grad()
def _start_matching_heads(model: BertModel, scale: float = 1.5) -> None:
    """Let half of the first layer's heads attend to other occurrences of the same token, and copy their values.

    Query and key weights of such a head are the same matrix with orthogonal rows. Value and output weights are another
    such matrix and its transpose (Trockman & Kolter 2023, "Mimetic Initialization of Self-Attention Layers"). With head
    size 16, ``scale`` 1.5 gives equal tokens a score of about 9, which outweighs 128 unequal tokens.
    """
    config, attention = model.config, model.encoder.layer[0].attention
    size = config.hidden_size // config.num_attention_heads
    for head in range(config.num_attention_heads // 2):
        rows = slice(head * size, (head + 1) * size)
        matching, copying = (torch.linalg.qr(torch.randn(config.hidden_size, size)).Q for _ in range(2))
        attention.self.query.weight[rows] = scale * matching.T
        attention.self.key.weight[rows] = scale * matching.T
        attention.self.value.weight[rows] = copying.T
        attention.output.dense.weight[:, rows] = copying


def _train_tokenizer(worlds: dict[str, list[TrainPage]], out_dir: Path, vocab_size: int) -> BertTokenizer:
    """Train a lowercase WordPiece vocabulary, and write the tokenizer's files and ``vocab.txt``."""
    trainer = BertWordPieceTokenizer(lowercase=True)
    # The library numbers "##x" pieces in the order of a randomly seeded hash map, and breaks ties by number, so each
    # run would give another vocabulary. Special tokens are numbered in the given order.
    first = [*SPECIAL_TOKENS, *(f"##{character}" for character in _common_characters(worlds, trainer))]
    trainer.train_from_iterator(_texts(worlds), vocab_size, min_frequency=2, special_tokens=first, show_progress=False)
    vocabulary = trainer.get_vocab()
    words = out_dir / "vocab.txt"
    words.write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__)))
    tokenizer = BertTokenizer(vocab=str(words), do_lower_case=True, model_max_length=_MAX_LENGTH)
    tokenizer.save_pretrained(out_dir)
    return tokenizer


def _common_characters(
    worlds: dict[str, list[TrainPage]], trainer: BertWordPieceTokenizer, most: int = 200
) -> list[str]:
    counts: Counter[str] = Counter()
    for text in _texts(worlds):
        counts.update(trainer.normalize(text))
    common = sorted(counts, key=lambda character: (-counts[character], character))[:most]
    return [character for character in sorted(common) if character.isalnum()]


def _texts(worlds: dict[str, list[TrainPage]]) -> Iterator[str]:
    for pages in worlds.values():
        for page in pages:
            yield page.title
            yield page.text
