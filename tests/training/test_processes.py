"""A step has the gradient of one process with the whole batch, for any number of processes and mentions."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel

from tests.training.conftest import MakeFit
from tests.training.results import result
from tests.training.shares import BATCHES, gradients
from zeshel_tasks.compute.gang import Gang
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.training.fit import fit
from zeshel_tasks.training.launch import processes_for, run_in_processes
from zeshel_tasks.training.objective import separate_parts
from zeshel_tasks.training.processes import Agreement, exchange_in_bf16, parts_with_rows, share_of


def process(index: int, count: int) -> Accelerator:
    return cast("Accelerator", SimpleNamespace(process_index=index, num_processes=count))


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("mentions", [1, 2, 3, 7, 16])
def test_shares_hold_each_mention_once_and_their_weights_give_the_mean(mentions: int, count: int) -> None:
    rows = np.arange(100, 100 + mentions)
    shares = [share_of(rows, process(index, count)) for index in range(count)]
    counted = np.concatenate([share.mine for share in shares if share.weight])
    np.testing.assert_array_equal(counted, rows)
    for share in shares:
        assert len(share.mine) >= 1
        np.testing.assert_array_equal(share.everyone, rows)
        np.testing.assert_array_equal(rows[share.start : share.start + len(share.mine)], share.mine)
        assert sum(share.sizes) == mentions
        assert max(share.sizes) - min(share.sizes) <= 1
    assert np.mean([share.weight * share.mine.mean() for share in shares]) == pytest.approx(rows.mean())


def test_parts_leave_no_process_without_a_mention() -> None:
    assert [parts_with_rows(np.arange(8), count, process(0, 3)) for count in (1, 2, 4, 8)] == [1, 2, 2, 2]
    assert parts_with_rows(np.arange(2), 2, process(0, 3)) == 1


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("biencoder", {}),
        ("biencoder", {"gradient_accumulation_steps": 2, "hard_negatives": 2}),
        ("biencoder", {"gradient_accumulation_steps": 2, "gradient_cache": True, "hard_negatives": 2}),
        ("crossencoder", {"gradient_accumulation_steps": 3}),
    ],
    ids=["in-batch", "parts", "cached", "crossencoder"],
)
def test_three_processes_have_the_gradient_of_one(
    hard_fit: MakeFit, crossencoder_fit: MakeFit, golden: Path, kind: str, settings: dict[str, Any]
) -> None:
    """Seven mentions are not divisible by three, and one or two leave a process without any."""
    make = {"biencoder": hard_fit, "crossencoder": crossencoder_fit}[kind]
    one, three = (replace(make(name, **settings), bert=golden / "bert") for name in ("one", "three"))
    expected, found = gradients(one, 1), gradients(three, 3)
    assert found.keys() == expected.keys()
    assert {name.partition(".")[0] for name in found} == {str(size) for size in BATCHES}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_processes_exchange_gradients_once_in_a_step() -> None:
    inside, seen = False, []

    @contextmanager
    def unsynced() -> Iterator[None]:
        nonlocal inside
        inside = True
        yield
        inside = False

    weight = torch.ones((), requires_grad=True)

    def loss(rows: np.ndarray) -> torch.Tensor:
        seen.append(("forward", inside))
        return weight * len(rows)

    for part in separate_parts(loss, np.arange(6), 3, unsynced):
        part.root.backward()
        seen.append(("backward", inside))
    assert seen == [*[("forward", True), ("backward", True)] * 2, ("forward", False), ("backward", False)]


def test_processes_agree_without_their_gpus() -> None:
    """There is no GPU here, so flags on one would fail."""
    accelerator = SimpleNamespace(num_processes=2, device=torch.device("cuda"))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        agreement = Agreement(cast("Accelerator", accelerator), 1)
        assert agreement.any(True, False) == (False, False), "no process waits for the flags of this step"
        assert agreement.any(False, True) == (True, False)
        assert agreement.any(False, True) == (False, True)
        assert agreement.any(False, True) == (False, False), "what was saved just now is not saved again"
        assert agreement.any(True, False, at_once=True) == (True, True)
        assert agreement.any(False, False) == (False, False)
    finally:
        dist.destroy_process_group()


def test_gradients_travel_in_bf16() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        plain = torch.nn.Linear(64, 64)
        model = DistributedDataParallel(copy.deepcopy(plain))
        exchange_in_bf16(model)
        for each in (plain, model):
            each(torch.linspace(-1, 1, 64)).square().sum().backward()
        exact, rounded = plain.weight.grad, model.module.weight.grad
        assert exact is not None
        assert not torch.equal(rounded, exact)
        torch.testing.assert_close(rounded, exact.bfloat16().float(), atol=0, rtol=0)
    finally:
        dist.destroy_process_group()


def test_three_processes_train_on_two_mentions_at_a_time(crossencoder_fit: MakeFit) -> None:
    task = crossencoder_fit(num_train_epochs=1)
    task = replace(task, config=task.config.model_copy(update={"train_batch_size": 2}))
    run_in_processes(fit, task, 3, task.out)
    found = result(task)["metrics"]
    assert found["steps"] == -(-found["mentions"] // 2)


@pytest.mark.parametrize(("gpus", "batch", "expected"), [(0, 2, 1), (1, 2, 1), (8, 2, 2), (8, 1, 1), (4, 128, 4)])
def test_there_are_no_more_processes_than_mentions_in_a_step(
    crossencoder_fit: MakeFit,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gpus: int,
    batch: int,
    expected: int,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    config = crossencoder_fit().config.model_copy(update={"train_batch_size": batch, "device": "auto"})
    assert processes_for(config) == expected
    assert ("raise train_batch_size" in caplog.text) == (gpus > batch)


def test_machines_need_a_gpu_for_each_process_and_a_mention_of_each_step(
    crossencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    compared: list[dict[str, bool]] = []
    node = cast("Gang", SimpleNamespace(size=2, of_nodes=True, check_same=compared.append))
    config = crossencoder_fit().config.model_copy(update={"train_batch_size": 16, "device": "auto"})
    assert processes_for(config, node) == 8
    assert compared == [{"computes on a GPU": True}]
    with pytest.raises(ConfigError, match=r"train_batch_size: expected at least 16, .* got 15"):
        processes_for(config.model_copy(update={"train_batch_size": 15}), node)
    monkeypatch.setenv("PET_NPROC_PER_NODE", "9")
    with pytest.raises(ConfigError, match=r"PET_NPROC_PER_NODE: .* GPU of this machine \(8\), got 9 processes"):
        processes_for(config, node)
    process = cast("Gang", SimpleNamespace(size=2, of_nodes=False, check_same=compared.append))
    monkeypatch.setenv("LOCAL_RANK", "7")
    assert processes_for(config, process) == 1
    monkeypatch.setenv("LOCAL_RANK", "8")
    with pytest.raises(ConfigError, match=r"LOCAL_RANK: expected .* GPU of this machine \(8\), got 9 processes"):
        processes_for(config, process)
