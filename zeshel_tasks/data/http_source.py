"""A file behind an http(s) address."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

import httpx

from zeshel_tasks import __version__
from zeshel_tasks.data.transfer import Body, Interrupted, Retry, retrying
from zeshel_tasks.errors import ConfigError, DataError

MAX_REDIRECTS = 10
_MAX_PAGE_BYTES = 2**20
_MAX_PAGES = 3
_HEAD_BYTES = 512
_PASSING = {408, 425, 429}
# The bytes as they are stored: a server that packs them on the way could not resume.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"zeshel-tasks/{__version__}"}


@dataclass(frozen=True, slots=True)
class Page:
    """An HTML page that came instead of a file."""

    name: str
    address: str
    status: int
    text: str
    cookies: dict[str, str]


def refuse_page(page: Page) -> NoReturn:
    """Raises: ConfigError (the server refused) or DataError (it sent a page instead of a file)."""
    if page.status >= 400:
        _refuse_status(page.name, page.status)
    title = re.search(r"<title[^>]*>\s*(.*?)\s*</title>", page.text, re.IGNORECASE | re.DOTALL)
    got = f"an HTML page{f' titled {title[1]!r}' if title else ''} from {urlsplit(page.address).hostname}"
    raise DataError("not an archive", file=page.name, expected="a tar archive", got=got)


def http_client(timeout_seconds: float) -> httpx.Client:
    """A client that follows redirects and gives up on a server that is silent for so long."""
    return httpx.Client(timeout=timeout_seconds, follow_redirects=True, max_redirects=MAX_REDIRECTS, headers=_HEADERS)


class HttpSource:
    """A file that a GET brings.

    Args:
        client: see :func:`http_client`.
        address: where the file is.
        name: for messages; by default the address without what may be secret (user, password, query).
        on_page: what to do about an HTML page: returns the address to ask instead, or raises.
        retry: for :meth:`identity`.
    """

    def __init__(
        self,
        client: httpx.Client,
        address: str,
        *,
        name: str | None = None,
        on_page: Callable[[Page], str] = refuse_page,
        retry: Retry,
    ) -> None:
        self._client, self._address, self._on_page, self._retry = client, address, on_page, retry
        self.name = name or _without_secrets(address)
        self._total: int | None = None
        self._validator: str | None = None
        self._resumable = True

    @contextmanager
    def open(self, start: int) -> Iterator[Body]:
        """The file from ``start`` on if the server can do that, else from its beginning.

        Raises:
            Interrupted: the connection failed or broke, or the server is overloaded or failing (408, 425, 429, 5xx).
            ConfigError: the server refused (any other 4xx), or the address cannot be right.
            DataError: an HTML page instead of a file.
        """
        # Each time from the first address on: what a page leads to may be good for once only.
        address = self._address
        with self._errors_translated():
            for _ in range(_MAX_PAGES):
                with self._client.stream("GET", address, headers=self._range(start)) as response:
                    self._check_status(response)
                    if response.status_code == 206:
                        yield self._rest(response, start)
                        return
                    head, chunks = _peek(response)
                    if not _is_html(response, head):
                        yield self._whole(response, itertools.chain([head], chunks))
                        return
                    address = self._on_page(self._page(response, head, chunks))
            raise DataError("not an archive", file=self.name, expected="a file", got=f"{_MAX_PAGES} pages in a row")

    def identity(self) -> str:
        """``etag:...`` or ``last-modified:...`` as a HEAD tells, or ``address:...`` where it does not.

        Raises:
            StoreUnavailable: the server does not answer.
            ConfigError: the address cannot be right.
        """
        headers = retrying(self._head, self.name, self._retry)
        for header in ("etag", "last-modified"):
            if headers.get(header):
                return f"{header}:{headers[header]}"
        return f"address:{self._address}"

    def _head(self) -> httpx.Headers:
        with self._errors_translated():
            response = self._client.head(self._address)
            _check_passing(response)
            return response.headers if response.is_success else httpx.Headers()

    def _range(self, start: int) -> dict[str, str]:
        if not start or not self._resumable:
            return {}
        condition = {"If-Range": self._validator} if self._validator else {}
        return {"Range": f"bytes={start}-", **condition}

    def _check_status(self, response: httpx.Response) -> None:
        _check_passing(response)
        if response.status_code == 416:
            self._resumable = False
            raise Interrupted("the server refused to resume")
        if response.status_code in (200, 206):
            return
        head, chunks = _peek(response)
        if _is_html(response, head):
            self._on_page(self._page(response, head, chunks))
        _refuse_status(self.name, response.status_code)

    def _rest(self, response: httpx.Response, start: int) -> Body:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("content-range", ""))
        if not found or int(found[1]) != start or int(found[2]) != self._total:
            self._resumable = False
            raise Interrupted("the server resumed at another place, or another file")
        return Body(start, self._total, response.iter_raw())

    def _whole(self, response: httpx.Response, chunks: Iterator[bytes]) -> Body:
        length = response.headers.get("content-length", "")
        self._total = int(length) if length.isdecimal() else None
        etag = response.headers.get("etag", "")
        self._validator = etag if etag.startswith('"') else response.headers.get("last-modified")
        return Body(0, self._total, chunks)

    def _page(self, response: httpx.Response, head: bytes, chunks: Iterator[bytes]) -> Page:
        content = bytearray(head)
        for chunk in chunks:
            content += chunk
            if len(content) >= _MAX_PAGE_BYTES:
                break
        text = content.decode("utf-8", errors="replace")
        return Page(self.name, str(response.url), response.status_code, text, dict(self._client.cookies))

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise ConfigError(f"source: {self.name}: {error}") from error
        except httpx.TransportError as error:
            raise Interrupted(f"{type(error).__name__}: {error}".rstrip(": ")) from error


def _check_passing(response: httpx.Response) -> None:
    if response.status_code in _PASSING or response.is_server_error:
        after = response.headers.get("retry-after", "")
        raise Interrupted(_status(response.status_code), float(after) if after.isdecimal() else None)


def _refuse_status(name: str, status: int) -> NoReturn:
    raise ConfigError(f"source: {name}: expected a file, got {_status(status)}")


def _status(code: int) -> str:
    return f"the server's answer {code} {httpx.codes.get_reason_phrase(code)}".rstrip()


def _peek(response: httpx.Response) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, enough to tell a page from a file, and an iterator over the rest."""
    head, chunks = b"", response.iter_raw()
    while len(head) < _HEAD_BYTES and (chunk := next(chunks, b"")):
        head += chunk
    return head, chunks


def _is_html(response: httpx.Response, head: bytes) -> bool:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    is_called_html = response.headers.get("content-type", "").startswith("text/html")
    return start.startswith((b"<!doctype html", b"<html")) or (is_called_html and start.startswith(b"<"))


def _without_secrets(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
