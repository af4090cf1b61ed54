"""Communication between the processes of a data-parallel training.

The gradient of a step is that of one process with the whole batch, for any number of processes and mentions. Source:
torch's DistributedDataParallel averages the gradients of the processes, so each scales its loss by its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from zeshel_tasks.data.arrays import Rows


@dataclass(frozen=True)
class Share:
    """The part of a batch that one process computes.

    Attributes:
        mine: rows that this process computes, at least one. With fewer rows than processes, those without a row compute
            the first one with the weight 0, because all processes must take part in the same communication.
        everyone: all rows of the batch, in the order of the processes.
        sizes: number of rows that count, of each process; they differ by at most 1.
        start: position in ``everyone`` of this process's first row.
        weight: factor of this process's mean loss, such that the mean over the processes is that over all rows.
    """

    mine: Rows
    everyone: Rows
    sizes: tuple[int, ...]
    start: int
    weight: float


def share_of(rows: Rows, accelerator: Accelerator) -> Share:
    """Returns the share of this process in the rows of a batch, at least one. A single process computes all rows."""
    processes, process = accelerator.num_processes, accelerator.process_index
    shares = np.array_split(rows, processes)
    sizes = tuple(len(share) for share in shares)
    if not sizes[process]:
        return Share(rows[:1], rows, sizes, 0, 0.0)
    return Share(shares[process], rows, sizes, sum(sizes[:process]), sizes[process] * processes / len(rows))


def parts_with_rows(rows: Rows, count: int, accelerator: Accelerator) -> int:
    """Returns the number of parts, at most ``count``, in which each process has a row, so that none waits; at least 1.

    It is for a loss that does not depend on the parts.
    """
    processes: int = accelerator.num_processes
    return max(1, min(count, len(rows) // processes))


class Agreement:
    """Lets all processes stop or save at the same step.

    They compare flags of the host by gloo. To read a result from the GPUs' own communication would wait for the step.
    Nor do they wait for each other: the flags of a step travel during the next one, and all act on them after it.

    Args:
        accelerator: of the training.
        minutes: time that a process may need to arrive.
    """

    def __init__(self, accelerator: Accelerator, minutes: float) -> None:
        several = accelerator.num_processes > 1
        self._group = dist.new_group(backend="gloo", timeout=timedelta(minutes=minutes)) if several else None
        self._travelling: tuple[dist.Work, torch.Tensor] | None = None
        self._sent = (False, False)

    def any(self, stop: bool, save: bool = False, *, at_once: bool = False) -> tuple[bool, bool]:
        """Returns True for each flag that any process set at the previous call. All processes call it at the same step.

        A process on its own gets its flags back.

        Args:
            stop: this process should stop.
            save: a checkpoint is due. If it was so at the previous call, this is not said again.
            at_once: True waits for the flags of this call, too.
        """
        if self._group is None:
            return stop, save
        heard = self._heard()
        self._send(stop, save and not self._sent[1])
        if at_once:
            also = self._heard()
            heard = heard[0] or also[0], heard[1] or also[1]
        return heard

    def _send(self, stop: bool, save: bool) -> None:
        flags = torch.tensor([stop, save], dtype=torch.int32)
        work = dist.all_reduce(flags, dist.ReduceOp.MAX, self._group, async_op=True)
        assert work is not None
        self._travelling, self._sent = (work, flags), (stop, save)

    def _heard(self) -> tuple[bool, bool]:
        if self._travelling is None:
            return False, False
        (work, flags), self._travelling = self._travelling, None
        work.wait()
        stop, save = flags.tolist()
        return bool(stop), bool(save)


def exchange_in_bf16(model: nn.Module) -> None:
    """Lets the processes exchange the gradients of a model, which DistributedDataParallel wraps, in bf16."""
    assert isinstance(model, DistributedDataParallel)
    # torch refuses its own hook, by its name, for gloo, which adds numbers in bf16, too.
    model.register_comm_hook(None, lambda state, bucket: bf16_compress_hook(state, bucket))


def gather_with_gradient(tensor: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Concatenates the tensors of all processes. Gradients flow back to each process.

    Args:
        tensor: [rows, ...], with the same trailing shape in all processes. The first rows count.
        sizes: number of rows that count, of each process.
    """
    gathered: torch.Tensor = _Gather.apply(tensor, tuple(sizes))  # type: ignore[no-untyped-call]
    return gathered


def gather(tensor: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Concatenates the tensors of all processes, without gradients. See :func:`gather_with_gradient`."""
    if len(sizes) == 1:
        return tensor
    # Tensors of one size, because not every backend gathers different ones.
    mine = tensor.new_zeros(max(sizes), *tensor.shape[1:])
    size = sizes[dist.get_rank()]
    mine[:size] = tensor[:size]
    parts = [torch.empty_like(mine) for _ in sizes]
    dist.all_gather(parts, mine)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


class _Gather(torch.autograd.Function):
    # torch.distributed's own differentiable gathers are deprecated or private, or lack a backend for CPUs.
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        ctx.rows, ctx.sizes = len(tensor), sizes
        return gather(tensor, sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradients[0].contiguous()
        dist.all_reduce(total)  # the loss of each process depends on the tensors of all
        rank = dist.get_rank()
        start, size = sum(ctx.sizes[:rank]), ctx.sizes[rank]
        mine = total.new_zeros(ctx.rows, *total.shape[1:])
        mine[:size] = total[start : start + size]
        return mine, None
