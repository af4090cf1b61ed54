"""The command line: its flags, exit codes and messages."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.finished import manifest_of
from zeshel_tasks import __version__
from zeshel_tasks.cli import main
from zeshel_tasks.config.stages import STAGE_CONFIGS
from zeshel_tasks.errors import EXIT_TRY_AGAIN
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Stage
from zeshel_tasks.store import Manifest, open_run

COMMANDS = [*STAGES, "pipeline", "show", "export-blink", "export", "make-sample-worlds", "make-small-bert"]


@pytest.fixture(autouse=True)
def _logs_of_the_tests() -> Iterator[None]:
    """Restores logging, which ``main`` changes as a command may."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "store" / "runs" / "r1")


@pytest.fixture
def archive(raw_archive: Path) -> str:
    return str(raw_archive)


def manifest(run: str, name: str) -> Manifest:
    return manifest_of(open_run(run), name)


def test_finished_stage_exits_with_0_and_rerun_says_reused(
    run: str, archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "--run", run, "--source", archive]) == 0
    fingerprint = manifest(run, "download").fingerprint[:12]
    assert f"INFO: committed download {fingerprint}" in capsys.readouterr().out.splitlines()
    assert main(["download", "--run", run, "--source", archive]) == 0
    assert f"INFO: reused download {fingerprint}" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "--run", "{run}"], "expected a finished stage download, got none: run it first"),
        (["convert", "--run", "{run}", "--context_tokens", "0"], "convert.context_tokens: Input should be greater"),
        (["convert", "--run", "{run}", "--top_k", "8"], "unrecognized arguments: --top_k 8"),
        (["convert", "--run", "{run}", "--context", "8"], "unrecognized arguments: --context 8"),
        (["convert"], "the following arguments are required: --run"),
        (["convert", "--run", ""], "--run: expected a local path, file:///path or s3://bucket/key, got ''"),
        (
            ["convert", "--run", "out/r1"],
            "--run: expected <store>/runs/<run id>, where <store> is a local path",
        ),
        (
            ["show", "--run", "out/r1"],
            "--run: expected <store>/runs/<run id>, where <store> is a local path",
        ),
        (["eval-biencoder", "--run", "{run}"], "the following arguments are required: --split"),
        (["eval-crossencoder", "--run", "{run}", "--split", "train"], "invalid choice: 'train'"),
        (["convert", "--run", "{run}", "--split", "test"], "unrecognized arguments: --split test"),
        (["convert", "--run", "{run}", "--preset", "large"], "invalid choice: 'large'"),
        (["convert", "--run", "{run}", "--config", "{run}/none.yaml"], "--config: expected a readable YAML file"),
        (["train"], "COMMAND: expected one of these, got 'train'"),
        ([], "COMMAND: expected one of these, got none"),
        (["--verison"], "COMMAND: expected one of these, got none"),
        (["--version=2"], "argument --version: ignored explicit argument"),
        (["pipeline", "--run", "{run}", "--train_biencoder.context_tokens", "8"], "unrecognized arguments"),
        (["pipeline", "--run", "{run}", "--top_k", "0"], "eval_biencoder.top_k: Input should be greater"),
        (["show", "--run", "{run}"], "expected a run with finished stages, got none"),
        (["export-blink", "--run", "{run}", "--out", "{run}/out"], "expected a finished stage convert"),
        (["download", "--run", "{run}", "--source", "{run}/none.tar"], "source: expected a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_setting_exits_with_2_and_error_lines(
    run: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(run=run) for argument in arguments]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ERROR: ") and words in line for line in lines), lines
    assert all(line.startswith(("ERROR: ", "INFO: ")) for line in lines)


def test_each_error_line_starts_with_its_level(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "--run", run, "--top_k", "0", "--num_mistakes", "-1"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["ERROR", "ERROR"]
    assert [line.split()[1] for line in lines] == ["eval_biencoder.top_k:", "report.num_mistakes:"]


def test_broken_input_exits_with_3(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "zeshel.tar.bz2").write_bytes(b"not an archive")
    assert main(["download", "--run", run, "--source", str(tmp_path / "zeshel.tar.bz2")]) == 3
    assert capsys.readouterr().out.splitlines()[-1].startswith("ERROR: ")
    assert open_run(run).record("download") is None


def test_unreachable_store_exits_with_75() -> None:
    environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    command = [sys.executable, "-m", "zeshel_tasks", "convert", "--run", "s3://bucket/runs/r1"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 75
    assert ended.stdout.splitlines()[-1].startswith("ERROR: s3://bucket/runs/r1/stages/download.json: ")
    assert ended.stderr == ""


def test_interpreter_without_docstrings_exits_with_2() -> None:
    command = [sys.executable, "-OO", "-m", "zeshel_tasks", "champions", "--store=out"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "")
    assert ended.stdout.startswith("ERROR: Python: expected docstrings")


def test_crash_exits_with_1_and_traceback(run: str) -> None:
    crashes = (
        "import sys, zeshel_tasks.cli as cli\n"
        "def crash(*_): raise RuntimeError('a bug')\n"
        "cli.run_stage = crash\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", crashes, "download", "--run", run]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "RuntimeError: a bug" in ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_command_help_begins_with_description(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    usage, _, description = capsys.readouterr().out.partition("\n\n")
    assert usage.startswith(f"usage: zeshel {command}")
    assert re.match(r"[A-Z][^`]+\.\n", description)


def test_main_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")}
    assert listed >= set(COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["train"]])
def test_missing_or_unknown_command_shows_each_command_on_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    listed = dict(line.removeprefix("ERROR:   ").split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert listed.keys() >= set(COMMANDS)
    assert [listed[stage.name] for stage in STAGES.values()] == [stage.summary for stage in STAGES.values()]
    assert all(summary.endswith(".") for summary in listed.values())


def test_main_help_begins_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    usage, blank, first, *_ = capsys.readouterr().out.splitlines()
    assert (usage, blank) == ("usage: zeshel [-h] [--version] COMMAND ...", "")
    assert first == "Run the stages that retrain an entity linker, and inspect and manage their runs."


def test_version_flag_prints_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"zeshel-tasks {__version__}\n"


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_stage_help_shows_flag_for_every_setting(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([stage.name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in STAGE_CONFIGS[stage.settings].model_fields.items():
        assert f"--{name} " in text
        assert " ".join((field.description or "").split()) in text.replace("- ", "-")


@pytest.mark.parametrize("stage", STAGE_CONFIGS)
def test_pipeline_has_flag_for_every_stage_setting(stage: str, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [
        part for name in STAGE_CONFIGS[stage].model_fields for part in (f"--{stage}.{name}", "\N{SNOWMAN}")
    ]  # neither a number nor a boolean nor a choice
    main(["pipeline", "--run", run, *bad])
    out = capsys.readouterr().out
    assert "unrecognized" not in out
    refused = {line.split()[1].rstrip(":").removeprefix(f"{stage}.").removesuffix(".0") for line in out.splitlines()}
    accepted = {"source", "more_sources", "bert_model", "biencoder_weights", "crossencoder_weights"}
    accepted |= {"mention_prompt", "candidate_prompt"}
    assert refused | accepted >= set(STAGE_CONFIGS[stage].model_fields)


def test_flag_changes_its_setting(run: str, archive: str) -> None:
    main(["download", "--run", run, "--source", archive])
    assert main(["convert", "--run", run, "--context_tokens", "5", "--on_bad_mention=skip"]) == 0
    config = manifest(run, "convert").config
    assert (config["context_tokens"], config["on_bad_mention"]) == (5, "skip")


def test_dashes_and_underscores_in_flags_are_equivalent(run: str, archive: str) -> None:
    main(["download", "--run", run, "--source", archive, "--timeout-seconds", "7"])
    assert manifest(run, "download").config["timeout_seconds"] == 7
    assert main(["convert", "--run", run, "--context-tokens=6", "--max_mentions-per_world", "3"]) == 0
    config = manifest(run, "convert").config
    assert (config["context_tokens"], config["max_mentions_per_world"]) == (6, 3)


def test_dashes_in_a_value_are_kept(run: str, raw_archive: Path, tmp_path: Path) -> None:
    source = tmp_path / "zeshel-data--set.tar.bz2"
    source.write_bytes(raw_archive.read_bytes())
    assert main(["download", "--run", run, f"--source={source}"]) == 0
    assert manifest(run, "download").config["source"] == str(source)


def test_flags_override_file_and_file_overrides_preset(run: str, archive: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("preset: smoke\nconvert:\n  context_tokens: 7\n  max_mentions_per_world: 4\ntop_k: 5\n")
    main(["download", "--run", run, "--source", archive, "--config", str(file)])
    assert main(["convert", "--run", run, "--config", str(file), "--context_tokens", "8"]) == 0
    config = manifest(run, "convert").config
    assert (config["context_tokens"], config["max_mentions_per_world"]) == (8, 4)


def test_preset_flag_overrides_file(run: str, archive: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("preset: smoke\n")
    main(["download", "--run", run, "--source", archive])
    assert main(["convert", "--run", run, "--config", str(tmp_path / "recipe.yaml"), "--preset", "blink"]) == 0
    assert manifest(run, "convert").config["max_mentions_per_world"] is None


@pytest.mark.parametrize(
    ("content", "words"),
    [("top_k: [", "expected YAML"), ("topk: 1", "topk: no such setting; did you mean 'top_k'?"), ("\xff", "mapping")],
)
def test_broken_config_file_exits_with_2(
    run: str, tmp_path: Path, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(content)
    assert main(["convert", "--run", run, "--config", str(file)]) == 2
    assert words in capsys.readouterr().out


def test_binary_config_file_exits_with_2(run: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    assert main(["convert", "--run", run, "--config", str(tmp_path / "recipe.yaml")]) == 2


@pytest.mark.parametrize(("value", "expected"), [([], "true"), (["False"], "false"), (["maybe"], "maybe")])
def test_switch_accepts_no_value_or_a_boolean(
    run: str, value: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["train-biencoder", "--run", run, "--shuffle", *value, "--bert_model", "/no/such"])
    assert code == 2
    assert ("train_biencoder.shuffle" in capsys.readouterr().out) == (expected == "maybe")


def test_sigterm_removes_scratch_files_and_asks_for_retry(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    listener = socket.create_server(("127.0.0.1", 0))  # it accepts connections and never answers
    source = f"http://127.0.0.1:{listener.getsockname()[1]}/zeshel.tar.bz2"
    command = [sys.executable, "-m", "zeshel_tasks", "download", "--run", str(tmp_path / "runs" / "r")]
    process = subprocess.Popen(
        [*command, "--source", source, "--sha256", "0" * 64],
        env={**os.environ, "ZESHEL_SCRATCH": str(scratch)},
        stdout=subprocess.DEVNULL,
    )
    with listener, listener.accept()[0]:
        assert list(scratch.iterdir())
        process.terminate()
        assert process.wait() == EXIT_TRY_AGAIN
    assert not list(scratch.iterdir())
