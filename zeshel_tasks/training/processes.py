"""Communication between the processes of a data-parallel training."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator

from zeshel_tasks.data.arrays import Rows


def share_of(rows: Rows, accelerator: Accelerator) -> tuple[Rows, Rows]:
    """Returns the rows that this process computes, and all rows in the order of the processes.

    Both are cut so that all processes have the same number of rows. A single process computes all rows.
    """
    each = len(rows) // accelerator.num_processes
    start = accelerator.process_index * each
    return rows[start : start + each], rows[: each * accelerator.num_processes]


def gather_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """Concatenates the tensors of all processes, which have one shape. Gradients flow back to each process."""
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
        dist.all_reduce(total)  # the loss of each process depends on the tensors of all
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]
