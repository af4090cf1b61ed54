"""Mentions and candidates as token ids, in BLINK's layout.

    mention    [CLS] left [unused0] mention [unused1] right [SEP]
    candidate  [CLS] title [unused2] text [SEP]

Some retrieval models expect a prompt after [CLS], such as ``query:`` and ``passage:``.

Source: BLINK (Wu et al., 2020, arXiv:1911.03814), zeshel example.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from zeshel_tasks.config.retrieval import CandidateForm
from zeshel_tasks.data.arrays import new_array, release
from zeshel_tasks.data.context_window import Side, context_window, first_words, last_words
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.json_text import to_json

TokenTable = npt.NDArray[np.integer]
"""Token ids, int32 or uint16 [rows, max_length], padded on the right; usually memory-mapped."""

MARKERS = MENTION_START, MENTION_END, TITLE_END = "[unused0]", "[unused1]", "[unused2]"
BLINK_EVAL_CHARACTERS = 256
SHORTEST = 8
"""The smallest number of tokens for a mention or a candidate; a prompt leaves at least as many."""
_BATCH = 1024
_IN_16_BITS = 2**16

T = TypeVar("T")


class Prompts(NamedTuple):
    """Texts before every mention with its context, and before every candidate. Most models have none."""

    mention: str = ""
    candidate: str = ""


NO_PROMPTS = Prompts()


class Tokens:
    """Converts texts to ids with the tokenizer of a model.

    Args:
        tokenizer: a ``transformers`` tokenizer with the markers in its vocabulary.
        lowercase: lower-case texts before they are tokenized.
        prompts: of both towers of a bi-encoder. A cross-encoder has none.

    Attributes:
        tokenizer: the tokenizer.
        pad, cls, sep: ids of the special tokens; BERT calls them [PAD], [CLS] and [SEP].
        spaces_count: False if white space only separates words, as for BERT.

    Raises:
        ConfigError: the vocabulary lacks a marker or a special token.
    """

    def __init__(self, tokenizer: Any, *, lowercase: bool, prompts: Prompts = NO_PROMPTS) -> None:
        self.tokenizer, self._lowercase = tokenizer, lowercase
        self.pad, self.cls, self.sep = (self._id(t) for t in _special_tokens(tokenizer))
        self.mention_start, self.mention_end, self.title_end = map(self._id, MARKERS)
        self._never_text = {self.pad, self.cls, self.sep, self.mention_start, self.mention_end, self.title_end}
        self._never_text |= set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self.spaces_count = _spaces_count(tokenizer)
        self.stored_as = np.uint16 if len(tokenizer) <= _IN_16_BITS else np.int32
        self._mention_prompt, self._candidate_prompt = self._ids([prompts.mention, prompts.candidate])

    def mentions(self, parts: Sequence[tuple[str, str, str]], max_length: int) -> TokenTable:
        """Returns the ids of (context_left, mention, context_right). Each part is tokenized separately.

        Returns:
            int32 [len(parts), max_length].

        Raises:
            ConfigError: the prompt leaves too few tokens.
        """
        prompt = self._mention_prompt
        room = _room("mention_prompt", prompt, "max_context_length", max_length)
        # Most windows are full on both sides, so it is enough to tokenize the words next to the mention.
        words = max_length // 2
        lefts = self._sides([left for left, _, _ in parts], [last_words(left, words) for left, _, _ in parts])
        rights = self._sides([right for _, _, right in parts], [first_words(right, words) for _, _, right in parts])
        middles = self._ids([mention for _, mention, _ in parts])
        table = np.full((len(parts), max_length), self.pad, dtype=np.int32)
        for number, (left, middle, right) in enumerate(zip(lefts, middles, rights, strict=True)):
            # If a mention is longer than the window, its first tokens are kept, between both markers.
            marked = [self.mention_start, *middle[: room - 4], self.mention_end]
            kept = context_window(left, len(marked), right, room)
            if kept is None:
                whole = (Side(ids, cut=False) for ids in self._ids([parts[number][0], parts[number][2]]))
                kept = context_window(next(whole), len(marked), next(whole), room)
                assert kept is not None
            ids = [self.cls, *prompt, *kept[0], *marked, *kept[1], self.sep]
            table[number, : len(ids)] = ids
        return table

    def candidates(
        self, entities: Sequence[tuple[str, str]], max_length: int, form: CandidateForm = "title_and_text"
    ) -> TokenTable:
        """Returns the ids of (title, text) pairs.

        Args:
            entities: titles and descriptions.
            max_length: number of tokens to keep, including [CLS] and [SEP].
            form: ``blink_eval`` writes a candidate as BLINK's evaluation does: ``text[:256]`` without a title.

        Returns:
            int32 [len(entities), max_length].

        Raises:
            ConfigError: the prompt leaves too few tokens.
        """
        prompt = self._candidate_prompt
        room = _room("candidate_prompt", prompt, "max_cand_length", max_length)
        if form == "blink_eval":
            bodies = self._ids([text[:BLINK_EVAL_CHARACTERS] for _, text in entities])
        else:
            titles = self._ids([title for title, _ in entities])
            texts = self._leading_ids([text for _, text in entities], max_length)
            bodies = [[*title, self.title_end, *text] for title, text in zip(titles, texts, strict=True)]
        table = np.full((len(entities), max_length), self.pad, dtype=np.int32)
        for row, body in zip(table, bodies, strict=True):
            ids = [self.cls, *prompt, *body[: room - 2], self.sep]
            row[: len(ids)] = ids
        return table

    def identity(self, max_length: int, form: CandidateForm = "title_and_text") -> str | None:
        """Returns the SHA-256 of everything that decides the result of :meth:`candidates`.

        Equal identities mean equal token tables. Returns None if the tokenizer is not backed by ``tokenizers``.
        """
        backend = _backend(self.tokenizer)
        if backend is None:
            return None
        rules = json.loads(backend.to_str())
        for changed_by_calls in ("padding", "truncation"):
            rules.pop(changed_by_calls, None)
        markers = self.pad, self.cls, self.sep, self.title_end
        decisive = [rules, markers, self._lowercase, max_length, form, *self._candidate_prompt]
        return hashlib.sha256(to_json(decisive, sort_keys=True).encode()).hexdigest()

    def _leading_ids(self, texts: Sequence[str], needed: int) -> list[list[int]]:
        """Returns at least the first ``needed`` ids of each text, without tokenizing the rest of long pages."""
        # Cut as contexts are: `str.split` would also part words at control characters, which BERT removes.
        heads = [first_words(text, needed) for text in texts]
        ids = self._ids(heads)
        for index, head in enumerate(heads):
            # Some words have no tokens, such as control codes.
            if len(ids[index]) < needed and len(head) < len(texts[index]):
                ids[index] = self._ids([texts[index]])[0]
        return ids

    def _sides(self, whole: list[str], near: list[str]) -> list[Side]:
        return [Side(ids, cut=a != b) for ids, a, b in zip(self._ids(near), whole, near, strict=True)]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        # SentencePiece's vocabulary contains the special tokens, and finds them in text.
        return [
            row if self._never_text.isdisjoint(row) else [id_ for id_ in row if id_ not in self._never_text]
            for row in self._encoded([self._prepared(text) for text in texts])
        ]

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of texts. Text from data never becomes a special token, even if it spells one."""
        backend = _backend(self.tokenizer)
        if backend is None:
            encoded = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
            ids: list[list[int]] = encoded["input_ids"]
            return ids
        # Without the places of the tokens in the text, which `transformers` asks for.
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _prepared(self, text: str) -> str:
        """Returns the text in the case and with the spaces that the tokenizer needs.

        If spaces belong to tokens (byte-level BPE), each word gets one before it. Parts are tokenized separately, and
        a word is another token at the beginning of a text. Some tokenizers in Python take a line end for a letter.
        """
        if self._lowercase:
            text = text.lower()
        return " ".join(["", *text.split()]) if self.spaces_count else text

    def _id(self, token: str | None) -> int:
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        if token is None or token not in vocabulary:
            raise ConfigError(
                f"bert_model: expected a vocabulary with [PAD] [CLS] [SEP] {MENTION_START} {MENTION_END} {TITLE_END}, "
                f"got one without {token or 'a special token'}"
            )
        return vocabulary[token]


def write_table(
    path: Path, rows: int, max_length: int, items: Iterable[T], encode: Callable[[Sequence[T]], TokenTable]
) -> TokenTable:
    """Encodes ``items`` in batches into a memory-mapped ``.npy`` file of int32 [rows, max_length].

    Raises:
        ValueError: the number of items is not ``rows``.
    """
    table = new_array(path, np.int32, (rows, max_length))
    for _ in fill_table(table, items, encode):
        pass
    return table


def fill_table(
    table: np.memmap[Any, Any], items: Iterable[T], encode: Callable[[Sequence[T]], TokenTable]
) -> Iterator[int]:
    """Encodes ``items`` in batches into a table of their number of rows. Yields how many rows are filled so far.

    Raises:
        ValueError: the number of items is not the number of rows.
    """
    filled = 0
    for batch in _batches(items):
        if filled + len(batch) > len(table):
            raise ValueError(f"expected {len(table)} rows of tokens, got more")
        table[filled : filled + len(batch)] = encode(batch)
        filled += len(batch)
        release(table)
        if filled < len(table):
            yield filled
    if filled != len(table):
        raise ValueError(f"expected {len(table)} rows of tokens, got {filled}")
    table.flush()
    yield filled


def _room(setting: str, prompt: list[int], limit: str, max_length: int) -> int:
    """Returns the number of tokens that a prompt leaves."""
    if prompt and max_length - len(prompt) < SHORTEST:
        raise ConfigError(
            f"{setting}: expected a text of at most {max(0, max_length - SHORTEST)} tokens, which leaves {SHORTEST} of "
            f"{limit} ({max_length}), got one of {len(prompt)}"
        )
    return max_length - len(prompt)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _backend(tokenizer: Any) -> Any:
    """Returns the tokenizer of the library ``tokenizers``; None if this one is written in Python."""
    return getattr(tokenizer, "backend_tokenizer", None)


def _special_tokens(tokenizer: Any) -> tuple[str | None, str | None, str | None]:
    return tokenizer.pad_token, tokenizer.cls_token, tokenizer.sep_token


def _spaces_count(tokenizer: Any) -> bool:
    """Returns False for BERT, for which white space only separates words. It has its own rules for what that is."""
    from tokenizers.normalizers import BertNormalizer  # the stages that only read tokens run without it

    backend = _backend(tokenizer)
    return backend is None or not isinstance(backend.normalizer, BertNormalizer)
