import platform

import psutil
import pytest
import torch

from tests.support.faults import Fault
from tests.training.conftest import MakeFit
from zeshel_tasks.compute.memory import out_of_memory_named, release_free_memory
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.training import loop
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.fit import fit


def gpu_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def host_is_full() -> None:
    torch.empty(1 << 60)  # more than any machine has, which raises torch's own error


def python_is_full() -> None:
    bytearray(1 << 62)


@pytest.mark.parametrize("fill", [gpu_is_full, host_is_full, python_is_full])
def test_out_of_memory_error_names_setting_to_lower(fill: object, fault: Fault) -> None:
    fault("training: out of memory")
    with (
        pytest.raises(ConfigError, match=r"^out of (GPU )?memory at step 3: lower train_batch_size \(now 128\)"),
        out_of_memory_named("at step 3", "lower train_batch_size (now 128)"),
    ):
        fill()


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shape"), out_of_memory_named("at step 3", "lower train_batch_size"):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("loss", r"out of GPU memory at step 1: lower train_batch_size \(now 16\) or raise gradient_accumulation"),
        ("validate", r"out of GPU memory in validation: lower eval_batch_size \(now \d+\)"),
    ],
)
def test_training_out_of_memory_names_its_setting(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, method: str, expected: str, fault: Fault
) -> None:
    monkeypatch.setattr(BiencoderObjective, method, lambda *_: gpu_is_full())
    fault("training: out of memory")
    with pytest.raises(ConfigError, match=expected):
        fit(biencoder_fit())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory and can release it")
def test_freed_memory_goes_back_to_the_system() -> None:
    """glibc keeps freed blocks below one that is still used."""
    blocks = [bytearray(b"x") * 100_000 for _ in range(2000)]  # small enough for glibc's heap
    last = blocks.pop()
    blocks.clear()
    kept = psutil.Process().memory_info().rss
    release_free_memory()
    assert kept - psutil.Process().memory_info().rss > 100e6
    assert len(last) == 100_000


def test_training_on_a_cpu_releases_memory_at_intervals(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[None] = []
    monkeypatch.setattr(loop, "release_free_memory", lambda: released.append(None))
    monkeypatch.setattr(loop, "_STEPS_BETWEEN_RELEASES", 3)
    fit(biencoder_fit(num_train_epochs=1))
    assert len(released) == 2, "of 8 steps"
