import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.download.file_server import FileServer, page, redirect, running, status
from zeshel_tasks.config.data import ZESHEL_ON_GOOGLE_DRIVE, DownloadConfig
from zeshel_tasks.download.fetch import fetch, source_identity
from zeshel_tasks.download.google_drive import address_behind, download_address
from zeshel_tasks.download.http_source import Page
from zeshel_tasks.download.transfer import Fetched, Retry
from zeshel_tasks.errors import ConfigError, DataError, StoreUnavailable
from zeshel_tasks.location import DriveFile, source_location

FILE_ID = "1ZcKZ1is0VEkY9kNfPxIG19qEIqHE5LIO"
CONTENT = b"BZh9" + bytes(range(256)) * 1000
FETCHED = Fetched(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
FORM_PAGE = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<p>Google Drive can't scan this file for viruses.</p>
<form id="search" action="/search"><input name="q" value="other"></form>
<form id="download-form" action="{action}" method="get">
<input type="submit" value="Download anyway"><input type="hidden" name="id" value="{file_id}">
<input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t">
<input type="hidden" name="uuid" value="0b1c-2d&amp;3e"></form><input name="later" value="outside"></body></html>"""
LINK_PAGE = """<!DOCTYPE html><html><body><a href="/about">About</a>
<a id="uc-download-link" href="/uc?export=download&amp;confirm=Ab3_&amp;id={file_id}">Download</a></body></html>"""
QUOTA_PAGE = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head>
<body>Sorry, you can't view or download this file at this time. Too many users have viewed or downloaded this file
recently.</body></html>"""


@pytest.fixture
def drive() -> Iterator[FileServer]:
    with running(FileServer(CONTENT)) as started:
        yield started


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def get(drive: FileServer, target: Path, source: str = ZESHEL_ON_GOOGLE_DRIVE) -> Fetched:
    retry = Retry(tries=3, first_wait=0.0)
    return fetch(source, target, DownloadConfig(), retry=retry, drive_address=f"{drive.address}/uc")


def asked(drive: FileServer) -> tuple[str, dict[str, str]]:
    """Returns path and query of the last request."""
    parts = urlsplit(drive.requests[-1].path)
    return parts.path, {name: value for name, (value,) in parse_qs(parts.query).items()}


def test_resource_key_is_in_download_address() -> None:
    file = source_location(f"https://drive.google.com/file/d/{FILE_ID}/view?resourcekey=0-k")
    assert isinstance(file, DriveFile)
    assert download_address(file, "http://x/uc") == f"http://x/uc?export=download&id={FILE_ID}&resourcekey=0-k"


@pytest.mark.parametrize(
    "address",
    ["https://drive.google.com/drive/folders/abc", "https://drive.google.com/uc?id=", "https://drive.google.com"],
)
def test_address_without_file_is_a_config_error(address: str, target: Path) -> None:
    with pytest.raises(ConfigError, match="expected the address of a file"):
        fetch(address, target, DownloadConfig())


def test_small_file_is_fetched_without_confirmation(drive: FileServer, target: Path) -> None:
    assert get(drive, target) == FETCHED
    assert asked(drive) == ("/uc", {"export": "download", "id": FILE_ID})


def test_confirmation_form_is_sent_with_hidden_inputs(drive: FileServer, target: Path) -> None:
    action = f"{drive.address}/download"
    drive.script = [redirect("/warning"), page(FORM_PAGE.format(action=action, file_id=FILE_ID))]
    assert get(drive, target) == FETCHED
    assert target.read_bytes() == CONTENT
    hidden = {"id": FILE_ID, "export": "download", "confirm": "t", "uuid": "0b1c-2d&3e"}
    assert asked(drive) == ("/download", hidden)


def test_confirmation_form_with_values_in_address_is_followed(drive: FileServer, target: Path) -> None:
    action = f"/uc?export=download&amp;id={FILE_ID}&amp;confirm=t"
    drive.script = [page(f'<html><form id="download-form" action="{action}" method="post"></form></html>')]
    assert get(drive, target) == FETCHED
    assert asked(drive) == ("/uc", {"export": "download", "id": FILE_ID, "confirm": "t"})


def test_link_of_older_confirmation_page_is_followed(drive: FileServer, target: Path) -> None:
    drive.script = [page(LINK_PAGE.format(file_id=FILE_ID))]
    assert get(drive, target) == FETCHED
    assert asked(drive) == ("/uc", {"export": "download", "confirm": "Ab3_", "id": FILE_ID})


def test_cookie_of_oldest_confirmation_page_is_sent_back(drive: FileServer, target: Path) -> None:
    cookie = f"download_warning_13058876669334088843_{FILE_ID}=kX9z; Path=/"
    drive.script = [page("<html>can't scan</html>", Set_Cookie=cookie)]
    assert get(drive, target) == FETCHED
    assert asked(drive) == ("/uc", {"export": "download", "id": FILE_ID, "confirm": "kX9z"})
    assert "download_warning" in drive.requests[-1].headers["Cookie"]


def test_broken_download_is_resumed_after_a_new_confirmation_page(drive: FileServer, target: Path) -> None:
    form = page(FORM_PAGE.format(action="/download", file_id=FILE_ID))
    drive.script = [form, partial(drive.serve, cut_after=100_000), form]
    assert get(drive, target) == FETCHED
    assert target.read_bytes() == CONTENT
    assert asked(drive)[0] == "/download"
    assert drive.requests[-1].headers["Range"] == "bytes=100000-"


@pytest.mark.parametrize("code", [200, 403])
def test_exceeded_quota_is_unavailable(drive: FileServer, target: Path, code: int) -> None:
    drive.script = [page(QUOTA_PAGE, code)]
    with pytest.raises(StoreUnavailable, match=f"Google Drive file {FILE_ID}: .*quota.* exceeded"):
        get(drive, target)
    assert len(drive.requests) == 1


def test_endless_confirmation_pages_are_a_data_error(drive: FileServer, target: Path) -> None:
    drive.script = [page(FORM_PAGE.format(action="/download", file_id=FILE_ID))] * 10
    with pytest.raises(DataError, match="pages in a row"):
        get(drive, target)


def test_unknown_page_is_a_data_error(drive: FileServer, target: Path) -> None:
    drive.script = [page("<html><title>Something new</title></html>")]
    with pytest.raises(DataError, match=f"Google Drive file {FILE_ID}.*'Something new'"):
        get(drive, target)


@pytest.mark.parametrize("answer", [status(404), page("<html><title>Not found</title></html>", 404)])
def test_missing_file_is_a_config_error(drive: FileServer, target: Path, answer) -> None:  # noqa: ANN001
    drive.script = [answer]
    with pytest.raises(ConfigError, match="404 Not Found"):
        get(drive, target)


def test_login_page_error_says_file_is_not_shared() -> None:
    address = "https://accounts.google.com/v3/signin"
    login = Page("Google Drive file x", "source: x", "a file", address, 200, "<html>Sign in</html>", {})
    with pytest.raises(ConfigError, match="expected a file shared with everyone"):
        address_behind(login)


def test_drive_address_is_its_own_identity() -> None:
    assert source_identity(ZESHEL_ON_GOOGLE_DRIVE, DownloadConfig()) == f"address:{ZESHEL_ON_GOOGLE_DRIVE}"
