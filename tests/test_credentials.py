"""Credentials in the environment that no header can carry."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zeshel_tasks.commands.tracking import track_run
from zeshel_tasks.credentials import check_credentials, check_files
from zeshel_tasks.download.hub_settings import token_header
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.store import open_store
from zeshel_tasks.store.s3_client import s3_client


@pytest.mark.parametrize("value", ["", "abc", "a/b+c==", "two words", "pässword"])
def test_credential_is_accepted(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KEY", value)
    check_credentials(["KEY", "NOT_SET"])


@pytest.mark.parametrize(
    "value", ["canary\n", "canary\r\n", " canary", "canary\t", "can\nary", "can\x7fary", "\u2028canary"]
)
def test_credential_that_no_header_can_carry_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KEY", value)
    with pytest.raises(ConfigError) as error:
        check_credentials(["KEY"])
    assert str(error.value) == "KEY: expected printable text without spaces or line ends around it, got another one"


def reads_s3() -> None:
    s3_client.cache_clear()
    open_store("s3://bucket/prefix").get("key")


@pytest.mark.parametrize(
    ("name", "use"),
    [
        *((f"AWS_{name}", reads_s3) for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")),
        *((f"MLFLOW_TRACKING_{name}", lambda: track_run("runs/r1")) for name in ("TOKEN", "USERNAME", "PASSWORD")),
        ("HF_TOKEN", token_header),
    ],
)
def test_every_client_refuses_a_credential_with_a_line_end(
    monkeypatch: pytest.MonkeyPatch, name: str, use: Callable[[], object]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv(name, "canary\ncanary")
    with pytest.raises(ConfigError, match=f"^{name}: expected") as error:
        use()
    assert "canary" not in str(error.value)


@pytest.mark.parametrize("path", ["", "file", "~/file", "$PLACE/file", "missing", "file/x", "/dev/null"])
def test_file_that_a_client_can_read_or_lacks_is_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.setenv("FILE", path)
    check_files(["FILE", "NOT_SET"])


@pytest.mark.parametrize(
    ("name", "use"),
    [("AWS_CONFIG_FILE", reads_s3), ("AWS_SHARED_CREDENTIALS_FILE", reads_s3), ("HF_TOKEN_PATH", token_header)],
)
@pytest.mark.parametrize("path", ["folder", "pipe", "loop", "x" * 300, "hidden"])
def test_every_client_refuses_a_file_that_it_cannot_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, use: Callable[[], object], path: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "hidden").touch()

    def hide(opened: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(opened))  # the tests may run as root

    monkeypatch.setattr(Path, "open", hide)
    monkeypatch.setenv(name, str(tmp_path / path))
    with pytest.raises(ConfigError, match=f"^{name}: expected a file that can be read, got '") as error:
        use()
    assert len(str(error.value).splitlines()) == 1
