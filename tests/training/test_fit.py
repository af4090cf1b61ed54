import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.faults import Fault
from tests.training.conftest import MakeFit
from tests.training.results import assert_bit_identical, result, weights
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.errors import ConfigError, Preempted
from zeshel_tasks.models.biencoder import Biencoder
from zeshel_tasks.training import loop
from zeshel_tasks.training.biencoder_objective import BiencoderObjective
from zeshel_tasks.training.fit import fit
from zeshel_tasks.training.launch import run_in_processes


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends SIGTERM to this process, as Kubernetes does, after ``steps`` more steps."""
    left = [steps]
    train_step = loop.Trainer._train_step

    def counted(self: loop.Trainer, rows: Rows) -> None:
        train_step(self, rows)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.Trainer, "_train_step", counted)


def test_training_lowers_its_loss(biencoder_fit: MakeFit) -> None:
    task = biencoder_fit(num_train_epochs=6)
    fit(task)
    losses = [epoch["train_loss"] for epoch in result(task)["metrics"]["epochs"]]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("accumulation", [1, 3])
def test_training_stopped_by_sigterm_resumes_bit_identically(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, accumulation: int
) -> None:
    monkeypatch.setattr(loop, "_CURVE_POINTS", 4)  # so that some losses are not yet in the curve
    undisturbed = biencoder_fit("undisturbed", gradient_accumulation_steps=accumulation)
    fit(undisturbed)
    stopped = biencoder_fit("stopped", gradient_accumulation_steps=accumulation)
    for steps in (3, 5, 2):  # within the first epoch, at its end, and within the second
        with monkeypatch.context() as patch:
            stop_after(steps, patch)
            with pytest.raises(Preempted, match="the next attempt resumes there"):
                fit(stopped)
    fit(stopped)
    assert_bit_identical(stopped, undisturbed)


def test_broken_newest_checkpoint_falls_back_to_previous_one(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, stopped = biencoder_fit("undisturbed"), biencoder_fit("stopped")
    fit(undisturbed)
    for steps in (3, 2):
        with monkeypatch.context() as patch:
            stop_after(steps, patch)
            with pytest.raises(Preempted):
                fit(stopped)
    newest = sorted(Path(stopped.store).glob("checkpoints/*"))[-1]
    (broken,) = newest.glob("attempts/*/optimizer.safetensors")
    broken.write_bytes(broken.read_bytes()[:-7])
    with caplog.at_level("INFO"):
        fit(stopped)
    assert "is broken, trying the previous one" in caplog.text
    assert "resuming at step 3" in caplog.text
    assert result(stopped)["metrics"] == result(undisturbed)["metrics"]


def test_best_epoch_is_kept_instead_of_last(biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch) -> None:
    recalls = iter([0.2, 0.5, 0.4])
    validated: list[dict[str, torch.Tensor]] = []

    def validate(objective: object, model: Biencoder, after_batch: object) -> dict[str, float]:
        weights = model.context_encoder.bert_model.state_dict()
        validated.append({name: value.clone() for name, value in weights.items()})
        return {"valid_recall": next(recalls), "valid_recall_at_1": 0.0}

    monkeypatch.setattr("zeshel_tasks.training.biencoder_objective.BiencoderObjective.validate", validate)
    three = biencoder_fit("three", num_train_epochs=3)
    fit(three)
    assert result(three)["metrics"]["best_epoch"] == 2
    assert result(three)["metrics"]["valid_recall"] == 0.5
    kept = load_file(three.model / "context_encoder" / "model.safetensors")
    same = [all(torch.equal(weights[name], kept[name]) for name in kept) for weights in validated]
    assert same == [False, True, False]


@pytest.mark.parametrize("stop", [False, True])
def test_patience_ends_training_after_epochs_without_improvement(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, stop: bool
) -> None:
    recalls = [0.2, 0.5, 0.4, 0.5, 0.9]
    monkeypatch.setattr(
        "zeshel_tasks.training.biencoder_objective.BiencoderObjective.validate",
        lambda self, model, after_batch: {"valid_recall": recalls.pop(0), "valid_recall_at_1": 0.0},
    )
    task = biencoder_fit(num_train_epochs=5, patience=2)
    if stop:
        with monkeypatch.context() as patch:
            stop_after(25, patch)
            with pytest.raises(Preempted):
                fit(task)
    fit(task)
    metrics = result(task)["metrics"]
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2, 3, 4]
    assert (metrics["best_epoch"], metrics["steps"]) == (2, 32)


@pytest.mark.parametrize(("similarity", "warned"), [("dot", 0), ("cosine", 1)])
def test_blink_weights_with_another_similarity_cause_warning(
    biencoder_fit: MakeFit, golden: Path, caplog: pytest.LogCaptureFixture, similarity: str, warned: int
) -> None:
    task = biencoder_fit(num_train_epochs=0, similarity=similarity)
    fit(replace(task, weights=golden / "bi" / "pytorch_model.bin"))
    assert caplog.text.count("BLINK trains for pooling cls and similarity dot") == warned


def test_zero_epochs_keep_the_start_weights(biencoder_fit: MakeFit) -> None:
    task = biencoder_fit(num_train_epochs=0)
    fit(task)
    start = load_file(task.bert / "model.safetensors")
    kept = load_file(task.model / "context_encoder" / "model.safetensors")
    assert all(torch.equal(kept[name], start[name]) for name in start)
    assert result(task)["metrics"]["best_epoch"] == 0


def test_all_encoder_layers_leaves_embeddings_and_pooler_alone(biencoder_fit: MakeFit) -> None:
    task = biencoder_fit(type_optimization="all_encoder_layers", num_train_epochs=1)
    fit(task)
    start, trained = load_file(task.bert / "model.safetensors"), weights(task)
    changed = {name for name in start if not torch.equal(start[name], trained[f"context_encoder/{name}"])}
    assert changed
    assert all(name.startswith("encoder.layer.") for name in changed)


def test_nan_loss_error_names_learning_rate(biencoder_fit: MakeFit, tmp_path: Path) -> None:
    task = biencoder_fit()
    broken = shutil.copytree(task.bert, tmp_path / "bert")
    tensors = load_file(broken / "model.safetensors")
    tensors["encoder.layer.0.output.dense.bias"][:] = 3e38  # finite, but their sum is not
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="loss became nan at or before step 1: lower learning_rate"):
        fit(replace(task, bert=broken))


@pytest.mark.parametrize(("precision", "loss", "weight"), [("fp32", 1e-4, 1e-3), ("bf16", 1e-2, 1e-2)])
def test_two_processes_train_like_one(
    biencoder_fit: MakeFit, golden: Path, precision: str, loss: float, weight: float
) -> None:
    """Negatives are gathered with their gradients, so loss and weights are the same (without dropout)."""
    one = replace(biencoder_fit("one"), bert=golden / "bert")
    two = replace(biencoder_fit("two", gradient_precision=precision), bert=golden / "bert")
    fit(one)
    run_in_processes(fit, two, 2, two.out)
    assert "2 x" in result(two)["device"]
    for ours, theirs in zip(result(two)["curve"], result(one)["curve"], strict=True):
        assert ours == pytest.approx(theirs, abs=loss)
    ours, theirs = weights(two), weights(one)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=weight, rtol=1e-2)  # AdamW enlarges rounding


def test_error_in_worker_process_is_reraised(biencoder_fit: MakeFit, tmp_path: Path) -> None:
    task = replace(biencoder_fit(), bert=tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"nothing/config\.json: expected a JSON object"):
        run_in_processes(fit, task, 2, task.out)


def test_checkpoint_of_another_model_is_not_resumed(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(Preempted):
            fit(biencoder_fit("stopped"))
    with caplog.at_level("INFO"):
        fit(biencoder_fit("stopped", type_optimization="top_layer"))  # same checkpoints, other parameters
    assert "weights or optimizer of another model" in caplog.text
    assert "resuming" not in caplog.text


def test_bf16_trains_and_keeps_fp32_weights(biencoder_fit: MakeFit) -> None:
    task = biencoder_fit(precision="bf16", num_train_epochs=3)
    fit(task)
    losses = [epoch["train_loss"] for epoch in result(task)["metrics"]["epochs"]]
    assert losses[-1] < losses[0]
    assert {tensor.dtype for tensor in weights(task).values()} == {torch.float32}


@pytest.mark.parametrize("eval_interval", [0, 3])
def test_sigterm_interrupts_running_validation(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, eval_interval: int, fault: Fault
) -> None:
    settings = {"eval_interval": eval_interval, "eval_batch_size": 4}
    undisturbed, stopped = biencoder_fit("undisturbed", **settings), biencoder_fit("stopped", **settings)
    fit(undisturbed)
    looks: list[None] = []
    look_up = loop.Trainer._stop_in_validation

    def signalled(self: loop.Trainer) -> None:
        looks.append(None)
        os.kill(os.getpid(), signal.SIGTERM)
        look_up(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_stop_in_validation", signalled)
        with pytest.raises(Preempted, match=f"stopped at step {eval_interval or 8}; the next attempt resumes"):
            fit(stopped)
    fault("training: SIGTERM within a validation")
    assert len(looks) == 1
    fit(stopped)
    assert_bit_identical(stopped, undisturbed)


def test_overflowing_gradient_is_noticed_before_checkpoint(
    biencoder_fit: MakeFit, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    task = biencoder_fit(checkpoint_minutes=1e-6)
    loss, losses = BiencoderObjective.loss, []

    def overflowing(self: BiencoderObjective, model: torch.nn.Module, rows: Rows) -> torch.Tensor:
        value = loss(self, model, rows)
        losses.append(value)
        if len(losses) == 4:
            value.register_hook(lambda gradient: gradient * float("inf"))
        return value

    monkeypatch.setattr(BiencoderObjective, "loss", overflowing)
    fault("training: a gradient overflows")
    with pytest.raises(ConfigError, match=r"the loss became (inf|nan) at or before step 4: lower learning_rate"):
        fit(task)
    assert all(torch.isfinite(value) for value in losses), "the loss itself had not shown it yet"
    kept = list(Path(task.store).glob("checkpoints/*/attempts/*/model.safetensors"))
    assert kept
    assert all(torch.isfinite(tensor).all() for path in kept for tensor in load_file(path).values())
