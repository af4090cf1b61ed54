from collections.abc import Callable
from typing import Any

import pytest
import torch

from zeshel_tasks.compute.device import Inference, build_accelerator, device_name
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.recipe import build_recipe


def test_stages_of_one_process_may_differ_in_precision() -> None:
    found = []
    for precision in ("bf16", "fp32", "bf16"):
        accelerator = build_accelerator(
            build_recipe("smoke", {"precision": precision, "device": "cpu"}).eval_crossencoder
        )
        with accelerator.autocast():
            found.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
    assert found == [torch.bfloat16, torch.float32, torch.bfloat16]


def test_models_of_one_process_may_infer_in_different_precisions_at_once() -> None:
    exact, fast = (
        Inference.of(build_recipe("smoke", {"precision": precision, "device": "cpu"}).eval_crossencoder)
        for precision in ("fp32", "bf16")
    )
    found = []
    for placement in (exact, fast, exact):
        with placement.autocast():
            found.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
    assert found == [torch.float32, torch.bfloat16, torch.float32]
    assert [device_name(placement).rpartition(", ")[2] for placement in (exact, fast)] == ["fp32", "bf16"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.parametrize("place", [build_accelerator, Inference.of])
def test_missing_gpu_is_a_config_error(place: Callable[[Any], Any], device: str) -> None:
    with pytest.raises(ConfigError, match=f"device: expected a machine with a GPU for '{device}', got none"):
        place(build_recipe("smoke", {"device": device}).eval_biencoder)


@pytest.mark.parametrize(
    ("precision", "in_hardware", "computed", "warned"),
    [
        ("auto", True, "bf16", False),
        ("auto", False, "fp32", False),
        ("bf16", False, "bf16", True),
        ("bf16", True, "bf16", False),
        ("fp32", True, "fp32", False),
    ],
)
def test_auto_precision_follows_cpu_and_emulated_bf16_warns(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    precision: str,
    in_hardware: bool,
    computed: str,
    warned: bool,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": in_hardware})
    config = build_recipe("smoke", {"precision": precision, "device": "cpu"}).eval_biencoder
    assert device_name(build_accelerator(config)).endswith(f"threads, {computed}")
    assert ("bf16 is emulated on this CPU" in caplog.text) == warned
