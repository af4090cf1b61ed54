"""What two processes of a training spend on talking to each other, measured on CPUs with gloo.

    python -m bench.processes [--width 1024] [--steps 60]

For a network of a given speed, run it in a network namespace of its own:

    unshare --net sh -c 'ip link set lo up && tc qdisc add dev lo root tbf rate 1gbit burst 1mb latency 100ms &&
        python -m bench.processes'
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from zeshel_tasks.compute.device import build_accelerator
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.training.launch import run_in_processes
from zeshel_tasks.training.processes import Agreement, exchange_in_bf16

PROCESSES, LAYERS, PARTS = 2, 8, 4
Step = Callable[[], None]


@dataclass(frozen=True)
class _Task:
    width: int
    steps: int
    out: Path


def _measure(task: _Task) -> None:
    torch.set_num_threads(1)
    accelerator = build_accelerator(Recipe().train_biencoder.model_copy(update={"device": "cpu"}))
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Linear(task.width, task.width) for _ in range(LAYERS)))
    plain = DistributedDataParallel(layers)
    compressed = DistributedDataParallel(layers)
    exchange_in_bf16(compressed)
    agreement = Agreement(accelerator, 5)
    inputs = torch.randn(4, task.width) + accelerator.process_index

    def train(model: DistributedDataParallel, *, parts: int = 1, silent: bool = True) -> None:
        model.zero_grad(set_to_none=True)
        for part in range(parts):
            with model.no_sync() if silent and part + 1 < parts else nullcontext():
                model(inputs).square().mean().backward()

    def agreed(*, at_once: bool) -> Step:
        def step() -> None:
            train(plain)
            agreement.any(False, False, at_once=at_once)

        return step

    variants: dict[str, Step] = {
        "a step": lambda: train(plain),
        "a step, agreement waits": agreed(at_once=True),
        "a step, agreement travels": agreed(at_once=False),
        f"{PARTS} parts, gradients exchanged in each": lambda: train(plain, parts=PARTS, silent=False),
        f"{PARTS} parts, gradients exchanged in the last": lambda: train(plain, parts=PARTS),
        "a step, gradients exchanged in bf16": lambda: train(compressed),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(task.steps + 2):  # alternately, because other work on the machine comes and goes
        for name, step in variants.items():
            started = time.perf_counter()
            step()
            if number >= 2:
                seconds[name].append(time.perf_counter() - started)
    train(plain)
    exact = torch.cat([parameter.grad.flatten() for parameter in layers.parameters() if parameter.grad is not None])
    train(compressed)
    rounded = torch.cat([parameter.grad.flatten() for parameter in layers.parameters() if parameter.grad is not None])
    if accelerator.is_main_process:
        difference = float((exact - rounded).norm() / exact.norm())
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        task.out.write_text(json.dumps({"medians": medians, "difference": difference, "bytes": 4 * len(exact)}))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024, help="of the model's layers, whose gradients are exchanged")
    parser.add_argument("--steps", type=int, default=60, help="of each variant")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        run_in_processes(_measure, _Task(options.width, options.steps, out), PROCESSES, Path(folder))
        found = json.loads(out.read_text())
    print(f"{PROCESSES} processes, {found['bytes'] / 1e6:.0f} MB of gradients in fp32, median of {options.steps} steps")
    for name, seconds in found["medians"].items():
        print(f"{1000 * seconds:9.1f} ms  {name}")
    print(f"relative difference of the gradient in bf16: {found['difference']:.1e}")


if __name__ == "__main__":
    main()
