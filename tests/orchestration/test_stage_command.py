import subprocess
import sys
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from zeshel_tasks.cli import main
from zeshel_tasks.errors import EXIT_CONFIG, CorruptArtifact, StoreUnavailable, ZeshelError
from zeshel_tasks.orchestration.stage_command import StageCommand, command_line
from zeshel_tasks.orchestration.task_command import failure, finish
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step

HOSTILE = ["a b", "$(touch /tmp/owned)", "; rm -rf /", "'\"`", "--preset=smoke", "-h", "ünïcode", "*"]


def test_step_name_includes_the_split() -> None:
    assert Step(STAGES["eval-biencoder"], "test").name == "eval-biencoder-test"
    assert Step(STAGES["train-biencoder"]).name == "train-biencoder"


def test_command_line_has_overrides_of_the_stage_and_of_those_that_it_checks() -> None:
    params = {
        "preset": "smoke",
        "bert_model": "m",
        "lowercase": False,
        "train_biencoder.learning_rate": 2e-5,
        "train_biencoder.shuffle": True,
        "train_biencoder.seed": None,
        "train_crossencoder.max_seq_length": 128,
        "eval_biencoder.top_k": 8,
        "gpus": 1,
    }
    assert command_line(Step(STAGES["train-biencoder"]), "s3://b/runs/r", params) == [
        "train-biencoder",
        "--run=s3://b/runs/r",
        "--preset=smoke",
        "--bert_model=m",
        "--lowercase=false",
        "--learning_rate=2e-05",
        "--shuffle=true",
        "--train_crossencoder.bert_model=m",
        "--train_crossencoder.lowercase=false",
        "--train_crossencoder.max_seq_length=128",
    ]
    assert command_line(Step(STAGES["eval-biencoder"], "valid"), "/r", params)[2:] == [
        "--preset=smoke",
        "--split=valid",
        "--top_k=8",
    ]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_string_stays_one_argument(value: str) -> None:
    arguments = command_line(Step(STAGES["download"]), "/r", {"preset": "smoke", "download.source": value})
    assert arguments == ["download", "--run=/r", "--preset=smoke", f"--source={value}"]


def test_string_with_a_line_break_is_refused() -> None:
    with pytest.raises(AirflowFailException, match=r"source: expected a name in UTF-8 without control characters"):
        command_line(Step(STAGES["download"]), "/r", {"preset": "smoke", "download.source": "line\nbreak"})


def sha256_refused(value: str) -> list[str]:
    """Returns arguments whose value sha256 rejects and quotes."""
    argument = command_line(Step(STAGES["download"]), "/r", {"preset": "smoke", "download.source": value})[-1]
    return ["download", "--run=/store/runs/r", argument.replace("source", "sha256", 1)]


@pytest.mark.parametrize("value", HOSTILE)
def test_cli_reads_hostile_string_unchanged(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(sha256_refused(value)) == EXIT_CONFIG
    assert f"got {value!r}" in capsys.readouterr().out


def test_process_gets_hostile_string_unchanged() -> None:
    value = "".join(HOSTILE)
    command = [sys.executable, "-m", "zeshel_tasks", *sha256_refused(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == EXIT_CONFIG
    assert f"got {value!r}" in done.stdout


def test_invalid_params_fail_the_task_without_retry() -> None:
    with pytest.raises(AirflowFailException, match=r"download: bad configuration.*\n.*no such setting"):
        command_line(Step(STAGES["download"]), "/r", {"train_biencoder.epochs": 3})


@pytest.mark.parametrize(
    ("exit_code", "retried", "words"),
    [
        (2, False, "bad configuration (exit code 2), not retried"),
        (3, False, "bad input data (exit code 3), not retried"),
        (75, True, "asks for a retry"),
        (1, True, "crashed (exit code 1)"),
        (-9, True, "signal 9; often caused by running out of memory"),
        (137, True, "signal 9; often caused by running out of memory"),
        (-15, True, "signal 15"),
    ],
)
def test_exit_code_decides_about_retries(exit_code: int, retried: bool, words: str) -> None:
    error = failure("convert", exit_code, ["mentions/val.json:3: broken"])
    assert isinstance(error, AirflowException)
    assert isinstance(error, AirflowFailException) is not retried
    assert words in str(error)
    assert "mentions/val.json:3: broken" in str(error)


def test_exit_code_0_without_a_manifest_is_not_success(tmp_path: Any) -> None:
    command = StageCommand(Step(STAGES["convert"]), str(tmp_path))
    with pytest.raises(AirflowException, match=f"no manifest is committed at {tmp_path}/runs/r") as caught:
        finish(command, 0, ["bye"], {"run_id": "r"})
    assert not isinstance(caught.value, AirflowFailException)
    assert str(caught.value).endswith("/runs/r:\nbye")


@pytest.mark.parametrize(
    ("error", "retried", "words"),
    [
        (
            CorruptArtifact("broken", file="r/convert.json"),
            False,
            "bad input data (exit code 3), not retried:\nr/convert",
        ),
        (StoreUnavailable("no answer"), True, "asks for a retry (exit code 75):\nno answer"),
    ],
)
def test_result_that_cannot_be_read_fails_the_task_as_its_error_says(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, error: ZeshelError, retried: bool, words: str
) -> None:
    def outcome(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(StageCommand, "outcome", outcome)
    with pytest.raises(AirflowException) as caught:
        finish(StageCommand(Step(STAGES["convert"]), str(tmp_path)), 0, [], {"run_id": "r"})
    assert isinstance(caught.value, AirflowFailException) is not retried
    assert str(caught.value).startswith(f"convert: {words}")
