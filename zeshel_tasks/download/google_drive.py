"""Download addresses of files on Google Drive, and the warning pages before large files."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from zeshel_tasks.download.http_source import Page, refuse_page, refuse_status
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.location import DriveFile

DOWNLOAD_ADDRESS = "https://drive.google.com/uc"
_QUOTA = ("quota exceeded", "too many users have viewed or downloaded")


def download_address(file: DriveFile, base: str = DOWNLOAD_ADDRESS) -> str:
    """The address at which the download of a file starts. Tests pass their own server as ``base``."""
    query = {"export": "download", "id": file.file_id}
    if file.resource_key:
        query["resourcekey"] = file.resource_key
    return f"{base}?{urlencode(query)}"


def address_behind(page: Page) -> str:
    """The address of the file behind a "can't scan this file for viruses" page.

    Google uses a form with hidden inputs, a link with ``confirm=``, or a ``download_warning`` cookie.

    Raises:
        StoreUnavailable: the file's download quota is exceeded.
        ConfigError: the file is not shared with everyone.
        DataError: the page is another one, or contains no address.
    """
    if any(sign in page.text.lower() for sign in _QUOTA):
        raise StoreUnavailable(
            f"{page.name}: Google Drive's download quota of this file is exceeded; "
            "try again in some hours, or set source to another copy"
        )
    if urlsplit(page.address).hostname == "accounts.google.com":
        raise ConfigError(f"{page.where}: expected a file shared with everyone, got a login page")
    refuse_status(page)
    found = _ConfirmationParser()
    found.feed(page.text)
    try:
        if found.form is not None:
            return _with_query(urljoin(page.address, found.form), found.inputs)
        if found.link is not None:
            return urljoin(page.address, found.link)
    except ValueError:  # half of an IPv6 address
        return refuse_page(page)
    for name, value in page.cookies.items():
        if name.startswith("download_warning"):
            return _with_query(page.address, {"confirm": value})
    return refuse_page(page)


class _ConfirmationParser(HTMLParser):
    """Finds the download form and its inputs, or the download link."""

    def __init__(self) -> None:
        super().__init__()
        self.form: str | None = None
        self.link: str | None = None
        self.inputs: dict[str, str] = {}
        self._in_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and values.get("id") == "download-form":
            self.form, self._in_form = values.get("action", ""), True
        elif tag == "input" and self._in_form and values.get("name"):
            self.inputs[values["name"]] = values.get("value", "")
        elif tag == "a" and self.link is None and "confirm=" in values.get("href", ""):
            self.link = values["href"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._in_form = False


def _with_query(address: str, more: dict[str, str]) -> str:
    parts = urlsplit(address)
    return parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **more})).geturl()
