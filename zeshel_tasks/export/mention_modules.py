"""Modules of sentence-transformers for the text that an entity linker reads. Exported models carry this file.

    mention      left [unused0] mention [unused1] right
    candidate    title [unused2] description

A prompt comes before both, and does not shift the window around the mention.
A mention keeps the tokens of its context that fit around it, on both sides. Apart from the three markers, no text
becomes a special token, even if it spells one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from sentence_transformers.base.modules import Module, Transformer
from tokenizers.normalizers import BertNormalizer

from zeshel_tasks.data.context_window import Side, context_window

MARKERS = MENTION_START, MENTION_END, TITLE_END = "[unused0]", "[unused1]", "[unused2]"


class LinkerTransformer(Transformer):
    """A transformer that reads texts with markers.

    Args:
        model_name_or_path: the model's folder.
        lowercase: lower-case texts before they are tokenized.
        lengths: the largest numbers of tokens: ``mention``, ``candidate`` and ``pair``, as far as the model needs them.
        gap: candidates of pairs are counted from the end of the longest mention on; False if the model itself counts.
        options: see :class:`sentence_transformers.base.modules.Transformer`.
    """

    config_keys: ClassVar[list[str]] = [*Transformer.config_keys, "lowercase", "lengths", "gap"]

    def __init__(
        self, model_name_or_path: str, *, lowercase: bool, lengths: dict[str, int], gap: bool = True, **options: Any
    ) -> None:
        super().__init__(model_name_or_path, **options)
        self.lowercase, self.lengths, self.gap = lowercase, lengths, gap
        tokenizer: Any = self.tokenizer
        vocabulary = tokenizer.get_vocab()
        self.start, self.end, self.title_end = (vocabulary[marker] for marker in MARKERS)
        self.cls, self.sep, self.pad = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
        self._never_text = {self.cls, self.sep, self.pad, self.start, self.end, self.title_end}
        self._never_text |= set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._spaces_count = backend is None or not isinstance(backend.normalizer, BertNormalizer)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Return the features of a batch, padded to its longest row.

        Raises:
            ValueError: a mention is not marked.
        """
        return self._padded(self.rows(inputs, prompt or ""))

    def rows(self, texts: Iterable[str], prompt: str) -> list[list[int]]:
        """Return the token ids of each text after the prompt, with [CLS] and [SEP]."""
        raise NotImplementedError

    def mention(self, text: str, prompt: str = "") -> list[int]:
        """Return the token ids of a marked mention and of the context that fits around it."""
        left, started, rest = text.partition(MENTION_START)
        middle, ended, right = rest.partition(MENTION_END)
        if not (started and ended):
            shown = text if len(text) < 80 else f"{text[:80]}..."
            raise ValueError(f"expected 'left {MENTION_START} mention {MENTION_END} right', got {shown!r}")
        first, lefts, middles, rights = self._ids([prompt, left, middle, right])
        length = self.lengths["mention"] - len(first)
        marked = [self.start, *middles[: length - 4], self.end]
        kept = context_window(Side(lefts, cut=False), len(marked), Side(rights, cut=False), length)
        assert kept is not None  # no side is cut
        return [self.cls, *first, *kept[0], *marked, *kept[1], self.sep]

    def candidate(self, text: str, prompt: str = "") -> list[int]:
        """Return the token ids of a title and a description, or of a text without a title."""
        title, ended, description = text.partition(TITLE_END)
        first, *parts = self._ids([prompt, title, description] if ended else [prompt, title])
        body = [*first, *[id_ for ids in parts for id_ in (self.title_end, *ids)][1:]]
        return [self.cls, *body[: self.lengths["candidate"] - 2], self.sep]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        tokenizer: Any = self.tokenizer
        encoded = tokenizer(
            [self._prepared(text) for text in texts],
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [[id_ for id_ in row if id_ not in self._never_text] for row in encoded["input_ids"]]

    def _prepared(self, text: str) -> str:
        if self.lowercase:
            text = text.lower()
        # Byte-level BPE and SentencePiece: a word is another token at the beginning of a text than after a space.
        return " ".join(["", *text.split()]) if self._spaces_count else text

    def _padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        ids = _table(rows, self.pad)
        return {"input_ids": ids, "attention_mask": _table([[1] * len(row) for row in rows], 0), "modality": "text"}


class MentionTransformer(LinkerTransformer):
    """Reads mentions: ``left [unused0] mention [unused1] right``."""

    def rows(self, texts: Iterable[str], prompt: str) -> list[list[int]]:
        """Return the token ids of each mention."""
        return [self.mention(text, prompt) for text in texts]


class CandidateTransformer(LinkerTransformer):
    """Reads candidates: ``title [unused2] description``."""

    def rows(self, texts: Iterable[str], prompt: str) -> list[list[int]]:
        """Return the token ids of each candidate."""
        return [self.candidate(text, prompt) for text in texts]


class PairTransformer(LinkerTransformer):
    """Reads pairs of a mention and a candidate: the mention, then the candidate without its [CLS]."""

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Return the features of a batch of pairs.

        Raises:
            ValueError: a mention is not marked.
        """
        room, longest = self.lengths["mention"], self.lengths["pair"]
        mentions = [self.mention(mention, prompt or "")[:longest] for mention, _ in inputs]
        candidates = [self.candidate(candidate)[1:][: max(0, longest - room)] for _, candidate in inputs]
        pairs = list(zip(mentions, candidates, strict=True))
        features = self._padded([[*mention, *candidate] for mention, candidate in pairs])
        if self.config.type_vocab_size > 1:
            segments = [[0] * len(mention) + [1] * len(candidate) for mention, candidate in pairs]
            features["token_type_ids"] = _table(segments, 0)
        if self.gap:
            positions = [[*range(len(mention)), *range(room, room + len(candidate))] for mention, candidate in pairs]
            features["position_ids"] = _table(positions, 0)
        return features


class MentionPooling(Module):
    """The mean over the tokens of the mention, or that plus the mean over all tokens.

    Args:
        embedding_dimension: of the tokens.
        start: id of the marker before a mention.
        end: id of the marker after it.
        and_mean: add the mean over all tokens.
    """

    config_keys: ClassVar[list[str]] = ["embedding_dimension", "start", "end", "and_mean"]

    def __init__(self, embedding_dimension: int, start: int, end: int, and_mean: bool = False) -> None:
        super().__init__()
        self.embedding_dimension, self.start, self.end, self.and_mean = embedding_dimension, start, end, and_mean

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Add ``sentence_embedding``, [batch, embedding_dimension], to the features."""
        tokens, ids = features["token_embeddings"], features["input_ids"]
        starts, ends = ids == self.start, ids == self.end
        inside = (starts.cumsum(1) > ends.cumsum(1)) & ~starts
        # A mention without tokens is the mean of its markers.
        span = _mean(tokens, torch.where(inside.any(1, keepdim=True), inside, starts | ends))
        features["sentence_embedding"] = span + _mean(tokens, features["attention_mask"]) if self.and_mean else span
        return features

    def get_embedding_dimension(self) -> int:
        """Return the length of the vectors."""
        return self.embedding_dimension

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Write the configuration."""
        self.save_config(output_path)


def _mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    used = mask[..., None].to(tokens.dtype)
    return (tokens * used).sum(1) / used.sum(1)


def _table(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    length = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])
