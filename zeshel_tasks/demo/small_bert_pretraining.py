"""Pretrains a new BERT to find the page from which some words were taken.

The task is similar to the inverse cloze task (Lee et al. 2019, "Latent Retrieval for Weakly Supervised Open Domain
Question Answering"): which of eight pages of a world contains these words? The model reads words and page as two
segments, and the pooled output is scored, as in a cross-encoder.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from transformers import BertModel, BertTokenizer

from zeshel_tasks.demo.train_pages import TrainPage
from zeshel_tasks.errors import DataError
from zeshel_tasks.models.batches import TokenBatch
from zeshel_tasks.models.first_token import first_token

_PAGES = 8  # candidates of a query; the first one is right
_BATCH_SIZE = 16
_PAGE_TOKENS = 48
_QUERY_TOKENS = 62
_LEARNING_RATE = 1e-3
_WARMUP_STEPS = 12
_WINDOW = 10  # steps over which accuracy is averaged


@dataclass(frozen=True)
class Pretraining:
    """Number of steps, and the share of queries whose page scored highest in the last ten steps."""

    steps: int
    accuracy: float


@dataclass(frozen=True)
class _Page:
    title: list[int]
    words: list[list[int]]  # token ids of each word


def pretrain_matching(
    model: BertModel,
    tokenizer: BertTokenizer,
    worlds: dict[str, list[TrainPage]],
    *,
    max_steps: int,
    seed: int,
    enough: float = 0.7,
    cooldown_steps: int = 60,
) -> Pretraining:
    """Train all weights of ``model`` in place, and discard the scoring layer.

    The model learns to match suddenly, after 60 to 200 steps depending on the seed. Training stops ``cooldown_steps``
    later, while the learning rate falls to zero. With many more steps, the output for a single segment becomes constant
    (nothing here trains it), from which a bi-encoder recovers slowly.

    Args:
        model: in eval mode at the end.
        tokenizer: of the model.
        worlds: pages by world.
        max_steps: maximum number of steps before the cooldown.
        seed: of the examples.
        enough: mean accuracy of ten steps at which the cooldown starts (guessing gives 1/8).
        cooldown_steps: number of steps in the cooldown.

    Raises:
        DataError: no world has enough pages for a query.
    """
    examples = _Examples(tokenizer, _large_enough(worlds, tokenizer), random.Random(seed))
    score = nn.Linear(model.config.hidden_size, 1)
    parameters = [*model.parameters(), *score.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=0.01)
    hits: list[float] = []

    def step(pace: float) -> float:
        """Train one step at this fraction of the learning rate; return the accuracy of the last steps."""
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * pace
        first = first_token(model, examples.batch(), model.config.num_hidden_layers)
        scores = score(model.pooler(first[:, None])).view(_BATCH_SIZE, _PAGES)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(scores, torch.zeros(_BATCH_SIZE, dtype=torch.long)))
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        hits.append((scores.argmax(dim=1) == 0).float().mean().item())
        return sum(hits[-_WINDOW:]) / len(hits[-_WINDOW:])

    model.train()
    accuracy = 0.0
    while len(hits) < max_steps and (len(hits) < _WINDOW or accuracy < enough):
        accuracy = step(min(1.0, (len(hits) + 1) / _WARMUP_STEPS))
    for left in range(cooldown_steps, 0, -1):
        accuracy = step(left / cooldown_steps)
    model.eval()
    return Pretraining(len(hits), accuracy)


class _Examples:
    """Draws queries, each with its page and other pages of the same world."""

    def __init__(self, tokenizer: BertTokenizer, worlds: list[list[_Page]], rng: random.Random) -> None:
        self._worlds, self._rng = worlds, rng
        self._pad, self._cls, self._sep, self._title_end = tokenizer.convert_tokens_to_ids(
            ["[PAD]", "[CLS]", "[SEP]", "[unused2]"]
        )

    def batch(self) -> TokenBatch:
        """Queries x pages sequences of two segments: the query, and one of the pages."""
        ids: list[list[int]] = []
        segments: list[list[int]] = []
        for _ in range(_BATCH_SIZE):
            pages = self._rng.sample(self._rng.choice(self._worlds), _PAGES)
            query = [self._cls, *self._query(pages[0]), self._sep]
            for page in pages:
                description = [*page.title, self._title_end, *_flat(page.words)]
                candidate = [*description[:_PAGE_TOKENS], self._sep]
                ids.append(query + candidate)
                segments.append([0] * len(query) + [1] * len(candidate))
        input_ids = _padded(ids, self._pad)
        return TokenBatch(input_ids, input_ids != self._pad, _padded(segments, 0))

    def _query(self, page: _Page) -> list[int]:
        """Shuffled words from a part of the page, so that only matching words identifies the page."""
        length = self._rng.randint(4, 24)
        start = self._rng.randrange(max(1, min(len(page.words), 40) - length + 1))
        words = [word for word in page.words[start : start + length] if self._rng.random() < 0.6]
        self._rng.shuffle(words)
        return _flat(words)[:_QUERY_TOKENS]


def _large_enough(worlds: dict[str, list[TrainPage]], tokenizer: BertTokenizer) -> list[list[_Page]]:
    @cache  # pages have few different words, and the tokenizer takes longer for many short texts than for one
    def ids(text: str) -> list[int]:
        return list(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text.lower())))

    tokenized = [
        [_Page(ids(page.title), [ids(word) for word in page.text.split()]) for page in pages]
        for pages in worlds.values()
        if len(pages) >= _PAGES
    ]
    if not tokenized:
        most = max(map(len, worlds.values()), default=0)
        raise DataError("too few pages", expected=f"a train world with at least {_PAGES}", got=f"at most {most}")
    return tokenized


def _flat(words: list[list[int]]) -> list[int]:
    return [token for word in words for token in word]


def _padded(rows: list[list[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
