"""A push makes a repository on the hub and one commit, and can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.utils._http as hub_http
import pytest

from tests.export.push_server import TOKEN, PushServer, running_push_server
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.export.hub import Target

# huggingface_hub calls its HTTP client in a way that is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

MARKER = "export.json"
FILES = {"README.md": b"---\nlicense: mit\n---\n# Card", MARKER: b"{}", "a/model.safetensors": bytes(2000), "a/x": b""}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PushServer]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # a protocol that the server lacks
    monkeypatch.setattr(hub_http.time, "sleep", lambda _: None)  # between its tries
    with running_push_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "export" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "export" / name).write_bytes(content)
    return tmp_path / "export"


def push(folder: Path, name: str = "me/linker", *, public: bool = False) -> str:
    return Target(name, MARKER).push(folder, public=public, message="Models")


def of_export(hub: PushServer) -> dict[str, bytes]:
    return {name: data for name, data in hub.repositories["me/linker"].items() if name != ".gitattributes"}


def test_push_makes_a_private_repository_with_one_commit(hub: PushServer, folder: Path) -> None:
    assert push(folder) == f"{hub.address}/me/linker"
    assert of_export(hub) == FILES
    assert hub.visible == {"me/linker": "private"}
    assert hub.commits == ["Models"]


def test_public_repository_is_asked_for(hub: PushServer, folder: Path) -> None:
    push(folder, public=True)
    assert hub.visible == {"me/linker": "public"}


def test_second_push_of_the_same_files_changes_nothing(hub: PushServer, folder: Path) -> None:
    push(folder)
    push(folder)
    assert of_export(hub) == FILES
    assert hub.commits == ["Models"]


def test_later_export_replaces_the_files_of_an_earlier_one(hub: PushServer, folder: Path) -> None:
    push(folder)
    (folder / "a" / "x").unlink()
    (folder / "b").write_bytes(b"new")
    push(folder)
    assert of_export(hub) == {name: data for name, data in FILES.items() if name != "a/x"} | {"b": b"new"}


@pytest.mark.parametrize("at", ["/create", "/tree/", "/preupload/", "/objects/batch", "/large/", "/commit/"])
def test_push_that_the_hub_failed_leaves_nothing_and_can_be_repeated(hub: PushServer, folder: Path, at: str) -> None:
    hub.failures[at] = [500] * 8
    with pytest.raises(StoreUnavailable, match="me/linker"):
        push(folder)
    assert not hub.commits
    hub.failures.clear()
    push(folder)
    assert of_export(hub) == FILES


@pytest.mark.parametrize("at", ["/preupload/", "/objects/batch", "/large/", "/commit/"])
def test_push_that_is_refused_half_way_is_not_repeated(hub: PushServer, folder: Path, at: str) -> None:
    hub.failures[at] = [403]
    with pytest.raises(ConfigError, match="the hub answered 403"):
        push(folder)
    assert not hub.commits


def test_hub_that_does_not_answer_is_tried_again_later(
    hub: PushServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match="no answer from the hub"):
        push(folder)


def test_wrong_token_is_named(hub: PushServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_revoked")
    with pytest.raises(ConfigError, match="expected a valid token in HF_TOKEN, the hub answered 401: Invalid username"):
        push(folder)


def test_token_may_be_in_its_file(
    hub: PushServer, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_text(f"{TOKEN}\n")
    push(folder)
    assert hub.commits


def test_owner_of_somebody_else_is_refused(hub: PushServer, folder: Path) -> None:
    with pytest.raises(ConfigError, match="expected an owner and a token that may write there, the hub answered 403"):
        push(folder, "somebody/linker")


def test_name_of_somebody_elses_export_is_refused(hub: PushServer, folder: Path) -> None:
    hub.repositories["somebody/linker"] = {MARKER: b"{}"}
    with pytest.raises(ConfigError, match="may write there, the hub answered 403"):
        push(folder, "somebody/linker")
    assert hub.repositories["somebody/linker"] == {MARKER: b"{}"}


def test_name_of_another_model_is_refused(hub: PushServer, folder: Path) -> None:
    hub.repositories["me/linker"] = {".gitattributes": b"", "config.json": b"mine"}
    with pytest.raises(ConfigError, match="an earlier export, got me/linker with 1 other files, such as config"):
        push(folder)
    assert of_export(hub) == {"config.json": b"mine"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda environment: environment.delenv("HF_TOKEN"), "expected a token in HF_TOKEN or in the file"),
        (lambda environment: environment.setenv("HF_HUB_OFFLINE", "1"), "expected a connection to the hub"),
        (lambda environment: environment.setenv("HF_ENDPOINT", "hub.example"), "HF_ENDPOINT: expected an address"),
    ],
)
def test_wrong_environment_is_noticed_before_anything_is_exported(
    hub: PushServer, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None], said: str
) -> None:
    change(monkeypatch)
    with pytest.raises(ConfigError, match=said):
        Target("me/linker", MARKER)
    assert not hub.requests
