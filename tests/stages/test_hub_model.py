"""A training from a model on the hub, whose name may stand for other files later."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.download.hub_server import NAME, running_hub
from tests.support.finished import manifest_of
from zeshel_tasks.download.model_file_names import files_read
from zeshel_tasks.errors import TryAgain
from zeshel_tasks.pipeline.contract import reuse_stage, run_stage
from zeshel_tasks.pipeline.job import Job, Target
from zeshel_tasks.pipeline.outside import biencoder_start
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.stages.training import pretrained_bert
from zeshel_tasks.store import open_run

SETTINGS = {"max_context_length": 32, "max_cand_length": 32, "num_train_epochs": 0, "max_mentions_per_world": 6}


def zeshel(*arguments: str) -> str:
    command = [sys.executable, "-m", "zeshel_tasks", *arguments]
    ended = subprocess.run(command, env=os.environ, stdout=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_training_is_reused_while_the_files_on_the_hub_are_unchanged(
    golden: Path, raw_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"{tmp_path}/store/runs/r"
    recipe = build_recipe("smoke", SETTINGS | {"source": str(raw_archive), "bert_model": NAME})
    pinned = build_recipe("smoke", SETTINGS | {"bert_model": f"{NAME}@v1"})
    train = STAGES["train-biencoder"]
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    files = {file.name: file.read_bytes() for file in (golden / "bert").iterdir()}
    with running_hub(dict(files)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        for stage in ("download", "convert"):
            run_stage(STAGES[stage], address, recipe)
        flags = [f"--{name}={value}" for name, value in SETTINGS.items() if name != "max_mentions_per_world"]
        zeshel("train-biencoder", f"--run={address}", "--preset=smoke", f"--bert_model={NAME}", *flags)

        identity = manifest_of(open_run(address), "train-biencoder").inputs["bert_model"]
        assert re.fullmatch("hub:[0-9a-f]{64}", identity)
        assert f"model   {NAME}  {identity}" in zeshel("show", f"--run={address}")
        downloads = {request.path for request in hub.requests if "/resolve/" in request.path}
        assert downloads == {f"/{NAME}/resolve/{'a' * 40}/{name}" for name in ("README.md", *files_read(files))}

        assert reuse_stage(train, address, recipe) is not None
        hub.commits["main"], hub.files["README.md"] = "c" * 40, b"edited"
        assert reuse_stage(train, address, recipe) is not None
        assert reuse_stage(train, address, pinned) is not None
        hub.commits["main"], hub.files["vocab.txt"] = "d" * 40, b"edited"
        assert reuse_stage(train, address, recipe) is None
        hub.commits["main"], hub.files["vocab.txt"] = "e" * 40, files["vocab.txt"]
        assert reuse_stage(train, address, recipe) is not None

    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere"))  # as on the scheduler, which downloads no models
    caplog.clear()
    assert reuse_stage(train, address, recipe) is not None
    assert f"assuming commit {'e' * 40}" in caplog.text


def test_model_that_changes_while_it_is_fetched_is_not_trained_on(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(f"{tmp_path}/store/runs/r")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    with running_hub({file.name: file.read_bytes() for file in (golden / "bert").iterdir()}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        config = build_recipe("smoke", {"bert_model": NAME}).train_biencoder
        seen = biencoder_start(config, run)
        hub.files["vocab.txt"] = b"edited"
        job = Job(
            run,
            build_recipe("smoke", {}),
            {},
            Target("train-biencoder", None, {}, {}),
            tmp_path,
            lambda: biencoder_start(config, run),
            seen_outside=seen,
        )
        with pytest.raises(TryAgain, match="bert_model has changed while it was read"):
            pretrained_bert(job, NAME)
