"""The commit that identifies a model on the hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.download.file_server import status
from tests.download.hub_server import NAME, HubServer, running_hub
from zeshel_tasks.download.hub import at_identity, hub_identity
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.location import HubModel, model_location
from zeshel_tasks.store import LocalStore


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    with running_hub({}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def model(name: str) -> HubModel:
    location = model_location(name)
    assert isinstance(location, HubModel)
    return location


def test_model_name_resolves_to_commit_of_main(hub: HubServer, store: LocalStore) -> None:
    identity = hub_identity(model(NAME), store)
    assert identity == f"hub:{NAME}@{'a' * 40}"
    assert at_identity(model(NAME), identity) == HubModel(NAME, NAME, "a" * 40)
    hub.commits["main"] = "c" * 40
    assert hub_identity(model(NAME), store) == f"hub:{NAME}@{'c' * 40}"


def test_revision_may_be_tag_or_pull_request(hub: HubServer, store: LocalStore) -> None:
    hub.commits["refs/pr/1"] = "d" * 40
    assert hub_identity(model(f"{NAME}@v1"), store) == f"hub:{NAME}@{'b' * 40}"
    assert hub_identity(model(f"{NAME}@refs/pr/1"), store) == f"hub:{NAME}@{'d' * 40}"


def test_commit_hash_needs_no_request(hub: HubServer, store: LocalStore) -> None:
    assert hub_identity(model(f"{NAME}@{'e' * 40}"), store) == f"hub:{NAME}@{'e' * 40}"
    assert hub.requests == []


def unreachable(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")


def offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def failing(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.script = [status(503)]


def without_commit(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commits["main"] = "not a commit"


def without_rights(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.script = [status(401)]


SILENCES = [unreachable, offline, failing, without_commit]


@pytest.mark.parametrize("silence", [*SILENCES, without_rights])
def test_last_known_commit_is_assumed_without_hub(
    hub: HubServer,
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    silence: object,
) -> None:
    assert callable(silence)
    before = hub_identity(model(NAME), store)
    silence(hub, monkeypatch)
    assert hub_identity(model(NAME), store) == before
    assert f"assuming commit {'a' * 40}, which {NAME} was before" in caplog.text


@pytest.mark.parametrize("silence", SILENCES)
def test_unknown_model_without_hub_is_unavailable(
    hub: HubServer, store: LocalStore, monkeypatch: pytest.MonkeyPatch, silence: object
) -> None:
    assert callable(silence)
    silence(hub, monkeypatch)
    with pytest.raises(StoreUnavailable, match=f"^bert_model: '{NAME}': "):
        hub_identity(model(NAME), store)


def test_local_cache_wins_over_other_runs_without_hub(
    hub: HubServer, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_identity(model(NAME), store)
    reference = tmp_path / "huggingface" / "hub" / "models--me--bert" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text("f" * 40)
    unreachable(hub, monkeypatch)
    assert hub_identity(model(NAME), store) == f"hub:{NAME}@{'f' * 40}"


def test_model_missing_on_hub_is_a_config_error(hub: HubServer, store: LocalStore) -> None:
    expected = "bert_model: expected a model on the hub, got 'me/nothing': the hub answered 404 Not Found"
    with pytest.raises(ConfigError, match=f"^{expected}$"):
        hub_identity(model("me/nothing"), store)
    with pytest.raises(ConfigError, match="the hub answered 404 Not Found"):
        hub_identity(model(f"{NAME}@no-such-tag"), store)


@pytest.mark.parametrize("place", ["environment", "file"])
def test_token_is_sent(
    hub: HubServer, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "environment":
        monkeypatch.setenv("HF_TOKEN", "hf_token")
    else:
        (tmp_path / "huggingface").mkdir()
        (tmp_path / "huggingface" / "token").write_text("hf_token\n")
    hub_identity(model(NAME), store)
    assert [request.headers["Authorization"] for request in hub.requests] == ["Bearer hf_token"]
