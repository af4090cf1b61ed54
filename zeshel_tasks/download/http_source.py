"""Reads a file from a web server."""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

import httpx

from zeshel_tasks.download.http_client import unquoted
from zeshel_tasks.download.networks import Hops
from zeshel_tasks.download.transfer import Body, Interrupted, Retry, retrying
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.proxies import refused_by_proxy
from zeshel_tasks.text.redaction import without_secrets
from zeshel_tasks.text.safe_text import safe_text

log = logging.getLogger(__name__)

MAX_REDIRECTS = 10
_MAX_PAGE_BYTES = 2**20
_MAX_PAGES = 3
_HEAD_BYTES = 512
_PASSING = {408, 425, 429}
_LASTING = {501}  # the server does not know the method


def _never(_: httpx.Headers) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Page:
    """An HTML page that the server sent instead of a file; ``where`` and ``expected`` are for messages."""

    name: str
    where: str
    expected: str
    address: str
    status: int
    text: str
    cookies: dict[str, str]


def refuse_page(page: Page) -> NoReturn:
    """Raise ConfigError if the server refused, or DataError because it sent a page instead of a file."""
    refuse_status(page)
    raise DataError("not an archive", file=page.name, expected="a tar archive", got=described(page))


def refuse_status(page: Page) -> None:
    """Raise ConfigError if the server refused."""
    if page.status >= 400:
        _refuse_status(page.where, page.expected, page.status)


def described(page: Page) -> str:
    """What the server sent, for messages."""
    title = _title(page.text)
    return f"an HTML page{f' titled {title!r}' if title else ''} from {urlsplit(page.address).hostname}"


class HttpSource:
    """A file that is downloaded with GET.

    Args:
        client: see :func:`http_client`.
        address: of the file.
        hops: checks the addresses to which this one leads.
        name: for messages; by default the address without its secrets.
        where: the beginning of messages about the setting; by default ``source`` with the name.
        expected: what there should be, for messages.
        on_page: called with an HTML page; returns the address of the file, or raises.
        retry: for :meth:`identity`.
    """

    def __init__(
        self,
        client: httpx.Client,
        address: str,
        hops: Hops,
        *,
        name: str | None = None,
        where: str | None = None,
        expected: str = "a file",
        on_page: Callable[[Page], str] = refuse_page,
        retry: Retry,
    ) -> None:
        self._client, self._address, self._hops = client, address, hops
        self._on_page, self._retry = on_page, retry
        self.name = name or without_secrets(address)
        self._where, self._expected = where or f"source: {self.name}", expected
        self._total: int | None = None
        self._validator: str | None = None
        self._resumable = True
        self.states_its_end = False
        """True if the last answer says where it ends, so that a broken connection does not look like its end."""

    @contextmanager
    def open(self, start: int) -> Iterator[Body]:
        """Read the file from byte ``start`` if the server supports it, else from its beginning.

        Raises:
            Interrupted: the connection failed or broke, or the server is overloaded or failing (408, 425, 429, 5xx
                but 501).
            ConfigError: the server refused (501, any other 4xx), or this address or a later one is not allowed.
            StoreUnavailable: the deadline has passed.
            DataError: the server sent an HTML page instead of a file.
        """
        # Start from the first address each time, because a page may lead to an address that works only once.
        address = self._address
        with self._errors_translated():
            for _ in range(_MAX_PAGES):
                with self._answer("GET", address, self._range(start)) as response:
                    self._check_status(response)
                    if response.status_code == 206:
                        yield self._rest(response, start)
                        return
                    head, chunks = _peek(response)
                    if not _is_html(response, head):
                        yield self._whole(response, itertools.chain([head], chunks))
                        return
                    address = self._on_page(self._page(response, head, chunks))
            raise DataError(
                "not an archive", file=self.name, expected=self._expected, got=f"{_MAX_PAGES} pages in a row"
            )

    def identity(self) -> str:
        """``etag:...`` or ``last-modified:...`` from the answer to HEAD, else ``address:...``.

        Two files of a server may share an ETag or a date, so the identity also contains the size and the address. The
        address is without its query, which may be a signature that changes each time.

        Raises:
            StoreUnavailable: the server does not answer.
            ConfigError: the address is wrong.
        """
        headers = retrying(self.headers, self.name, self._retry)
        for header in ("etag", "last-modified"):
            if headers.get(header):
                size = headers.get("content-length", "?")
                return f"{header}:{headers[header]} {size} bytes {without_secrets(self._address.partition('?')[0])}"
        log.warning(
            "%s: a new file at this address will not be noticed, because the server sends neither ETag nor "
            "Last-Modified; set sha256 to notice it",
            self.name,
        )
        return f"address:{_distinct_address(self._address)}"

    def headers(self, enough: Callable[[httpx.Headers], bool] = _never) -> httpx.Headers:
        """The headers of the answer to HEAD; empty if the server refuses.

        Args:
            enough: returns True if the headers of a redirect suffice, so that it is not followed.

        Raises:
            Interrupted, ConfigError, StoreUnavailable: as for :meth:`open`.
        """
        with self._errors_translated(), self._answer("HEAD", self._address, {}, enough) as response:
            _check_passing(response)
            return response.headers if response.is_success or enough(response.headers) else httpx.Headers()

    @contextmanager
    def _answer(
        self,
        method: str,
        address: str,
        headers: dict[str, str],
        enough: Callable[[httpx.Headers], bool] = _never,
    ) -> Iterator[httpx.Response]:
        """The answer after all redirects, or the first one with headers that suffice; its body has not been read."""
        request = self._client.build_request(method, address, headers=headers, extensions=self._hops.extensions)
        self._hops.check(request.url)
        for _ in range(MAX_REDIRECTS + 1):
            with closing(self._client.send(request, stream=True)) as response:
                if response.next_request is None or enough(response.headers):
                    yield response
                    return
                self._hops.check(response.next_request.url, before=request.url)
                request = response.next_request
        raise ConfigError(f"{self._where}: expected {self._expected}, got more than {MAX_REDIRECTS} redirects")

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
        # The hub's reason: that a model is private, or that its terms must be accepted first.
        reason = safe_text(response.headers.get("x-error-message", ""), 300)
        _refuse_status(self._where, self._expected, response.status_code, reason)

    def _rest(self, response: httpx.Response, start: int) -> Body:
        found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18})", response.headers.get("content-range", ""))
        if not found or int(found[1]) != start or int(found[2]) != self._total:
            self._resumable = False
            raise Interrupted("the server resumed at another place, or another file")
        return Body(start, self._total, response.iter_raw())

    def _whole(self, response: httpx.Response, chunks: Iterator[bytes]) -> Body:
        length = response.headers.get("content-length", "")
        self._total = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        self.states_its_end = self._total is not None or "transfer-encoding" in response.headers
        if _is_encoded(response):
            self._total, self._resumable = None, False  # both count encoded bytes
        etag, changed = response.headers.get("etag", ""), response.headers.get("last-modified", "")
        validator = etag if etag.startswith('"') else changed
        self._validator = validator if validator.isascii() else None  # it is sent back in a header, which must be ASCII
        return Body(0, self._total, chunks)

    def _page(self, response: httpx.Response, head: bytes, chunks: Iterator[bytes]) -> Page:
        content = bytearray(head)
        for chunk in chunks:
            content += chunk
            if len(content) >= _MAX_PAGE_BYTES:
                break
        self._hops.deadline.check()  # after the deadline, the page may be incomplete
        text = content.decode("utf-8", errors="replace")
        cookies = {cookie.name: cookie.value or "" for cookie in self._client.cookies.jar}
        return Page(self.name, self._where, self._expected, str(response.url), response.status_code, text, cookies)

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ConfigError(f"{self._where}: {unquoted(error)}") from error
        except httpx.ProxyError as error:
            # The proxy's answer to CONNECT: the host is forbidden, or the user unknown.
            if str(error).startswith(("403", "407")):
                raise ConfigError(refused_by_proxy(self._where, str(error))) from error
            raise Interrupted(f"the proxy's answer {error}") from error
        except UnicodeError as error:  # an international name of a host
            raise ConfigError(f"{self._where}: expected {self._expected}, got a malformed name of a host") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Interrupted(f"{type(error).__name__}: {unquoted(error)}".rstrip(": ")) from error


def _title(text: str) -> str:
    """The text of the first <title>, in linear time for any page."""
    start = re.search(r"<title\b", text, re.IGNORECASE)
    if start is None:
        return ""
    rest = text[start.end() :].partition(">")[2]
    end = re.search("</title", rest, re.IGNORECASE)
    return rest[: end.start()].strip() if end else ""


def _distinct_address(address: str) -> str:
    """The address without its secrets, plus a digest of its query, because another query may be another file."""
    parts = urlsplit(address)
    digest = f" query-sha256:{hashlib.sha256(parts.query.encode()).hexdigest()}" if parts.query else ""
    return without_secrets(address) + digest


def _check_passing(response: httpx.Response) -> None:
    if response.status_code in _PASSING or (response.is_server_error and response.status_code not in _LASTING):
        after = response.headers.get("retry-after", "")
        raise Interrupted(
            f"the server's answer {_answer(response.status_code)}", float(after) if after.isdecimal() else None
        )


def _refuse_status(where: str, expected: str, status: int, reason: str = "") -> NoReturn:
    if status == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
        raise ConfigError(refused_by_proxy(where, _answer(status)))
    answer = f"{_answer(status)}: {reason}".rstrip(": ")
    raise ConfigError(f"{where}: expected {expected}, got the server's answer {answer}")


def _answer(status: int) -> str:
    return f"{status} {httpx.codes.get_reason_phrase(status)}".rstrip()


def _peek(response: httpx.Response) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, which distinguish a page from a file, and an iterator over the rest."""
    head, chunks = b"", response.iter_bytes() if _is_encoded(response) else response.iter_raw()
    while len(head) < _HEAD_BYTES and (chunk := next(chunks, b"")):
        head += chunk
    return head, chunks


def _is_encoded(response: httpx.Response) -> bool:
    """True if the bytes were compressed for the transfer, although nobody asked for it.

    Some servers also call the compression of an archive its encoding. As wget does, keep what its name promises.
    """
    encoding = response.headers.get("content-encoding", "").lower()
    return encoding in ("gzip", "deflate") and not response.url.path.lower().endswith((".gz", ".tgz"))


def _is_html(response: httpx.Response, head: bytes) -> bool:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    is_called_html = response.headers.get("content-type", "").startswith("text/html")
    return start.startswith((b"<!doctype html", b"<html")) or (is_called_html and start.startswith(b"<"))
