"""Settings at and just beyond the edges of their ranges, of wrong types, and in invalid files.

The edges are generated from the models of ``config/``, so a new setting is tested without a change here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest

from tests.bad_input.command import Ended, assert_refused, run
from tests.bad_input.edges import BEYOND, INSIDE, NARROWER, NUMBERS, Edge, companions, inside_and_beyond, schemas
from tests.support.faults import Fault
from zeshel_tasks.config.stages import STAGE_CONFIGS
from zeshel_tasks.errors import EXIT_CONFIG
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.text.yaml_text import MAX_CHARACTERS

Capture = pytest.CaptureFixture[str]


def default_of(stage: str, name: str) -> Any:
    return STAGE_CONFIGS[stage].model_fields[name].default


def may_be_none(stage: str, name: str) -> bool:
    return NoneType in get_args(STAGE_CONFIGS[stage].model_fields[name].annotation)


NO_NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1e999",
    "",
    " ",
    "true",
    "0x10",
    "1,5",
    "one",
    "1" * 5000,
    "\x1b[2J",
    "\ud800",
    "[]",
]
WRONG = {
    "integer": [*NO_NUMBERS, "1.5", "none"],
    "number": [*NO_NUMBERS, "none"],
    "boolean": ["maybe", "", "2", "-1", "none", "\n", "yes\nno"],
    "array": ["", "a\x00b", "a\nb", "a\x85b", "a\u2028b", "\x1b]0;x\x07", "\ud800", "x" * 5000, "y" * 256],
    "string": ["", "none", "a\x00b", "a\nb", "a\x85b", "a\u2028b", "\x1b]0;x\x07", "\ud800", "x" * 5000, "y" * 256],
}
MISTYPED = [
    (stage, name, [value for value in WRONG[core["type"]] if not (value == "none" and may_be_none(stage, name))])
    for stage, name, core in schemas()
]


def stage_command(stage: str, folder: Path, settings: dict[str, str], capsys: Capture) -> Ended:
    command = next(known for known in STAGES.values() if known.settings == stage)
    split = ["--split", command.splits[0]] if command.splits else []
    flags = [f"--{name}={value}" for name, value in settings.items()]
    return run([command.name, "--run", str(folder / "runs" / "r"), *split, *flags], capsys)


@pytest.mark.parametrize("edge", BEYOND, ids=str)
def test_number_beyond_its_range_is_refused_by_name(tmp_path: Path, capsys: Capture, fault: Fault, edge: Edge) -> None:
    fault("input: setting out of range")
    ended = stage_command(edge.stage, tmp_path, {edge.name: edge.value}, capsys)
    assert_refused(ended, EXIT_CONFIG, f"{edge.stage}.{edge.name}: Input should be ", f"got '{edge.value}'")


@pytest.mark.parametrize("edge", INSIDE, ids=str)
def test_number_at_edge_of_its_range_is_accepted(edge: Edge) -> None:
    known = companions(edge.stage, edge.name)
    if edge in NARROWER:
        known |= {"out_dim": "1"} if edge.name == "out_dim" else {}
        edge = edge._replace(value=known[edge.name])
    recipe = build_recipe("recommended", {edge.stage: known | {edge.name: edge.value}})
    assert getattr(getattr(recipe, edge.stage), edge.name) == float(edge.value)


@pytest.mark.parametrize(
    ("stage", "name", "values"), MISTYPED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_value_of_wrong_type_is_refused_by_name(
    tmp_path: Path, capsys: Capture, fault: Fault, stage: str, name: str, values: list[str]
) -> None:
    for value in values:
        fault("input: setting of another type")
        ended = stage_command(stage, tmp_path, {name: value}, capsys)
        is_list = isinstance(default_of(stage, name), tuple)  # the message names the setting or one of its items
        assert_refused(ended, EXIT_CONFIG, f"{stage}.{name}" if is_list else f"{stage}.{name}: ")


@pytest.mark.parametrize(
    ("stage", "name", "choices"), [(stage, name, core["enum"]) for stage, name, core in schemas() if "enum" in core]
)
def test_choice_accepts_only_listed_values(
    tmp_path: Path, capsys: Capture, fault: Fault, stage: str, name: str, choices: list[str]
) -> None:
    for choice in choices:
        recipe = build_recipe("blink", {stage: companions(stage, name) | {name: choice}})
        assert getattr(getattr(recipe, stage), name) == choice
        for wrong in (choice.upper(), f"{choice} ", choice[:-1]):
            fault("input: setting of another type")
            ended = stage_command(stage, tmp_path, {name: wrong}, capsys)
            assert_refused(ended, EXIT_CONFIG, f"{stage}.{name}: Input should be {choices[0]!r}")


def test_cases_cover_every_setting_type_and_number() -> None:
    assert {core["type"] for _, _, core in schemas()} == set(WRONG)
    assert {(stage, name) for stage, name, _ in NUMBERS} == {(edge.stage, edge.name) for edge in BEYOND}
    unbounded = [f"{stage}.{name}" for stage, name, core in NUMBERS if len(inside_and_beyond(core)[1]) < 2]
    assert unbounded == []


# Invalid files, and words that the message must contain.
FILES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "broken": (b"convert:\n  context_tokens: [1\nx", ("line 3", "expected YAML")),
    "tabs": (b"convert:\n\tcontext_tokens: 1\n", ("line 2", "expected YAML")),
    "two documents": (b"a: 1\n---\nb: 2\n", ("line 2", "expected YAML")),
    "a list": (b"- context_tokens\n", ("expected a mapping of setting names, got list",)),
    "a word": (b"blink", ("expected a mapping of setting names, got str",)),
    "a number for a name": (b"1: 2\n", ("expected a mapping of setting names",)),
    "no name": (b": 2\n", ("expected YAML", "line 1")),
    "a list for a name": (b"? [a]\n: 1\n", ("expected YAML", "line 1")),
    "the same name twice": (b"top_k: 8\nseed: 1\ntop_k: 9\n", ("line 3", "'top_k' twice")),
    "the same name twice in a stage": (b"convert:\n  subset_seed: 1\n  subset_seed: 1\n", ("line 3", "twice")),
    "the same setting by two names": (
        b"convert: {subset_seed: 1}\nconvert.subset_seed: 2\n", ("convert.subset_seed: expected it once",)
    ),
    "a Python object": (b"top_k: !!python/object/apply:os.system ['touch owned']\n", ("expected YAML", "line 1")),
    "a Python name": (b"top_k: !!python/name:os.system\n", ("expected YAML", "python/name")),
    "an unknown tag": (b"top_k: !include /etc/passwd\n", ("expected YAML", "!include")),
    "a date that is none": (b"top_k: 2026-99-99\n", ("expected YAML", "line 1")),
    "an integer that is none": (b"top_k: !!int x\n", ("expected YAML", "line 1")),
    "an empty integer": (b"top_k: !!int ''\n", ("expected YAML", "line 1")),
    "a boolean that is none": (b"shuffle: !!bool x\n", ("expected YAML", "line 1")),
    "a timestamp that is none": (b"top_k: !!timestamp x\n", ("expected YAML", "line 1")),
    "a date": (b"top_k: 2026-01-01\n", ("eval_biencoder.top_k: ", "datetime.date(2026, 1, 1)")),
    "an integer of 5,000 digits": (b"top_k: " + b"9" * 5000 + b"\n", ("expected YAML", "line 1")),
    "an integer of 4,000 digits": (b"top_k: " + b"9" * 4000 + b"\n", ("eval_biencoder.top_k", "13,288 bits")),
    "base 60": (b"top_k: 1" + b":59" * 10_000 + b"\n", ("expected YAML", "line 1", "reads in base 60")),
    "1e400": (b"learning_rate: 1.0e+400\n", ("train_biencoder.learning_rate: Input should be a finite number",)),
    "not a number": (b"max_bad_share: .nan\n", ("convert.max_bad_share: Input should be a finite number",)),
    "true for a number": (
        b"top_k: true\n",
        ("eval_biencoder.top_k: expected a value that is not true or false; got True",),
    ),
    "true for a share": (
        b"max_bad_share: true\n",
        ("convert.max_bad_share: expected a value that is not true or false",),
    ),
    "a list for a number": (b"top_k: [8]\n", ("eval_biencoder.top_k", "got [8]")),
    "a mapping for a number": (b"top_k: {a: 1}\n", ("eval_biencoder.top_k",)),
    "a number for a stage": (b"convert: 8\n", ("convert: expected a mapping of this stage's settings, got 8",)),
    "a number for a name of a stage": (b"convert: {8: 1}\n", ("convert: expected names of settings, got 8",)),
    "a list that holds itself": (b"top_k: &a [*a]\n", ("eval_biencoder.top_k",)),
    "a mapping that holds itself": (b"convert: &a {subset_seed: *a}\n", ("convert.subset_seed",)),
    "an alias of nothing": (b"top_k: *nothing\n", ("expected YAML", "line 1")),
    "an unknown name": (b"context_token: 1\n", ("context_token: no such setting; did you mean 'context_tokens'?",)),
    "an unknown stage": (b"convret.context_tokens: 1\n", ("expected a stage among download, convert",)),
    "a name of terminal commands": (b'"\\e[2J\\nERROR: x": 1\n', (r"\x1b[2J\nERROR: x: no such setting",)),
    "a name of 50,000 characters": (b"? '" + b"x" * 50_000 + b"'\n: 1\n", ("no such setting", "50,000 characters")),
    "an unknown preset": (b"preset: blnik\n", ("expected one of blink, recommended, best, smoke, got 'blnik'",)),
    "a number for a preset": (b"preset: 5\n", ("preset: expected one of blink, recommended, best, smoke, got 5",)),
    "deep lists": (b"top_k: " + b"[" * 20_000, ("expected YAML", "too deeply")),
    "deep mappings": (b"top_k: " + b"{a: " * 15_000, ("expected YAML", "too deeply")),
    "too long": (b"# " + b"x" * MAX_CHARACTERS, ("expected YAML", "at most 65,536 are read")),
    "zeros": (bytes(1000), ("expected YAML", "#x0000")),
    "terminal commands": (b"\x1b[2J\x1b]0;x\x07", ("expected YAML", "#x001b")),
    "Latin-1": (b"source: \xe9\n", ("--config: expected a readable YAML file", "utf-8")),
    "UTF-16": ("top_k: 8\n".encode("utf-16"), ("--config: expected a readable YAML file", "utf-8")),
    "a pickle": (b"\x80\x04\x95\x10\x00", ("--config: expected a readable YAML file",)),
    "a surrogate": (b'source: "\\ud800"\n', ("download.source: ",)),
    "a control character": (b'source: "a\\0b"\n', ("download.source: expected a name in UTF-8 without control",)),
}  # fmt: skip


def alias_bomb(merged: bool) -> bytes:
    """Returns a few lines of YAML that describe 9^20 elements."""
    lines = ["a0: &a0 {x: 1}" if merged else "a0: &a0 [lol]"]
    for level in range(1, 20):
        before = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{before}], y{level}: 1}}" if merged else f"[{before}]"))
    return "\n".join([*lines, "top_k: *a19"]).encode()


FILES["an alias bomb"] = (b"top_k: &top\n- 1\n" + alias_bomb(False), ("'top_k' twice",))
FILES["an alias bomb as a value"] = (
    b"convert: {subset_seed: &a0 [lol]}\n" + alias_bomb(False).replace(b"a0: &a0 [lol]", b"a0: *a0"),
    ("a0: no such setting",),
)
FILES["an alias bomb of merges"] = (alias_bomb(True), ("expected YAML", "too many names"))


def with_file(content: bytes, folder: Path, capsys: Capture) -> Ended:
    (folder / "recipe.yaml").write_bytes(content)
    return run(["convert", "--run", str(folder / "runs" / "r"), "--config", str(folder / "recipe.yaml")], capsys)


@pytest.mark.parametrize("name", FILES)
def test_invalid_settings_file_is_refused(
    tmp_path: Path, capsys: Capture, fault: Fault, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fault("input: broken settings file")
    monkeypatch.chdir(tmp_path)
    content, words = FILES[name]
    ended = with_file(content, tmp_path, capsys)
    if words[0].startswith("train_biencoder.learning_rate"):  # two stages have this setting
        assert (ended.code, len(ended.errors)) == (EXIT_CONFIG, 2)
        assert ended.errors[0].startswith(words[0])
    else:
        assert_refused(ended, EXIT_CONFIG, *words)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n\n", b"# nothing\n", b"---\n", b"\xef\xbb\xbfsubset_seed: 1\n", b"subset_seed: 1\r\nseed: 2\r\n",
        b"convert:\n  {}\n",
        b"preset: null\n", b'subset_seed: "1"\n', b"convert: &c {subset_seed: 1}\n",
    ],
    ids=["nothing", "blank", "comment", "empty document", "byte order mark", "CR LF", "empty stage",
         "no preset", "a number as text", "an anchor"],
)  # fmt: skip
def test_unusual_settings_file_is_accepted(tmp_path: Path, capsys: Capture, fault: Fault, content: bytes) -> None:
    fault("input: strange settings file")
    ended = with_file(content, tmp_path, capsys)
    assert_refused(ended, EXIT_CONFIG, "expected a finished stage download, got none: run it first")


def test_folder_or_pipe_is_refused_as_settings_file(tmp_path: Path, capsys: Capture, fault: Fault) -> None:

    os.mkfifo(tmp_path / "pipe")  # a pipe without a writer
    for name in (".", "pipe", "/dev/zero"):
        fault("input: broken settings file")
        ended = run(["convert", "--run", str(tmp_path / "runs" / "r"), "--config", str(tmp_path / name)], capsys)
        assert_refused(ended, EXIT_CONFIG, "--config: expected a YAML file", "which is not a file")


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "--run", "a\x00b"], ["convert", "--run", "x" * 300], ["convert", "--run", "\udcff"],
        ["convert", "--run", ""], ["convert", "--run", "s3://"], ["convert", "--run", "http://host/runs/r"],
        ["show", "--run", "a\nb"], ["export-blink", "--run", "x", "--out", "a\x00b"],
        ["export-blink", "--run", "x", "--out", "/dev/null/out"], ["make-sample-worlds", "--out", "/"],
        ["make-sample-worlds", "--out", "/dev/null/a.tar"], ["make-sample-worlds", "--out", "x", "--seed", "-1"],
        ["make-sample-worlds", "--out", "x", "--seed", "9" * 5000],
        ["make-small-bert", "--data", "x", "--out", "/dev/null"],
        ["make-small-bert", "--data", "x", "--out", "x", "--vocab_size", "299"],
        ["make-small-bert", "--data", "x", "--out", "x", "--vocab_size", "\x1b[2J"],
        ["convert", "--\x1b[2J", "1"], ["convert", "--run", "x", "--config", "a\x00b"],
        ["convert", "--run", "x", "--config", "y" * 300], ["eval-biencoder", "--run", "x", "--split", "\u2028"],
    ],
    ids=lambda arguments: ascii(" ".join(arguments))[:60],
)  # fmt: skip
def test_wrong_command_line_is_refused_in_one_line(
    tmp_path: Path, capsys: Capture, fault: Fault, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    fault("input: wrong command line")
    monkeypatch.chdir(tmp_path)
    assert_refused(run(arguments, capsys), EXIT_CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_unknown_command_is_quoted_without_control_characters(capsys: Capture, fault: Fault) -> None:
    fault("input: wrong command line")
    ended = run(["\x1b[2J\nERROR: x"], capsys)
    assert ended.code == EXIT_CONFIG
    assert ended.errors[0].endswith(r"COMMAND: expected one of these, got '\x1b[2J\nERROR: x'")
    assert all(line.isprintable() for line in ended.errors)


def test_ascii_terminal_gets_escaped_error(tmp_path: Path, fault: Fault) -> None:
    fault("input: wrong command line")
    command = [
        sys.executable,
        "-m",
        "zeshel_tasks",
        "convert",
        "--run",
        str(tmp_path / "runs" / "r"),
        "--subset_seed=é…\u2603",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (EXIT_CONFIG, "")
    assert ended.stdout.startswith("ERROR: convert.subset_seed: ")
    assert ended.stdout.endswith(r"got '\xe9\u2026\u2603'" + "\n")


def test_non_utf8_argument_is_refused(tmp_path: Path, fault: Fault) -> None:
    fault("input: wrong command line")
    command = [sys.executable, "-m", "zeshel_tasks", "show", "--run", b"/\xff\xfe"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (EXIT_CONFIG, "")
    assert ended.stdout.startswith("ERROR: argument --run: expected a name in UTF-8 without control characters")
