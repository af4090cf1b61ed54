"""Adds the markers of mentions and titles to a pretrained model whose vocabulary lacks them.

BERT's uncased vocabulary has tokens without a meaning, which BLINK uses as markers. The cased and the multilingual ones
lack ``[unused0]``, and those of RoBERTa and its relatives lack them all.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AddedToken

from zeshel_tasks.data.tokens import MARKERS
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.declared import copy_declaration
from zeshel_tasks.models.tokenizer import load_tokenizer

log = logging.getLogger(__name__)


def with_markers(directory: Path, target: Path, *, lowercase: bool, seed: int) -> Path:
    """Returns the model directory if its vocabulary has all markers. If not, writes a copy that has them.

    The embedding of an added marker is random, with the mean and the deviation of the others in each dimension.

    Args:
        directory: the model directory, which stays as it is.
        target: the copy, a new directory.
        lowercase: see :func:`~zeshel_tasks.models.tokenizer.load_tokenizer`.
        seed: of the new weights. Equal seeds give equal copies.

    Raises:
        ConfigError: the directory has no model or tokenizer that is accepted, or its vocabulary has gaps.
    """
    tokenizer = load_tokenizer(directory, lowercase=lowercase)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    missing = [marker for marker in MARKERS if marker not in vocabulary]
    if not missing:
        return directory
    # Special tokens are never found in text (see `Tokens`).
    added = [AddedToken(marker, special=True, normalized=False) for marker in missing]
    tokenizer.add_tokens(added, special_tokens=True)
    numbers, first = [tokenizer.get_vocab()[marker] for marker in missing], max(vocabulary.values()) + 1
    if min(numbers) < first:
        raise ConfigError(
            f"bert_model: expected a vocabulary without gaps in {directory}, to which {missing[0]} can be added, "
            f"got {len(vocabulary)} tokens with numbers up to {first - 1}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _copy_with_embeddings(directory, target, first, numbers)
    tokenizer.save_pretrained(target)
    copy_declaration(directory, target)
    log.info("bert_model: added %s to its vocabulary, with random embeddings", ", ".join(missing))
    return target


def _copy_with_embeddings(directory: Path, target: Path, known: int, added: list[int]) -> None:
    model: Any = load_bert(directory)
    if max(added) >= model.config.vocab_size:  # some models have more embeddings than tokens
        model.resize_token_embeddings(max(added) + 1, mean_resizing=False)
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        deviation, mean = torch.std_mean(table[:known], dim=0)
        table[added] = mean + deviation * torch.randn(len(added), table.shape[1])
    model.save_pretrained(target)
