"""Gradient caching: the gradient of a loss over a whole batch, with the activations of only one part in memory.

First, all parts are encoded without gradients. The loss over all vectors gives the gradient of each vector. Then each
part is encoded again, with the same dropout, and the gradients of its vectors are backpropagated.
Source: Gao et al., 2021 (arXiv:2101.06983).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import torch

from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.training.objective import Part, Unsynced, last_marked
from zeshel_tasks.training.snapshot import random_states, restore_random_states

Vectors = tuple[torch.Tensor, ...]


def cached_parts(
    encode: Callable[[Rows], Vectors],
    loss: Callable[[Vectors], torch.Tensor],
    parts: Sequence[Rows],
    device: torch.device,
    unsynced: Unsynced,
) -> Iterator[Part]:
    """Yields the parts of the loss over the whole batch. A part's root is a scalar with its share of the gradient.

    Args:
        encode: returns the tensors of a part, rows first.
        loss: computes the loss from these tensors, each concatenated over all parts.
        parts: the rows of each part.
        device: the device whose random state dropout uses.
        unsynced: for all parts but the last.
    """
    states, encoded = [], []
    with torch.no_grad():
        for rows in parts:
            states.append(random_states(device, 0))
            encoded.append(encode(rows))
    leaves = tuple(torch.cat(tensors).requires_grad_() for tensors in zip(*encoded, strict=True))
    total = loss(leaves)
    gradients = torch.autograd.grad(total, leaves)
    sizes = [[len(tensor) for tensor in tensors] for tensors in encoded]
    shares = [torch.split(gradient, [size[which] for size in sizes]) for which, gradient in enumerate(gradients)]
    for number, (last, rows) in enumerate(last_marked(parts)):
        restore_random_states(states[number], device, 0)
        with nullcontext() if last else unsynced():
            again = encode(rows)
            root = torch.stack([(tensor * share[number]).sum() for tensor, share in zip(again, shares, strict=True)])
            yield Part(root.sum(), total.detach() if number == 0 else torch.zeros_like(total))
