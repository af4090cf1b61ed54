"""zeshel kb: what its subcommands print, and what they refuse."""

from pathlib import Path

import pytest

from tests.knowledge_base.conftest import Promote, entity
from tests.store.wrapped import AgedStore
from zeshel_tasks.cli import main
from zeshel_tasks.data.zeshel import document_line
from zeshel_tasks.errors import (
    EXIT_CONFIG,
    EXIT_DATA,
    EXIT_OK,
    EXIT_TRY_AGAIN,
    ConfigError,
    DataError,
    TryAgain,
    ZeshelError,
)
from zeshel_tasks.knowledge_base.changes import Changed
from zeshel_tasks.knowledge_base.head import KnowledgeBase
from zeshel_tasks.store import Store, open_store


def documents_file(folder: Path, *numbers: int, text: str = "") -> str:
    path = folder / f"documents-{len(list(folder.iterdir()))}.json"
    path.write_bytes(b"".join(document_line(entity(number, text)) for number in numbers))
    return str(path)


@pytest.fixture
def address(store: AgedStore) -> str:
    return store.address


def test_life_of_a_knowledge_base(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def kb(action: str, *arguments: str) -> str:
        assert main(["kb", action, "--store", address, *arguments]) == 0
        return capsys.readouterr().out

    one, other = documents_file(tmp_path, 0, 1, 2), documents_file(tmp_path, 3)
    of_base = ("--name", "beasts")
    assert kb("build", one, other, *of_base) == "beasts: 4 entities (4 added, 4 encoded)\n"
    table = tmp_path / "more.csv"
    table.write_text("id,title,text\nid3,Beast,new\nid4,Beast,\n")
    assert kb("add", str(table), "--format", "csv", "--template", "{title}", *of_base) == (
        "beasts: 5 entities (1 added, 1 changed, 2 encoded)\n"
    )
    ids = tmp_path / "ids"
    ids.write_bytes(b"id1\r\nid2")
    assert kb("remove", "id0", "--file", str(ids), *of_base) == "beasts: 2 entities (3 removed, 0 encoded)\n"
    assert "beasts" in kb("list")
    shown = kb("show", *of_base)
    assert "entities      2\n" in shown
    assert "removes 3" in shown
    assert '"entities": 2' in kb("show", "--json", *of_base)
    assert kb("compact", *of_base) == "beasts: 2 entities (nothing added or removed, 0 encoded)\n"
    assert kb("refresh", *of_base) == "beasts: 2 entities (nothing added or removed, 0 encoded)\n"
    assert kb("refresh", "--all") == "beasts: 2 entities (nothing added or removed, 0 encoded)\n"
    assert "beasts: deleted; " in kb("delete", *of_base)
    for action in (["list"], ["refresh", "--all"]):
        assert kb(*action).startswith("no knowledge bases in ")


def test_refresh_of_all_bases_does_the_others_beside_a_broken_one(
    address: str, store: AgedStore, promote: Promote, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("beasts", "cats"):
        assert main(["kb", "build", "--store", address, "--name", name, documents_file(tmp_path, 0)]) == EXIT_OK
    open_store(address).put("kb/ants/head.json", b"{")
    promote(store, "b" * 64)
    capsys.readouterr()
    assert main(["kb", "refresh", "--store", address, "--all"]) == EXIT_DATA
    out = capsys.readouterr().out
    assert "beasts: 1 entities (nothing added or removed, 1 encoded)\ncats: 1 entities" in out.replace("INFO: ", "")
    assert "ants" in out
    for name in ("beasts", "cats"):
        assert KnowledgeBase.read(store, name).head.encoding.fingerprint == "b" * 64


def test_refresh_of_all_bases_leaves_out_one_that_is_deleted_in_the_meantime(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kb", "build", "--store", address, "--name", "beasts", documents_file(tmp_path, 0)]) == EXIT_OK
    monkeypatch.setattr("zeshel_tasks.knowledge_base.head.names", lambda _: iter(["ants", "beasts"]))
    capsys.readouterr()
    assert main(["kb", "refresh", "--store", address, "--all"]) == EXIT_OK
    out = capsys.readouterr().out
    assert "ants: deleted in the meantime" in out
    assert "beasts: 1 entities" in out


@pytest.mark.parametrize(
    ("problems", "code"),
    [
        ({"ants": DataError("broken"), "beasts": TryAgain("busy"), "cats": ConfigError("wrong")}, EXIT_TRY_AGAIN),
        ({"ants": DataError("broken"), "cats": ConfigError("wrong")}, EXIT_DATA),
        ({"cats": ConfigError("wrong")}, EXIT_CONFIG),
    ],
)
def test_refresh_of_all_bases_can_be_tried_again_if_that_helps_one(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problems: dict[str, ZeshelError], code: int
) -> None:
    def refresh(_: Store, name: str, *arguments: object, **options: object) -> Changed:
        if name in problems:
            raise problems[name]
        return Changed(entities=1)

    assert main(["kb", "build", "--store", address, "--name", "beasts", documents_file(tmp_path, 0)]) == EXIT_OK
    head = Path(address, "kb/beasts/head.json").read_bytes()
    for name in ("ants", "cats"):
        open_store(address).put(f"kb/{name}/head.json", head)
    monkeypatch.setattr("zeshel_tasks.knowledge_base.changes.refresh", refresh)
    assert main(["kb", "refresh", "--store", address, "--all"]) == code


def test_list_shows_the_others_beside_a_broken_base(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kb", "build", "--store", address, "--name", "beasts", documents_file(tmp_path, 0)]) == EXIT_OK
    open_store(address).put("kb/ants/head.json", b"{")
    capsys.readouterr()
    assert main(["kb", "list", "--store", address]) == EXIT_DATA
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines() if "ants " in line or "beasts " in line] == [
        ["ants", "broken"],
        ["beasts", "1"],
    ]
    assert "ants/head.json" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build", "IN", "--name", "a/b"], 2, "knowledge base: expected a name that can be a folder"),
        (["build", "nothing.json", "--name", "x"], 3, "nothing.json: no file at this address"),
        (["build", "IN", "--name", "x", "--run", "elsewhere/runs/r"], 2, "--run: expected a run of the store"),
        (["build", "IN", "--name", "x", "--run", "STORE/runs/r"], 2, "expected a finished stage train-biencoder"),
        (["build", "IN", "--name", "x", "--encode_batch_size", "0"], 2, "encode_batch_size"),
        (["build", "IN", "IN", "--name", "x"], 3, "duplicate (field 'document_id')"),
        (["add", "IN", "--name", "x"], 2, "expected a knowledge base of"),
        (["remove", "--name", "x"], 2, "expected ids of entities, or --file"),
        (["remove", "--file", "nothing", "--name", "x"], 2, "--file: expected a file with an id on each line"),
        (["show", "--name", "x"], 2, "none; make one with `zeshel kb build`"),
        (["refresh", "--name", "x"], 2, "expected a knowledge base of"),
        (["delete", "--name", "x"], 2, "expected a knowledge base of"),
    ],
)
def test_wrong_arguments_are_refused(
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    documents = documents_file(tmp_path, 0)
    words = [documents if word == "IN" else word.replace("STORE", address) for word in arguments]
    assert main(["kb", words[0], "--store", address, *words[1:]]) == code
    assert message in capsys.readouterr().out
