"""The environment's proxies, which all HTTP clients read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zeshel_tasks.commands.tracking import track_run
from zeshel_tasks.download.http_source import http_client
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.proxies import check_proxies
from zeshel_tasks.store import open_store
from zeshel_tasks.store.s3_client import s3_client

VARIABLES = [f"{kind}_proxy" for kind in ("http", "https", "all")]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)


@pytest.mark.parametrize(
    "value", ["", "http://proxy:3128", "https://proxy", "proxy:3128", "user:word@proxy", "HTTP://[::1]:3128/"]
)
def test_proxy_is_accepted(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, value)
    check_proxies()
    http_client(1).close()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("socks5://proxy:1080", "'socks5://proxy:1080'"),
        ("ftp://user:canary@proxy", "'ftp://***@proxy'"),
        ("http://", "'http://'"),
        ("proxy:99999", "'http://proxy:99999'"),
        ("user:canary@proxy:99999", "'http://***@proxy:99999'"),
        ("http://proxy:0", "'http://proxy:0'"),
        ("http://[::1", "'http://***'"),
        ("http://user:canary@proxy\n", r"'http://***@proxy\n'"),
        ("http://pro xy", "'http://pro xy'"),
    ],
)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_wrong_proxy_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, shown: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        check_proxies()
    assert str(error.value) == f"{variable}: expected a proxy like http://proxy:3128, got {shown}"


def test_lower_case_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://proxy")
    monkeypatch.setenv("http_proxy", "http://proxy")
    check_proxies()


def ask_s3() -> object:
    s3_client.cache_clear()
    return open_store("s3://bucket/store").get("key")


@pytest.mark.parametrize("ask", [lambda: http_client(1), ask_s3, lambda: track_run("runs/r")])
def test_every_client_names_a_wrong_proxy(monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object]) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"^HTTPS_PROXY: "):
        ask()
