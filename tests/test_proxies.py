"""The environment's proxies, which all HTTP clients read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zeshel_tasks.commands.tracking import track_run
from zeshel_tasks.download.http_client import http_client
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.proxies import check_proxies, proxy_for
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


@pytest.mark.parametrize(
    ("no_proxy", "direct", "by_proxy"),
    [
        ("example.com", ["example.com", "a.example.com", "EXAMPLE.com"], ["notexample.com", "com"]),
        (".example.com", ["example.com", "a.example.com"], ["notexample.com"]),
        ("*.example.com", ["a.example.com"], ["notexample.com"]),
        ("localhost,127.0.0.1", ["localhost", "127.0.0.1"], ["127.0.0.2", "local"]),
        ("10.0.0.0/8, fd00::/8", ["10.1.2.3", "fd12::1"], ["11.0.0.1", "fe80::1", "example.com"]),
        ("::1,[::2]", ["::1", "::2"], ["::3"]),
        ("example.com:80,[::1]:80", ["example.com", "::1"], []),
        ("example.com:8080,[::1]:8080", [], ["example.com", "::1"]),
        ("http://example.com", ["example.com"], []),
        ("a b,foo:bar,[,],:,/,*.,.,ä.example,10.0.0.0/99", [], ["example.com", "10.0.0.1", "::1"]),
        ("x,*", ["anything.example"], []),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, no_proxy: str, direct: list[str], by_proxy: list[str]) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("no_proxy", no_proxy)
    monkeypatch.setenv("all_proxy", "proxy:3128")
    assert {host: proxy_for("http", host, None) for host in direct} == dict.fromkeys(direct)
    assert {host: proxy_for("http", host, None) for host in by_proxy} == dict.fromkeys(by_proxy, "http://proxy:3128")


def test_own_proxy_of_a_scheme_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://https:1")
    monkeypatch.setenv("no_proxy", "")
    assert proxy_for("https", "example.com", 443) == "http://https:1"
    assert proxy_for("http", "example.com", 80) == "http://all:1"


@pytest.mark.parametrize(("no_proxy", "proxies"), [("10.0.0.0/8,fd00::/8", {}), ("11.0.0.0/8", None)])
def test_s3_honours_networks_in_no_proxy(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, proxies: dict[str, str] | None
) -> None:
    for name, value in {"ENDPOINT_URL": "http://10.1.2.3:9000", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    s3_client.cache_clear()
    client: Any = s3_client()
    assert client.meta.config.proxies == proxies
    s3_client.cache_clear()
