"""``zeshel link`` against a knowledge base of a test world, with the champion."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Fault
from tests.support.finished import copy_with_knowledge_base
from tests.support.fork_server import fork_server
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.cli import main
from zeshel_tasks.commands import link_setup
from zeshel_tasks.commands.link import print_links
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA, EXIT_OK
from zeshel_tasks.knowledge_base.head import Encoding
from zeshel_tasks.link_files.plan import read_plan, summarize
from zeshel_tasks.location import store_location
from zeshel_tasks.stages.inputs import world_documents
from zeshel_tasks.store import Run, open_store

WORLD = "grove"


@pytest.fixture(scope="module")
def run(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run whose models are the champion of its store, which has a knowledge base."""
    return copy_with_knowledge_base(finished_run, tmp_path_factory.mktemp("link"), WORLD)


@pytest.fixture(scope="module")
def entity(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Document:
    """An entity that its title finds."""
    download = finished_run.artifact("download", tmp_path_factory.mktemp("entity"))
    return next(iter(world_documents(download, WORLD)))


def link(run: Run, *arguments: object) -> int:
    return main(["link", "--store", run.store.address, "--kb", WORLD, *map(str, arguments)])


def linked_text(run: Run, capsysbinary: pytest.CaptureFixture[bytes], *arguments: object) -> dict[str, Any]:
    assert link(run, *arguments) == EXIT_OK
    (line,) = capsysbinary.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = EXIT_CONFIG) -> str:
    """Returns the error message. It is on stderr where stdout would have the links."""
    assert main(["link", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    return out + err


def test_one_text_is_linked(run: Run, entity: Document, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    text = f"They saw [[{entity.title}]] there ."
    found = linked_text(run, capsysbinary, "--text", text, "--top-k", 3)
    assert list(found) == ["text", "links", "linked_by"]
    (linked,) = found["links"]
    assert text[linked["start"] : linked["end"]] == linked["mention"] == entity.title
    assert len(linked["candidates"]) == 3
    best = linked["candidates"][0]
    assert linked["nil"] or (linked["id"], linked["title"], linked["url"]) == (best["id"], best["title"], best["url"])
    assert set(best) == {"id", "title", "url", "score", "retrieval", "crossencoder"}
    assert best["score"] >= linked["candidates"][1]["score"]
    assert all(0 <= linked[name] <= 1 for name in ("probability", "nil_probability", "softmax"))
    by = found["linked_by"]
    assert (by["run"], by["kb"], len(by["models"]), len(by["kb_fingerprint"])) == (run.run_id, WORLD, 64, 64)


def test_killed_process_leaves_finished_files_and_the_next_one_makes_the_others(
    run: Run, tmp_path: Path, fault: Fault
) -> None:
    fault("linking: SIGKILL")
    source, whole, out = (tmp_path / name for name in ("in", "whole", "out"))
    source.mkdir()
    for name, lines in (("a", 3), ("b", 3), ("c", 60)):
        (source / f"{name}.jsonl").write_text(f'{{"text": "the [[sword]] of {name}"}}\n' * lines)
    command = ["link", "--store", run.store.address, "--kb", WORLD, "--in", str(source), "--out", str(out)]
    process = fork_server().Process(target=main, args=(command,))
    process.start()
    while not (out / "finished" / "a.jsonl.json").exists():
        assert process.is_alive(), "it ended too early"
        time.sleep(0.001)
    process.kill()
    process.join()
    assert not (out / "finished" / "c.jsonl.json").exists()
    first = (out / "a.jsonl").stat()
    for target in (out, whole):
        assert link(run, "--in", source, "--out", target) == EXIT_OK
    assert (out / "a.jsonl").stat().st_mtime_ns == first.st_mtime_ns
    for name in "abc":
        assert (out / f"{name}.jsonl").read_bytes() == (whole / f"{name}.jsonl").read_bytes()


def test_mode_decides_which_mentions_are_reranked(
    run: Run, entity: Document, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    text = f"They saw [[{entity.title}]] there ."
    for mode in ("rerank", "retrieve"):
        found = linked_text(run, capsysbinary, "--text", text, "--mode", mode, "--threshold", "precision=0.1")
        (linked,) = found["links"]
        assert {type(candidate["crossencoder"]) for candidate in linked["candidates"]} == {
            float if mode == "rerank" else type(None)
        }
        assert all(0 <= linked[name] <= 1 for name in ("probability", "nil_probability", "softmax"))
        assert found["linked_by"]["mode"] == mode


def test_knowledge_base_has_its_own_calibration(
    run: Run, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    documents = list(world_documents(run.artifact("download", tmp_path), WORLD))
    text = f"They saw [[{documents[0].title}]] there ."
    before = linked_text(run, capsysbinary, "--text", text)
    lines = [
        {"text": f"{entity.title} ran", "mentions": [{"start": 0, "end": len(entity.title), "entity": label}]}
        for entity in documents[:60]
        for label in [None if entity in documents[55:] else entity.document_id]
    ]
    file = tmp_path / "labelled.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert main(["kb", "calibrate", "--store", run.store.address, "--name", WORLD, "--in", str(file)]) == EXIT_OK
    printed = capsysbinary.readouterr().out.decode()
    assert f"{WORLD}: calibrated with 55 mentions that have an entity and 5 that have none" in printed
    assert main(["kb", "show", "--store", run.store.address, "--name", WORLD]) == EXIT_OK
    assert "60 mentions, for the models" in capsysbinary.readouterr().out.decode()
    after = linked_text(run, capsysbinary, "--text", text)
    assert (before["linked_by"]["calibration"], len(after["linked_by"]["calibration"])) == (None, 64)
    assert before["links"][0]["probability"] != after["links"][0]["probability"]
    assert before["links"][0]["candidates"] == after["links"][0]["candidates"]
    file.write_text(json.dumps(lines[0]), encoding="utf-8")
    assert main(["kb", "calibrate", "--store", run.store.address, "--name", WORLD, "--in", str(file)]) == EXIT_DATA
    assert b"at least 50 mentions of entities of the knowledge base; got 1" in capsysbinary.readouterr().out


def test_mentions_may_be_titles(run: Run, entity: Document, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    title = entity.title
    text = f"So {title.upper()} came ."
    assert linked_text(run, capsysbinary, "--text", text, "--mentions", "titles")["links"] == []
    found = linked_text(run, capsysbinary, "--text", text, "--mentions", "titles", "--ignore-case")["links"]
    assert [linked["mention"] for linked in found] == [title.upper()]


def test_candidates_and_precision_are_those_of_the_evaluation(run: Run, tmp_path: Path) -> None:
    usual = link_setup.Linking(run.store.address, None, WORLD, {}, tmp_path).config
    assert (usual.candidates, usual.precision) == (100, "fp32")
    other = {"candidates": "7", "precision": "bf16"}
    given = link_setup.Linking(None, run.address, WORLD, other, tmp_path).config
    assert (given.candidates, given.precision) == (7, "bf16")


def test_added_entity_is_linkable_and_removed_one_is_gone(
    run: Run, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    def kb(action: str, *arguments: str) -> None:
        assert main(["kb", action, "--store", run.store.address, "--name", WORLD, *arguments]) == EXIT_OK
        capsysbinary.readouterr()

    def candidates() -> set[str]:
        (found,) = linked_text(run, capsysbinary, "--text", "They saw [[Zorblax]] .", "--top-k", 1000)["links"]
        return {candidate["id"] for candidate in found["candidates"]}

    before = candidates()
    (tmp_path / "new.csv").write_text("id,title,text\nz1,Zorblax,A robot .\n")
    kb("add", str(tmp_path / "new.csv"), "--format", "csv")
    assert candidates() == before | {"z1"}
    kb("remove", "z1")
    assert candidates() == before


def test_lines_come_back_as_they_were_written(run: Run, tmp_path: Path) -> None:
    lines = [
        '{"z": 1.0e5, "id": 12345678901234567890, "text": "The \\u00e9 [[x]]",  "a":{"b" : [1.50]}}',
        '{"text": "no mention", "meta": "ü"}  ',
        '{"text": "", "mentions": []}',
        '{"context_left": "a", "mention": "b", "context_right": "", "n": -0}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "new" / "out.jsonl")
    assert link(run, "--in", tmp_path / "in.jsonl", "--out", tmp_path / "link.jsonl") == EXIT_OK
    assert (tmp_path / "link.jsonl").is_symlink()
    out = (tmp_path / "new" / "out.jsonl").read_text(encoding="utf-8").splitlines()
    for given, written in zip(lines, out, strict=True):
        assert written.startswith(given.strip()[:-1] + ', "links": ')
    assert [len(json.loads(line)["links"]) for line in out] == [1, 0, 0, 1]


def test_standard_input_and_output(
    run: Run, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = json.dumps({"text": "😀 the sword", "spans": [{"start": 3, "end": 6}]}).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    (linked,) = linked_text(run, capsysbinary, "--in", "-", "--out", "-", "--offsets", "utf16")["links"]
    assert (linked["start"], linked["end"], linked["mention"]) == (3, 6, "the")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert link(run, "--in", "-", "--out", "-") == EXIT_OK
    assert capsysbinary.readouterr().out == b""


def test_files_of_a_folder_are_linked_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "in" / name).write_text('{"text": "the [[sword]]"}\n' * 3)
    folders = "--in", tmp_path / "in", "--out", tmp_path / "out"
    assert link(run, *folders, "--shard", "b.jsonl") == EXIT_OK
    assert not (tmp_path / "out" / "a.jsonl").exists()
    first = (tmp_path / "out" / "b.jsonl").read_bytes()
    assert link(run, *folders) == EXIT_OK
    assert (tmp_path / "out" / "a.jsonl").read_bytes() == first

    def unexpected(self: object) -> None:
        raise AssertionError("nothing is to be linked")

    monkeypatch.setattr(link_setup.Linking, "linker", property(unexpected))
    assert link(run, *folders, "--device", "cpu", "--score-batch-size", 7) == EXIT_OK  # settings that change no result


def test_a_threshold_decides_what_is_linked(run: Run, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    def answer(*arguments: object) -> dict[str, Any]:
        found: dict[str, Any] = linked_text(run, capsysbinary, "--text", "the [[sword]] of", *arguments)["links"][0]
        return found

    everything, nothing = answer("--threshold", 0), answer("--threshold", 1)
    assert not everything["nil"]
    assert everything["id"] == everything["candidates"][0]["id"]
    assert (nothing["nil"], nothing["id"], nothing["title"]) == (True, None, None)
    assert nothing["candidates"] == everything["candidates"]
    assert answer("--nil-share", 0.9)["nil_probability"] > everything["nil_probability"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--text", "a", "--in", "b"], "--text: expected either --text, or --in and --out, got both"),
        ([], "--text: expected either --text, or --in and --out, got neither"),
        (["--in", "b"], "--out: expected a file, a folder, s3://bucket/key or -, got none"),
        (["--in", "s3://b/a.jsonl", "--out", "s3://b/out/"], "--out: expected a folder or prefix/ exactly if --in is"),
        (["--in", "a.jsonl", "--out", "a.jsonl"], "--out: expected another place than --in, got a.jsonl"),
        (["--in", "a.jsonl", "--out", "./a.jsonl"], "--out: expected another place than --in, got ./a.jsonl"),
        (["--in", "-", "--out", "-", "--shard", "a"], "--shard: expected --in with a folder, got none"),
        (["--text", "a", "--plan", "p"], "--plan: expected --in with a folder, got none"),
        (["--in", "a.jsonl", "--out", "b.jsonl", "--plan", "p"], "--plan: expected --in with a folder, got a.jsonl"),
        (["--text", "a", "--models", "abc"], "--models: expected the fingerprint of models in "),
        (["--text", "a", "--models", "abc", "--run", "r/runs/1"], "not allowed with argument"),
        (["--text", "a", "--threshold", "2"], "threshold: expected a number from 0 to 1, such as 0.8, or precision="),
        (["--text", "a", "--threshold", "precision=high"], "threshold: expected a number from 0 to 1"),
        (["--text", "a", "--kb", "k" * 300], "got one of 300 characters, more than 255 bytes"),
        (["--text", "a", "--top-k", "0"], "top_k: "),
        (["--text", "a", "--nil-share", "1"], "nil_share: "),
        (["--text", "a", "--offsets", "bytes"], "offsets: "),
        (["--text", "a", "--mode", "fast"], "mode: Input should be 'rerank', 'cascade' or 'retrieve'"),
        (["--text", "a", "--kb", "unknown"], "unknown"),
    ],
)
def test_wrong_arguments_are_refused(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    given = ["--store", run.store.address, *([] if "--kb" in arguments else ["--kb", WORLD]), *arguments]
    assert problem in refused(capsys, *given)


@pytest.mark.parametrize("source", ["-", "a.jsonl"])
def test_output_does_not_take_the_place_of_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    """Nor of a device: as root, ``--out /dev/null`` would leave the machine without one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    message = refused(capsys, "--store", tmp_path, "--kb", WORLD, "--in", source, "--out", pipe)
    assert f"--out: expected a file to write, got a device or a pipe, {pipe}" in message
    assert pipe.is_fifo()


def test_closed_standard_output_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    message = refused(capsys, "--store", tmp_path, "--kb", WORLD, "--in", "a.jsonl", "--out", "-")
    assert message == "ERROR: --out: expected an open standard output for -, got a closed one\n"


def test_a_cache_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    message = refused(capsys, "--store", tmp_path, "--kb", WORLD, "--text", "a", "--cache", tmp_path / "file")
    assert f"--cache: expected a folder, got {tmp_path / 'file'}" in message


def test_a_plan_names_the_files_and_what_they_are_linked_with(run: Run, entity: Document, tmp_path: Path) -> None:
    """Another champion, promoted in the meantime, does not change what several machines link with."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_text(json.dumps({"text": f"They saw [[{entity.title}]] there ."}) + "\n")
    places = "--in", folder, "--out", f"{tmp_path}/out/"
    assert link(run, *places, "--plan", tmp_path / "plan.json", "--cache", tmp_path / "cache") == EXIT_OK
    assert not (tmp_path / "cache" / "kb").exists(), "no entity is fetched"
    plan = read_plan(store_location(str(tmp_path / "plan.json")))
    assert plan is not None
    assert plan.files == ("a.jsonl", "b.jsonl")
    assert not (tmp_path / "out").exists()

    champions = read_champions(run.store)
    assert champions.champion is not None
    other = champions.champion.model_copy(update={"run": "other", "fusion": None})
    assert champions.promote(other)
    assert link(run, *places, "--models", plan.made_from["models"]) == EXIT_OK
    assert read_champions(run.store).roll_back("a test")
    assert read_champions(run.store).with_models(other.models) == other, "one that was rolled back is still known"
    figures = summarize(*(store_location(str(address)) for address in (folder, tmp_path / "out")), plan).figures
    assert (figures["files"], figures["documents"], figures["mentions"]) == (2, 2, 2)
    assert 0 <= figures["mean_probability"] <= 1


def test_a_plan_for_a_base_of_another_biencoder_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    monkeypatch.setattr(Encoding, "fingerprint", "b" * 64)
    places = "--in", tmp_path, "--out", f"{tmp_path}/out/", "--plan", tmp_path / "plan.json"
    message = refused(capsys, "--store", run.store.address, "--kb", WORLD, *places)
    assert f"got {WORLD}, which bbbbbbbbbbbb has encoded; `zeshel kb refresh` encodes it again" in message
    assert not (tmp_path / "plan.json").exists()


def test_a_wrong_offset_is_refused_with_line_and_field(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\n{"text": "ab", "mentions": [{"start": 1, "end": 9}]}\n')
    given = "--store", run.store.address, "--kb", WORLD, "--in", path, "--out", tmp_path / "out.jsonl"
    message = refused(capsys, *given, code=EXIT_DATA)
    assert "in.jsonl:2: wrong offset (field 'mentions[0].end'); expected at most 2 code points; got 9" in message
    assert not (tmp_path / "out.jsonl").exists()


def test_a_store_without_champion_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "--store", tmp_path, "--kb", WORLD, "--text", "a")
    assert "--store: expected a store with a champion, got none" in message
    assert open_store(str(tmp_path)).get("models/champion.json") is None
    message = refused(capsys, "--kb", WORLD, "--text", "a")
    assert message == "ERROR: --store: expected the store of the knowledge base, or --run, got neither\n"


@pytest.mark.parametrize("command", [["link", "--text", "the [[sword]]"], ["serve"]])
def test_a_mistyped_knowledge_base_or_store_is_noticed_before_torch_is_imported(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    given = [[run.store.address, "unknown"], [str(tmp_path), WORLD]]
    program = f"""
import sys
from zeshel_tasks.cli import main
codes = [main([*{command}, "--store", store, "--kb", name]) for store, name in {given}]
print(codes, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"[{EXIT_CONFIG}, {EXIT_CONFIG}] False"


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    candidate = {"id": "7", "title": "Bat\x1b[2J", "url": None}
    rates = {"probability": 0.934, "nil_probability": 0.02, "candidates": [candidate]}
    print_links([{"mention": "bat", **candidate, "nil": False, **rates}])
    print_links([{"mention": "cat", **dict.fromkeys(candidate), "nil": True, **rates, "probability": None}])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    for part in ("bat", r"Bat\x1b[2J", "7", "93.4%", "2.0%", "NIL", "–"):
        assert part in shown
