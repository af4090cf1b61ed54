"""Checkpoints are written during the training, and a failing store costs as little training as possible."""

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.support.faults import Fault
from tests.training.conftest import MakeFit
from tests.training.results import assert_bit_identical
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.errors import ConfigError, Preempted, StoreUnavailable
from zeshel_tasks.store import LocalStore
from zeshel_tasks.training import checkpoints, loop
from zeshel_tasks.training.fit import fit

OFTEN = {"checkpoint_minutes": 1e-6}


def test_training_continues_during_checkpoint_upload(biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch) -> None:
    released, timed_out, steps = threading.Event(), [], []
    upload, train_step = LocalStore.upload, loop.Trainer._train_step

    def slow(self: LocalStore, path: Path, key: str) -> None:
        if not released.wait(60):
            timed_out.append(key)
        upload(self, path, key)

    def counted(self: loop.Trainer, rows: Rows) -> None:
        train_step(self, rows)
        steps.append(len(rows))
        if len(steps) == 6:  # the first checkpoint was taken after step 1
            released.set()

    monkeypatch.setattr(LocalStore, "upload", slow)
    monkeypatch.setattr(loop.Trainer, "_train_step", counted)
    fit(biencoder_fit(**OFTEN))
    assert timed_out == []


def test_later_steps_do_not_change_pending_checkpoint(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    undisturbed, stopped = biencoder_fit("undisturbed"), biencoder_fit("stopped", **OFTEN)
    fit(undisturbed)
    saving, trained = threading.Event(), threading.Event()
    put, train_step = LocalStore.put, loop.Trainer._train_step
    steps: list[int] = []

    def late(tensors: dict[str, torch.Tensor], path: Path) -> None:
        saving.set()
        trained.wait(60)
        save_file(tensors, path)

    def last(self: LocalStore, key: str, data: bytes) -> None:
        put(self, key, data)
        monkeypatch.undo()
        raise KeyboardInterrupt  # this must be the last checkpoint, because a newer one would hide its faults

    def counted(self: loop.Trainer, rows: Rows) -> None:
        train_step(self, rows)
        steps.append(len(rows))
        if len(steps) == 5:
            assert saving.wait(60)
            trained.set()

    monkeypatch.setattr(checkpoints, "save_file", late)
    monkeypatch.setattr(LocalStore, "put", last)
    monkeypatch.setattr(loop.Trainer, "_train_step", counted)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped)
    fault("training: interrupted with a checkpoint on its way")
    fit(stopped)
    assert_bit_identical(stopped, undisturbed)


def test_unavailable_store_costs_checkpoints_but_not_training(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    undisturbed, alone = biencoder_fit("undisturbed"), biencoder_fit("alone", **OFTEN)
    fit(undisturbed)
    refused: list[str] = []

    def down(self: LocalStore, path: Path, key: str) -> None:
        refused.append(key)
        raise StoreUnavailable("s3://bucket: no answer")

    monkeypatch.setattr(LocalStore, "upload", down)
    fit(alone)
    fault("training: the store does not answer when a checkpoint is saved", len(refused))
    assert len(refused) > 1, "it is tried again at the next checkpoint"
    assert "this checkpoint could not be saved, training continues: s3://bucket: no answer" in caplog.text
    assert_bit_identical(alone, undisturbed)
    assert not list((alone.out / "checkpoints-0").glob("*")), "local copies are removed all the same"


def test_refused_checkpoint_stops_training(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    def refuse(self: LocalStore, path: Path, key: str) -> None:
        raise ConfigError("s3://bucket: access denied")

    steps: list[int] = []
    train_step = loop.Trainer._train_step
    monkeypatch.setattr(LocalStore, "upload", refuse)
    monkeypatch.setattr(
        loop.Trainer, "_train_step", lambda self, rows: (train_step(self, rows), steps.append(len(rows)))
    )
    fault("training: the store refuses a checkpoint")
    with pytest.raises(ConfigError, match="access denied"):
        fit(biencoder_fit(num_train_epochs=5))
    assert len(steps) < 5 * 8


def test_preemption_with_unavailable_store_reports_unsaved_checkpoint(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    def down(self: LocalStore, path: Path, key: str) -> None:
        raise StoreUnavailable("s3://bucket: no answer")

    monkeypatch.setattr(LocalStore, "upload", down)
    monkeypatch.setattr(loop.Interrupt, "requested", True, raising=False)
    monkeypatch.setattr(loop.Interrupt, "__init__", lambda self: None)
    fault("training: SIGTERM while the store does not answer")
    with pytest.raises(Preempted, match=r"stopped at step 0, but its checkpoint could not be saved.*no answer"):
        fit(biencoder_fit())
