"""The files that a hub model's name stands for, and how they are fetched, from a hub that may misbehave."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from huggingface_hub import try_to_load_from_cache

from tests.download.file_server import FileServer, cut, garbage, hang_up, page, redirect, running, status, text
from tests.download.hub_server import FILES, NAME, READ, HubServer, fill, hash_of, model
from tests.support.faults import Fault
from zeshel_tasks.download.hub import cached, snapshot_of
from zeshel_tasks.download.hub_snapshot import Snapshot
from zeshel_tasks.download.model_files import bert_description, bert_directory
from zeshel_tasks.errors import ConfigError, StoreUnavailable, ZeshelError
from zeshel_tasks.store import LocalStore

SNAPSHOT = Snapshot(commit="a" * 40, files={name: hash_of(name, FILES[name]) for name in READ})
ENDPOINT = "an address like https://host, without spaces or '?'"
Answer = Callable[[BaseHTTPRequestHandler], None]


def test_snapshot_lists_files_that_are_read(hub: HubServer, store: LocalStore) -> None:
    found = snapshot_of(model(), store)
    assert found == SNAPSHOT
    lines = "\n".join(f"{name} {of}" for name, of in SNAPSHOT.files.items())
    assert found.identity == f"hub:{hashlib.sha256(lines.encode()).hexdigest()}"


@pytest.mark.parametrize("name", ["README.md", "onnx/model.onnx", "pytorch_model.bin", "flax_model.msgpack"])
def test_commit_that_changes_no_file_that_is_read_keeps_identity(hub: HubServer, store: LocalStore, name: str) -> None:
    before = snapshot_of(model(), store)
    hub.files[name] = b"edited"
    hub.commits["main"] = "c" * 40
    after = snapshot_of(model(), store)
    assert (after.commit, after.identity) == ("c" * 40, before.identity)


@pytest.mark.parametrize("name", [*READ, "tokenizer.json", "special_tokens_map.json"])
def test_commit_that_changes_a_file_that_is_read_changes_identity(hub: HubServer, store: LocalStore, name: str) -> None:
    before = snapshot_of(model(), store)
    hub.files[name] = b"edited"
    hub.commits["main"] = "c" * 40
    assert snapshot_of(model(), store).identity != before.identity


def test_revision_may_be_tag_or_pull_request(hub: HubServer, store: LocalStore) -> None:
    hub.commits["refs/pr/1"] = "d" * 40
    assert snapshot_of(model(f"{NAME}@v1"), store).commit == "b" * 40
    assert snapshot_of(model(f"{NAME}@refs/pr/1"), store).commit == "d" * 40


def test_hub_is_asked_once_about_a_commit(hub: HubServer, store: LocalStore) -> None:
    pinned = model(f"{NAME}@{'a' * 40}")
    assert snapshot_of(pinned, store) == snapshot_of(pinned, store) == SNAPSHOT
    assert len(hub.requests) == 1


def unreachable(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")


def offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def failing(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.script = [status(503)]


def without_commit(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.script = [text('{"sha": "not a commit", "siblings": []}')]


def without_rights(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.script = [status(401)]


SILENCES = [unreachable, failing, without_commit]
Silence = Callable[[HubServer, pytest.MonkeyPatch], None]


@pytest.mark.parametrize("silence", [*SILENCES, without_rights])
def test_last_known_files_are_assumed_without_hub(
    hub: HubServer,
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    silence: Silence,
) -> None:
    before = snapshot_of(model(), store)
    silence(hub, monkeypatch)
    assert snapshot_of(model(), store) == before
    assert f"assuming commit {'a' * 40}, which {NAME} was before" in caplog.text


def test_last_known_files_are_assumed_offline(
    hub: HubServer, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot_of(model(), store)
    offline(hub, monkeypatch)
    assert snapshot_of(model(), store) == before


@pytest.mark.parametrize("silence", SILENCES)
def test_unknown_model_without_hub_is_unavailable(
    hub: HubServer, store: LocalStore, monkeypatch: pytest.MonkeyPatch, silence: Silence
) -> None:
    silence(hub, monkeypatch)
    with pytest.raises(StoreUnavailable, match=f"^bert_model: '{NAME}': "):
        snapshot_of(model(), store)


def test_local_cache_wins_over_other_runs_without_hub(
    hub: HubServer, store: LocalStore, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot_of(model(), store)
    fill(cache, {name: FILES[name] for name in READ} | {"vocab.txt": b"another"})
    unreachable(hub, monkeypatch)
    found = snapshot_of(model(), store)
    assert found.files == SNAPSHOT.files | {"vocab.txt": hash_of("vocab.txt", b"another")}


@pytest.mark.parametrize("links", [True, False])
def test_cached_model_is_used_offline(
    hub: HubServer, store: LocalStore, cache: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    fill(cache, {name: FILES[name] for name in READ}, links=links)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = snapshot_of(model(), store)
    assert found.identity == SNAPSHOT.identity
    assert cached(model(), found) == cache / "snapshots" / ("f" * 40)
    assert hub.requests == []


INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
SHARDS = {"model.safetensors.index.json": INDEX.encode(), "model-00001-of-00002.safetensors": b"first"}


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ({}, "config.json, model.safetensors, tokenizer.json"),
        ({"model.safetensors": b"x", "vocab.txt": b"x"}, "config.json"),
        ({"config.json": b"{}", "vocab.txt": b"x"}, "model.safetensors"),
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "tokenizer.json"),
        ({"config.json": b"{}", "vocab.txt": b"x", **SHARDS}, "model-00002-of-00002.safetensors"),
    ],
)
@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_file_missing_offline_is_a_config_error(
    hub: HubServer,
    store: LocalStore,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, bytes],
    missing: str,
    variable: str,
) -> None:
    fill(cache, files)
    monkeypatch.setenv(variable, "1")
    expected = (
        f"^bert_model: '{NAME}': expected {missing} in the cache {cache}, because HF_HUB_OFFLINE is set, got none$"
    )
    with pytest.raises(ConfigError, match=expected):
        snapshot_of(model(), store)


def test_model_known_from_other_runs_but_not_cached_is_a_config_error_offline(
    hub: HubServer, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = snapshot_of(model(), store)
    offline(hub, monkeypatch)
    with pytest.raises(ConfigError, match=f"expected {', '.join(READ)} in the cache .*, got none, or damaged ones$"):
        cached(model(), found)


def test_model_missing_on_hub_is_a_config_error(hub: HubServer, store: LocalStore) -> None:
    expected = "bert_model: 'me/nothing': expected a model on the hub, got the server's answer 404 Not Found"
    with pytest.raises(ConfigError, match=f"^{expected}$"):
        snapshot_of(model("me/nothing"), store)
    with pytest.raises(ConfigError, match="404 Not Found"):
        snapshot_of(model(f"{NAME}@no-such-tag"), store)


@pytest.mark.parametrize("code", [401, 403, 404])
def test_hubs_reason_for_a_refusal_is_shown(hub: HubServer, store: LocalStore, code: int, fault: Fault) -> None:
    reason = "Access to model me/bert is restricted. Visit https://hub.test/me/bert to ask for access."
    hub.script = [status(code, X_Error_Code="GatedRepo", X_Error_Message=reason)]
    with pytest.raises(ConfigError, match=rf"got the server's answer {code} [\w ]+: {reason}$"):
        snapshot_of(model(), store)
    fault("download: the hub misbehaves")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_repository_without_a_model_is_a_config_error(hub: HubServer, store: LocalStore, name: str) -> None:
    del hub.files[name], hub.files["pytorch_model.bin"]
    with pytest.raises(
        ConfigError, match=r"expected a model with config\.json and model\.safetensors or .*, got .*vocab"
    ):
        snapshot_of(model(), store)


def test_repository_with_an_adapter_is_a_config_error(hub: HubServer, store: LocalStore) -> None:
    hub.files["adapter_config.json"] = b"{}"
    with pytest.raises(ConfigError, match=f"{NAME}.*: expected a model whose adapter is merged into its weights"):
        snapshot_of(model(), store)


def test_description_of_a_model_is_downloaded_without_weights(
    hub: HubServer, store: LocalStore, tmp_path: Path
) -> None:
    folder = bert_description(model(), tmp_path, store)
    assert {path.name for path in folder.iterdir()} == {*READ} - {"model.safetensors"}
    assert bert_directory(model(), tmp_path, store) == folder
    assert {path.name for path in folder.iterdir()} == {*READ}


@pytest.mark.parametrize("place", ["environment", "file"])
def test_token_is_sent(
    hub: HubServer, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "environment":
        monkeypatch.setenv("HF_TOKEN", "hf_token\n")
    else:
        (tmp_path / "huggingface").mkdir()
        (tmp_path / "huggingface" / "token").write_text("hf_token\n")
    cached(model(), snapshot_of(model(), store))
    assert {request.headers["Authorization"] for request in hub.requests} == {"Bearer hf_token"}


def test_token_is_not_sent_to_the_server_that_keeps_the_weights(
    hub: HubServer, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    found = snapshot_of(model(), store)
    with running(FileServer(FILES["model.safetensors"])) as other:
        hub.script = [None, redirect(f"{other.address}/weights")]
        cached(model(), found)
        assert [request.headers["Authorization"] for request in other.requests] == [None]


def test_files_are_cached_as_huggingface_hub_does(hub: HubServer, store: LocalStore, cache: Path) -> None:
    folder = cached(model(), snapshot_of(model(), store))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: FILES[name] for name in READ}
    for name in READ:
        assert try_to_load_from_cache(NAME, name, cache_dir=cache.parent) == str(folder / name)
        assert (folder / name).readlink() == Path("..", "..", "blobs", hash_of(name, FILES[name]))


def test_only_changed_files_are_downloaded_again(hub: HubServer, store: LocalStore) -> None:
    cached(model(), snapshot_of(model(), store))
    hub.files["vocab.txt"] = b"edited"
    hub.commits["main"] = "c" * 40
    hub.requests.clear()
    folder = cached(model(), snapshot_of(model(), store))
    assert [request.path for request in hub.requests][1:] == [f"/{NAME}/resolve/{'c' * 40}/vocab.txt"]
    assert (folder / "vocab.txt").read_bytes() == b"edited"
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_download_that_breaks_off_resumes(hub: HubServer, store: LocalStore, fault: Fault) -> None:
    found = snapshot_of(model(), store)
    hub.script = [None, lambda handler: hub.serve(handler, cut_after=5000)]
    folder = cached(model(), found)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert [request.headers["Range"] for request in hub.requests[-4:]] == [None, "bytes=5000-", None, None]
    fault("download: the hub breaks off once")


MISBEHAVIOUR: dict[str, tuple[Answer, type[ZeshelError]]] = {
    "401": (status(401), ConfigError),
    "403": (status(403), ConfigError),
    "407": (status(407), ConfigError),
    "429": (status(429), StoreUnavailable),
    "502": (status(502), StoreUnavailable),
    "closed": (hang_up, StoreUnavailable),
    "cut": (cut, StoreUnavailable),
    "garbage": (garbage, StoreUnavailable),
    "another content": (text("[1, 2]"), StoreUnavailable),
    "a web page": (page("<html><title>Sign in</title></html>"), StoreUnavailable),
    "a web page, 403": (page("<html><title>Forbidden</title></html>", 403), ConfigError),
    "a redirect to itself": (redirect("/again"), ConfigError),
    "a redirect to half an address": (redirect("http://[::1/x"), StoreUnavailable),
    "a redirect to ftp": (redirect("ftp://host/x"), ConfigError),
}


@pytest.mark.parametrize(("answer", "kind"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
@pytest.mark.parametrize("path", ["question", "download"])
def test_hub_that_misbehaves_is_named_in_one_line(
    hub: HubServer,
    store: LocalStore,
    cache: Path,
    answer: Answer,
    kind: type[ZeshelError],
    path: str,
    fault: Fault,
) -> None:
    found = SNAPSHOT if path == "question" else snapshot_of(model(), store)
    hub.script = [answer] * 100
    with pytest.raises(kind, match=r"^bert_model: .*\Z") as error:
        snapshot_of(model(), store) if path == "question" else cached(model(), found)
    assert type(error.value) is kind
    assert list(cache.rglob("*.scratch")) == []
    hub.script = []
    assert (cached(model(), found) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    fault("download: the hub misbehaves")


@pytest.mark.parametrize("answer", ["null", "[]", "{}", '{"sha": 7}', "[" * 100_000, '{"sha": "' + "a" * 40 + '"}'])
def test_answer_that_lists_no_files_is_not_believed(hub: HubServer, store: LocalStore, answer: str) -> None:
    hub.script = [text(answer)]
    with pytest.raises(StoreUnavailable, match=f"^bert_model: '{NAME}': expected a list of files from the hub, got "):
        snapshot_of(model(), store)


@pytest.mark.parametrize(
    ("code", "kind"), [(403, ConfigError), (407, ConfigError), (502, StoreUnavailable), (504, StoreUnavailable)]
)
def test_answer_of_a_proxy_instead_of_the_hub_is_named(
    hub: HubServer,
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    kind: type[ZeshelError],
    fault: Fault,
) -> None:
    with running(FileServer(b"")) as proxy:
        proxy.script = [status(code)] * 10
        monkeypatch.setenv("HF_ENDPOINT", "https://hub.test")
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        with pytest.raises(kind, match=f"^bert_model: '{NAME}': .*proxy.* {code} "):
            snapshot_of(model(), store)
        with pytest.raises(kind, match=f"^bert_model: '{NAME}': .*proxy.* {code} "):
            cached(model(), SNAPSHOT)
    fault("download: the hub misbehaves", 2)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1", "a proxy like http://proxy:3128, got 'socks5://127.0.0.1:1'"),
        ("https_proxy", "ftp://127.0.0.1:1", "a proxy like http://proxy:3128, got 'ftp://127.0.0.1:1'"),
        ("HTTP_PROXY", "http://127.0.0.1:99999", "a proxy like http://proxy:3128, got 'http://127.0.0.1:99999'"),
        ("HF_ENDPOINT", "127.0.0.1:1", f"{ENDPOINT}, got '127.0.0.1:1'"),
        ("HF_ENDPOINT", "http://127.0.0.1:99999", f"{ENDPOINT}, got 'http://127.0.0.1:99999'"),
        ("HF_ENDPOINT", "ftp://127.0.0.1", f"{ENDPOINT}, got 'ftp://127.0.0.1'"),
        ("HF_ENDPOINT", "http://127.0.0.1?a=b", f"{ENDPOINT}, got 'http://127.0.0.1?***'"),
        ("HF_ENDPOINT", "http://127.0.0.1\n", rf"{ENDPOINT}, got 'http://127.0.0.1\n'"),
        ("HF_HUB_ETAG_TIMEOUT", "ten", "a whole number of seconds, got 'ten'"),
        ("HF_HUB_ETAG_TIMEOUT", "-1", "a whole number of seconds, got '-1'"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "1.5", "a whole number of seconds, got '1.5'"),
        ("HF_TOKEN", "two words", "a token of ASCII characters without spaces, got another text"),
        ("SSL_CERT_FILE", "/no/such/file", ""),
    ],
)
def test_wrong_variable_is_named_even_if_the_files_are_known(
    hub: HubServer,
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    expected: str,
    fault: Fault,
) -> None:
    found = snapshot_of(model(), store)
    monkeypatch.setenv(variable, value)
    match = f"^{variable}: expected {re.escape(expected)}$" if expected else "^SSL_CERT_FILE, "
    if variable != "HF_HUB_DOWNLOAD_TIMEOUT":
        with pytest.raises(ConfigError, match=match):
            snapshot_of(model(), store)
    if variable != "HF_HUB_ETAG_TIMEOUT":
        with pytest.raises(ConfigError, match=match):
            cached(model(), found)
    fault("download: a wrong variable of the environment")
