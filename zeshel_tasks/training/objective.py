"""Interface between the training loop and the objective that it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from zeshel_tasks.data.arrays import Rows

Tensors = dict[str, torch.Tensor]


class Part(NamedTuple):
    """A part of a step.

    Attributes:
        root: scalar that gradients flow back from.
        loss: this part's share of the step's loss, without gradient.
    """

    root: torch.Tensor
    loss: torch.Tensor


class Objective(Protocol):
    """What is trained, on which mentions, and how it is validated."""

    mentions: int
    """How many mentions there are to train on."""

    groups: Rows | None
    """Group of each mention, where a batch should be of one group."""

    def begin_epoch(self, model: nn.Module, epoch: int, *, resumed: bool, after_batch: Callable[[], None]) -> None:
        """Prepares an epoch, counted from 0.

        What :meth:`state` has is kept where the epoch is ``resumed`` in its middle. ``after_batch`` is called often,
        and may raise to stop the preparation; processes need not call it as often as one another.
        """

    def state(self) -> Tensors:
        """What a checkpoint within an epoch must hold besides weights, on the host."""

    def restore(self, state: Tensors) -> None:
        """Puts back what :meth:`state` gave."""

    def parts(self, model: nn.Module, rows: Rows, count: int) -> Iterator[Part]:
        """The mean loss over the mentions ``rows`` in ``count`` parts, each backpropagated before the next is computed.

        A process of several computes its share.
        """

    def validate(self, model: nn.Module, after_batch: Callable[[], None]) -> dict[str, float]:
        """Figures of merit; ``valid_accuracy`` chooses the best epoch. The model is in eval mode.

        ``after_batch`` is called often, and may raise to stop the validation.
        """

    def save(self, model: nn.Module, directory: Path) -> None:
        """Writes the model directory."""


def separate_parts(loss: Callable[[Rows], torch.Tensor], rows: Rows, count: int) -> Iterator[Part]:
    """Parts that know nothing of each other: each is the loss of its own rows, weighted by their number."""
    for part in np.array_split(rows, count):
        weighted = loss(part) * (len(part) / len(rows))
        yield Part(weighted, weighted.detach())


def epoch_order(
    mentions: int, seed: int, epoch: int, *, shuffle: bool, groups: Rows | None = None, batch_size: int = 1
) -> Rows:
    """The order in which an epoch visits the mentions: a pure function, so that a resumed epoch knows it.

    Args:
        mentions: how many.
        seed: with ``epoch``, decides the order.
        epoch: from 0.
        shuffle: otherwise as they are.
        groups: group of each mention; whole batches are of one group then, as far as groups have whole batches.
        batch_size: of those.
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
    # What is left of each group: neighbours are of one group, mostly.
    return np.concatenate([batches.reshape(-1), *(rows[end:] for rows, end in zip(by_group, whole, strict=True))])
