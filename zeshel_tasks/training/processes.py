"""Communication between the processes of a data-parallel training."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator

from zeshel_tasks.data.arrays import Rows


def share_of(rows: Rows, accelerator: Accelerator) -> tuple[Rows, Rows]:
    """The rows that this process computes, and all rows in the order of the processes.

    Both are cut so that all processes have the same number; a single process has all.
    """
    each = len(rows) // accelerator.num_processes
    start = accelerator.process_index * each
    return rows[start : start + each], rows[: each * accelerator.num_processes]


def gather_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """The tensors of all processes (of one shape), one after the other; gradients flow back to where each came from."""
    gathered: torch.Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    # torch.distributed's own differentiable gathers are deprecated or private, or lack a backend for CPUs.
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        ctx.rows = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)  # every process's loss depends on every process's tensor
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]
