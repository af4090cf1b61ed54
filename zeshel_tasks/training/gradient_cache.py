"""Gradient caching: the gradient of a loss over a whole batch, with the activations of one part in memory at a time.

The parts are encoded without gradients; the loss over all their vectors gives the gradient of each vector; then each
part is encoded once more, with the same dropout, and takes up the gradients of its vectors.
Source: Gao et al., 2021 (arXiv:2101.06983).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.training.objective import Part
from zeshel_tasks.training.snapshot import random_states, restore_random_states

Vectors = tuple[torch.Tensor, ...]


def cached_parts(
    encode: Callable[[Rows], Vectors],
    loss: Callable[[Vectors], torch.Tensor],
    parts: Sequence[Rows],
    device: torch.device,
) -> Iterator[Part]:
    """The loss over all parts together; each part's root is a scalar with the gradient that it has in that loss.

    Args:
        encode: the tensors of a part, rows first.
        loss: of the tensors of all parts, each concatenated over the parts.
        parts: rows of each.
        device: whose random state dropout uses.
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
    for number, rows in enumerate(parts):
        restore_random_states(states[number], device, 0)
        again = encode(rows)
        root = torch.stack([(tensor * share[number]).sum() for tensor, share in zip(again, shares, strict=True)]).sum()
        yield Part(root, total.detach() if number == 0 else torch.zeros_like(total))
