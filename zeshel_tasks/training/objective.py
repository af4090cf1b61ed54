"""Interface between the training loop and the objective that it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.data.arrays import Rows

T = TypeVar("T")
Tensors = dict[str, torch.Tensor]
Unsynced = Callable[[], AbstractContextManager[object]]
"""In this context, several processes keep the gradients of a part to themselves and add those of the next part."""


class Part(NamedTuple):
    """A part of a step.

    Attributes:
        root: scalar to backpropagate from.
        loss: this part's share of the step's loss, without gradient.
    """

    root: torch.Tensor
    loss: torch.Tensor


class Objective(Protocol):
    """Computes the loss of a model on its training mentions, validates it and saves it."""

    mentions: int
    """Number of training mentions."""

    measures: tuple[str, ...]
    """Names of the validation figures that choose the best epoch. Each breaks the ties of those before it."""

    groups: Rows | None
    """Group of each mention, if each batch should contain only one group."""

    def begin_epoch(self, model: nn.Module, epoch: int, *, resumed: bool, after_batch: Callable[[], None]) -> None:
        """Prepares an epoch, counted from 0.

        If the epoch is ``resumed`` in its middle, the tensors of :meth:`state` are kept. ``after_batch`` is called
        often and may raise to stop the preparation. Processes may call it at different times.
        """

    def state(self) -> Tensors:
        """Returns the tensors, on the host, that a checkpoint within an epoch needs besides the weights."""

    def restore(self, state: Tensors) -> None:
        """Restores the tensors that :meth:`state` returned."""

    def parts(self, model: nn.Module, rows: Rows, count: int) -> Iterator[Part]:
        """Yields the mean loss over ``rows`` in at most ``count`` parts.

        Each is backpropagated before the next is computed. If there are several processes, each computes its share,
        and the mean over the processes is the loss. They exchange gradients once, in the last part.
        """

    def validate(self, model: nn.Module, after_batch: Callable[[], None]) -> dict[str, float]:
        """Returns the validation figures, the same in all processes, which share the work. The model is in eval mode.

        ``after_batch`` is called often, by all processes at the same time. It may raise to stop the validation.
        """

    def save(self, model: nn.Module, directory: Path) -> None:
        """Writes the model directory."""


def finite_scores(config: EncoderConfig) -> str:
    """Returns what a validation expects, for the message about a score that is NaN or infinite."""
    return f"finite scores: lower learning_rate (now {config.peak_learning_rate}), or use precision fp32"


def separate_parts(loss: Callable[[Rows], torch.Tensor], rows: Rows, count: int, unsynced: Unsynced) -> Iterator[Part]:
    """Yields independent parts. Each is the loss of its own rows, weighted by their number."""
    for last, part in last_marked(np.array_split(rows, count)):
        with nullcontext() if last else unsynced():
            weighted = loss(part) * (len(part) / len(rows))
            yield Part(weighted, weighted.detach())


def last_marked(parts: Sequence[T]) -> Iterator[tuple[bool, T]]:
    """Yields each part with True if it is the last one."""
    return ((number == len(parts), part) for number, part in enumerate(parts, 1))


def epoch_order(
    mentions: int, seed: int, epoch: int, *, shuffle: bool, groups: Rows | None = None, batch_size: int = 1
) -> Rows:
    """Returns the order in which an epoch visits the mentions. A resumed epoch gets the same order.

    Args:
        mentions: number of mentions.
        seed: decides the order, together with ``epoch``.
        epoch: the epoch, from 0.
        shuffle: False keeps the order of the mentions.
        groups: group of each mention. If given, batches contain one group, except for the last mentions of each group.
        batch_size: size of these batches.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(mentions) if shuffle else np.arange(mentions)
    if groups is None:
        return order
    by_group = [order[groups[order] == group] for group in np.unique(groups)]
    whole = [len(rows) // batch_size * batch_size for rows in by_group]
    batches = np.concatenate([rows[:end].reshape(-1, batch_size) for rows, end in zip(by_group, whole, strict=True)])
    if shuffle:
        random.shuffle(batches)
    # The rest of each group stays together, so most neighbours belong to one group.
    return np.concatenate([batches.reshape(-1), *(rows[end:] for rows, end in zip(by_group, whole, strict=True))])
