"""A hostile download server cannot redirect to other networks, block a stage forever, fill its memory or crash it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.download.file_server import FileServer, page, redirect, running, send, status
from tests.support.faults import Fault
from zeshel_tasks.config.data import ZESHEL_ON_GOOGLE_DRIVE, DownloadConfig
from zeshel_tasks.download import networks
from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.download.fetch import fetch, source_identity
from zeshel_tasks.download.networks import Hops, network_of
from zeshel_tasks.download.transfer import Fetched, Retry
from zeshel_tasks.errors import ConfigError, DataError, StoreUnavailable, ZeshelError

CONTENT = b"BZh9" + bytes(range(256)) * 1000
AT_ONCE = Retry(tries=3, first_wait=0.0)
# Addresses of this machine that represent networks in these tests.
PARTS = {"127.0.0.1": "public", "127.0.0.2": "private", "127.0.0.3": "loopback", "127.0.0.4": "link-local"}
INNER = sorted(set(PARTS.values()) - {"public"})


def get(source: str, folder: Path, **settings: Any) -> Fetched:
    return fetch(source, folder / "archive", DownloadConfig(**settings), retry=AT_ONCE)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, FileServer]]:
    """A server in each kind of network."""
    monkeypatch.setattr(networks, "network_of", PARTS.__getitem__)
    found: dict[str, FileServer] = {}
    with ExitStack() as stack:
        for address, part in PARTS.items():
            found[part] = stack.enter_context(running(FileServer(CONTENT), address))
        yield found


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running(FileServer(CONTENT)) as started:
        yield started


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("8.8.8.8", "public"),
        ("2606:4700::1111", "public"),
        ("10.0.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "private"),
        ("224.0.0.1", "private"),
        ("240.0.0.1", "private"),
        ("fd12::1", "private"),
        ("127.0.0.1", "loopback"),
        ("127.8.8.8", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::1", "loopback"),
        ("::", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fd00:ec2::254", "link-local"),
        ("100.100.100.200", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::ffff:8.8.8.8", "public"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("64:ff9b::808:808", "public"),
        ("2002:7f00:1::", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("::ffff:0:169.254.169.254", "link-local"),
        ("64:ff9b:1::a9fe:a9fe", "link-local"),
        ("64:ff9b:1:a9fe:a9:fe00::", "link-local"),  # as after a prefix of 48 bits
        ("64:ff9b:1:7f:0:1::", "loopback"),  # of 56 bits
        ("64:ff9b:1:0:a9:fea9:fe00:0", "link-local"),  # of 64 bits
        ("64:ff9b:1::808:808", "private"),
        ("2001:0:4136:e378:8000:63bf:5601:5601", "link-local"),  # Teredo, which inverts the address
        ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", "public"),
        ("fd20:ce::254", "link-local"),
        ("168.63.129.16", "link-local"),
    ],
)
def test_address_is_classified_by_network(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("2852039166", ["169.254.169.254"]),
        ("0xa9fea9fe", ["169.254.169.254"]),
        ("0XA9FEA9FE", ["169.254.169.254"]),
        ("169.254.43518", ["169.254.169.254"]),
        ("0251.0376.0251.0376", ["169.254.169.254"]),
        ("127.1", ["127.0.0.1"]),
        ("127.0.0.1.", ["127.0.0.1"]),
        ("0127.0.0.1", ["87.0.0.1", "127.0.0.1"]),
        ("0", ["0.0.0.0"]),
        ("localhost.", ["127.0.0.1"]),
        ("a.LOCALHOST", ["127.0.0.1"]),
        ("metadata.google.internal.", ["169.254.169.254"]),
        ("::1", ["::1"]),
        ("fe80::1%25eth0", ["fe80::1%25eth0"]),
        ("host", []),
        ("1.2.3.4.5", []),
        ("4294967296", []),
        ("0x", []),
        ("", []),
    ],
)
def test_host_is_read_as_numbers(host: str, addresses: list[str]) -> None:
    assert networks.numeric(host) == addresses


@pytest.mark.parametrize("inner", INNER)
def test_public_server_cannot_redirect_to_internal_networks(
    servers: dict[str, FileServer], tmp_path: Path, inner: str, fault: Fault
) -> None:
    public, target = servers["public"], servers[inner]
    lead = redirect(f"{target.address}/latest/meta-data?token=canary")
    public.script = [lead, lead]
    with pytest.raises(ConfigError, match=rf"meta-data\?\*\*\* is at 127.*\({inner}\).*set private_addresses to allow"):
        get(public.address, tmp_path)
    with pytest.raises(ConfigError, match=inner):
        source_identity(public.address, DownloadConfig())
    assert target.requests == []
    fault("download: led into another network", 2)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("kind", ['<form id="download-form" action="{}">', '<a href="{}?confirm=t">'])
def test_page_of_a_public_server_cannot_lead_to_internal_networks(
    servers: dict[str, FileServer], tmp_path: Path, inner: str, kind: str, fault: Fault
) -> None:
    public, target = servers["public"], servers[inner]
    public.script = [page(f"<html>{kind.format(f'{target.address}/x')}</html>")]
    with pytest.raises(ConfigError, match=rf"\({inner}\)"):
        fetch(
            ZESHEL_ON_GOOGLE_DRIVE,
            tmp_path / "x",
            DownloadConfig(),
            retry=AT_ONCE,
            drive_address=f"{public.address}/uc",
        )
    assert target.requests == []
    fault("download: led into another network")


@pytest.mark.parametrize("named", ["public", "private", "loopback"])
def test_named_server_may_be_on_any_network_except_link_local(
    servers: dict[str, FileServer], tmp_path: Path, named: str
) -> None:
    assert get(servers[named].address, tmp_path).size == len(CONTENT)
    with pytest.raises(ConfigError, match=r"127\.0\.0\.4 \(link-local\), where clouds hand out credentials"):
        get(servers["link-local"].address, tmp_path)
    assert servers["link-local"].requests == []


@pytest.mark.parametrize(("named", "led_to"), [("private", "private"), ("private", "public"), ("loopback", "loopback")])
def test_internal_server_may_redirect_within_network_and_to_internet(
    servers: dict[str, FileServer], tmp_path: Path, named: str, led_to: str
) -> None:
    servers[named].script = [redirect(f"{servers[led_to].address}/x")]
    assert get(servers[named].address, tmp_path).size == len(CONTENT)


@pytest.mark.parametrize("inner", INNER)
def test_all_networks_can_be_allowed(servers: dict[str, FileServer], tmp_path: Path, inner: str) -> None:
    servers["public"].script = [redirect(f"{servers[inner].address}/x")]
    assert get(servers["public"].address, tmp_path, private_addresses="allow").size == len(CONTENT)
    assert len(servers[inner].requests) == 1


@pytest.mark.parametrize("later", ["private", "link-local"])
def test_dns_rebinding_is_detected_at_the_connection(
    servers: dict[str, FileServer], tmp_path: Path, later: str, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """The name resolves to an allowed address at the check and to another one at the connection."""
    real, asked = socket.getaddrinfo, []

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "rebinding.test":
            asked.append(host)
            host = "127.0.0.1" if len(asked) == 1 else servers[later].address.split("/")[2].partition(":")[0]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    port = servers[later].address.rpartition(":")[2]
    servers["public"].script = [redirect(f"http://rebinding.test:{port}/x")]
    with pytest.raises(ConfigError, match=later):
        get(servers["public"].address, tmp_path)
    assert len(asked) == 2
    assert servers[later].requests == []
    fault("download: DNS rebinding")


@pytest.mark.parametrize("scheme", ["file", "ftp", "data", "javascript", "gopher", "s3", "unix"])
def test_redirect_to_another_scheme_is_refused(server: FileServer, tmp_path: Path, scheme: str, fault: Fault) -> None:
    server.script = [redirect(f"{scheme}://host/etc/passwd"), redirect(f"{scheme}://host/etc/passwd")]
    with pytest.raises(ConfigError, match="expected http or https"):
        get(server.address, tmp_path)
    fault("download: led to another scheme")


def test_redirect_from_https_to_http_is_refused() -> None:
    hops = Hops("allow", Deadline(3600, "max_download_minutes"))
    safe, unsafe = httpx.URL("https://host/x"), httpx.URL("http://user:canary@host/x")
    hops.check(safe)
    hops.check(safe, before=unsafe)
    with pytest.raises(ConfigError, match=r"leads to http://\*\*\*@host/x; expected https"):
        hops.check(unsafe, before=safe)


def test_credentials_are_not_sent_to_another_server(servers: dict[str, FileServer], tmp_path: Path) -> None:
    public, private = servers["public"], servers["private"]
    private.script = [redirect(f"{public.address}/x")]
    get(private.address.replace("://", "://user:canary@"), tmp_path)
    assert private.requests[0].headers["Authorization"]
    assert public.requests[0].headers["Authorization"] is None


def test_numeric_addresses_are_checked_behind_a_proxy(
    servers: dict[str, FileServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = servers["private"]
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert get("http://public.test/x", tmp_path).size == len(CONTENT)
    assert proxy.requests[0].path == "http://public.test/x"
    for host, network in {
        "127.0.0.2": "private", "2130706434": "private", "127.2": "private", "127.0.2": "private",
        "0x7f000004": "link-local", "127.0.0.4.": "link-local",
    }.items():  # fmt: skip
        proxy.script = [redirect(f"http://{host}/latest/meta-data")]
        with pytest.raises(ConfigError, match=network):
            get("http://public.test/x", tmp_path)
    with pytest.raises(ConfigError, match="link-local"):
        get("http://2130706436/latest/meta-data", tmp_path)


@pytest.mark.parametrize("proxy", ["socks5://user:canary@127.0.0.1:1", "gopher://user:canary@127.0.0.1:1"])
def test_unusable_proxy_is_a_config_error_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(ConfigError, match="_PROXY") as error:
        get("http://public.test/x", tmp_path)
    assert "canary" not in str(error.value)


Handler = BaseHTTPRequestHandler


def endless(start: bytes, sent: list[int], pause: float = 0.0) -> Callable[[Handler], None]:
    """Sends ``start``, and then bytes until the client closes the connection; ``sent`` counts them."""

    def answer(handler: Handler) -> None:
        block = b"x" if pause else b"x" * 65536
        try:
            handler.wfile.write(start)
            while True:
                sent.append(handler.wfile.write(block))
                time.sleep(pause)
        except OSError:
            return

    return answer


SLOW = {
    "headers": b"HTTP/1.1 200 OK\r\nX-Slow: ",
    "a body of known size": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    "a body of unknown size": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 600,
    "the first bytes": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>" + b" " * 600,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", SLOW)
def test_byte_by_byte_server_is_cut_off_at_deadline(
    server: FileServer, tmp_path: Path, kind: str, fault: Fault
) -> None:
    """Each byte arrives within ``timeout_seconds``, so the timeout alone would never end the download."""
    server.script = [endless(SLOW[kind], [], pause=0.02)] * 10
    with pytest.raises(StoreUnavailable, match=r"took longer than 0.01 minutes \(max_download_minutes\)"):
        get(server.address, tmp_path, max_download_minutes=0.01, timeout_seconds=60)
    fault("download: a byte at a time")


def test_expired_deadline_ends_download(server: FileServer, tmp_path: Path) -> None:
    config = DownloadConfig().model_copy(update={"max_download_minutes": 0.0})
    with pytest.raises(StoreUnavailable, match="max_download_minutes"):
        fetch(server.address, tmp_path / "archive", config, retry=AT_ONCE)


def test_deadline_leaves_no_thread(server: FileServer, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    get(server.address, tmp_path)
    started = set(threading.enumerate()) - before
    timers = [thread for thread in started if isinstance(thread, threading.Timer)]
    for timer in timers:
        timer.join(5)
    assert not [timer for timer in timers if timer.is_alive()]
    assert len(started - set(timers)) <= 1  # the server's own thread


@pytest.mark.parametrize(
    ("head", "error"),
    [
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nBZh9", DataError),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", DataError),
        ("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n", ConfigError),
        ("HTTP/1.1 302 Found\r\nLocation: /again\r\nConnection: close\r\n\r\n", ConfigError),
        ("HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Encoding: gzip\r\n\r\n", ConfigError),
        ("HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n", StoreUnavailable),
        ("HTTP/1.1 200 OK\r\nX-Long: ", StoreUnavailable),
    ],
)
@pytest.mark.timeout(60)
def test_endless_body_is_not_read(
    server: FileServer, tmp_path: Path, head: str, error: type[ZeshelError], fault: Fault
) -> None:
    sent: list[int] = []
    server.script = [endless(head.encode(), sent)] * 40
    with pytest.raises(error):
        get(server.address, tmp_path, max_download_gb=0.001)
    answers = len(server.requests)
    # Bytes in the socket's buffers are sent but never read. If the body was read, it would be gigabytes.
    assert sum(sent) < answers * 32 * 2**20
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1_000_000
    fault("download: without end")


def test_compressed_body_counts_as_decompressed(server: FileServer, tmp_path: Path) -> None:
    """It could expand a thousandfold beyond the limit."""
    import gzip

    bomb = gzip.compress(b"\0" * 3_000_000)
    server.script = [lambda handler: send(handler, 200, bomb, {"Content-Encoding": "gzip"})]
    with pytest.raises(DataError, match=r"too large; expected at most 1,000,000 bytes \(max_download_gb\)"):
        get(server.address, tmp_path, max_download_gb=0.001)


def cut(server: FileServer) -> Callable[[Handler], None]:
    return lambda handler: server.serve(handler, cut_after=1000)


NONSENSE: dict[str, tuple[Callable[[FileServer], list[Any]], type[ZeshelError] | None]] = {
    "an empty label in a name": (lambda _: [redirect("http://a..b/x")], ConfigError),
    "half an IPv6 address": (lambda _: [redirect("http://[::1/x")], StoreUnavailable),
    "a port beyond all": (lambda _: [redirect("http://host:99999/x")], StoreUnavailable),
    "a name of 300 letters": (lambda _: [redirect(f"http://{'a' * 300}/x")], ConfigError),
    "a title without end": (lambda _: [page("<html>" + "<title" * 170_000)], DataError),
    "a page of half an address": (
        lambda _: [page('<html><form id="download-form" action="http://[::1"></form>')],
        DataError,
    ),
    "a size of 5,000 digits": (
        lambda _: [lambda h: send(h, 200, b"x", {"Content-Length": "9" * 5000})],
        StoreUnavailable,
    ),
    "a part of 5,000 digits": (
        lambda s: [cut(s), lambda h: send(h, 206, b"x", {"Content-Range": f"bytes 1000-{'9' * 5000}/{'9' * 5000}"})],
        None,
    ),
    "a wait of 400 digits": (lambda _: [status(429, Retry_After="0" * 400)], None),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", NONSENSE)
def test_invalid_answer_is_retried_or_raises_expected_error(
    server: FileServer, tmp_path: Path, kind: str, fault: Fault
) -> None:
    script, error = NONSENSE[kind]
    source = ZESHEL_ON_GOOGLE_DRIVE if "page" in kind else server.address

    def download() -> Fetched:
        settings = DownloadConfig()
        return fetch(source, tmp_path / "x", settings, retry=AT_ONCE, drive_address=f"{server.address}/uc")

    server.script = script(server) * (1 if error is None else 10)
    if error is None:
        assert download().size == len(CONTENT)
    else:
        with pytest.raises(error):
            download()
    fault("download: nonsense")


def test_non_ascii_etag_is_not_sent_back(server: FileServer, tmp_path: Path) -> None:
    server.etag = '"\u00e9"'
    server.script = [cut(server)]
    assert get(server.address, tmp_path).size == len(CONTENT)
    assert server.requests[1].headers["If-Range"] is None


def test_two_cookies_with_the_same_name_do_not_conflict(server: FileServer, tmp_path: Path) -> None:
    def two(handler: Handler) -> None:
        handler.send_response(200)
        for path in ("/", "/uc"):
            handler.send_header("Set-Cookie", f"download_warning_x=t; Path={path}")
        handler.send_header("Content-Type", "text/html")
        handler.end_headers()
        handler.wfile.write(b"<html>can't scan</html>")

    server.script = [two]
    address = f"{server.address}/uc"
    fetched = fetch(ZESHEL_ON_GOOGLE_DRIVE, tmp_path / "x", DownloadConfig(), retry=AT_ONCE, drive_address=address)
    assert fetched.size == len(CONTENT)
