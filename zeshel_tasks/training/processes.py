"""What the processes of a data-parallel training exchange."""

from __future__ import annotations

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch.distributed.nn.functional import all_gather

from zeshel_tasks.training.loop import Rows


def share_of(rows: Rows, accelerator: Accelerator) -> tuple[Rows, Rows]:
    """The rows that this process computes, and all rows in the order of the processes.

    Both are cut so that all processes have the same number; a single process has all.
    """
    each = len(rows) // accelerator.num_processes
    start = accelerator.process_index * each
    return rows[start : start + each], rows[: each * accelerator.num_processes]


def gather_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """The tensors of all processes, one after the other; gradients flow back to where each came from."""
    if not (dist.is_available() and dist.is_initialized()):
        return tensor
    return torch.cat(all_gather(tensor))  # type: ignore[no-untyped-call]
