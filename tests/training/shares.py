"""Computes the gradients of batches in any number of processes."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from zeshel_tasks.compute.device import build_accelerator
from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.training.fit import Fit
from zeshel_tasks.training.launch import run_in_processes
from zeshel_tasks.training.optimizer import choose_trained

BATCHES = (1, 2, 3, 5, 7)


def gradients(task: Fit, processes: int) -> dict[str, torch.Tensor]:
    """Returns loss and gradients of batches of :data:`BATCHES` mentions, by ``size.name``, from the last process."""
    run_in_processes(partial(_save_gradients, batches=BATCHES), task, processes, task.out)
    return load_file(task.out / f"gradients-{processes - 1}.safetensors")


def _save_gradients(task: Fit, batches: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    accelerator = build_accelerator(task.config)
    torch.manual_seed(0)
    model, objective = task.build(task, accelerator)
    choose_trained(model, task.config.type_optimization)
    prepared = accelerator.prepare(model).eval()  # without dropout, which differs between processes
    if isinstance(task.config, TrainBiencoderConfig) and task.config.hard_negatives:
        table = np.random.default_rng(0).integers(0, 9, (objective.mentions, task.config.hard_negatives))
        objective.restore({"hard_negatives": torch.from_numpy(table.astype(np.int32))})
    found: dict[str, torch.Tensor] = {}
    for size in batches:
        loss = torch.zeros(())
        for part in objective.parts(prepared, np.arange(size), min(task.config.gradient_accumulation_steps, size)):
            accelerator.backward(part.root)
            loss += part.loss
        found[f"{size}.loss"] = accelerator.reduce(loss, reduction="mean")
        found |= {f"{size}.{name}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        prepared.zero_grad(set_to_none=True)
    save_file(found, task.out / f"gradients-{os.environ.get('RANK', '0')}.safetensors")
