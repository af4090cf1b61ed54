"""Addresses parsed into locations."""

from collections.abc import Callable
from pathlib import Path

import pytest

from zeshel_tasks.config import ZESHEL_ON_GOOGLE_DRIVE
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import (
    DriveFile,
    HubModel,
    LocalPath,
    Location,
    S3Address,
    WebAddress,
    located,
    model_location,
    source_location,
    store_location,
    weights_location,
)

FILE_ID = "1ZcKZ1is0VEkY9kNfPxIG19qEIqHE5LIO"
LOCAL = ["data.tar", "./data.tar", "/a/b c", "~/data", "/data/runs/r1", "file:///a/b%20c", "file://localhost/a"]
S3 = ["s3://bucket", "s3://bucket/a/b", "s3://bucket/a/b/"]
WEB = ["http://host/a", "https://host:8080/a?signature=x#y", "HTTPS://user:password@host/a", "http://[::1]/a"]
DRIVE = [
    ZESHEL_ON_GOOGLE_DRIVE,
    f"https://drive.google.com/uc?id={FILE_ID}",
    f"https://drive.google.com/u/0/uc?id={FILE_ID}&export=download",
    f"https://drive.google.com/file/d/{FILE_ID}/view?usp=sharing",
    f"https://drive.google.com/file/d/{FILE_ID}",
    f"https://drive.google.com/open?id={FILE_ID}",
    f"https://docs.google.com/uc?export=download&id={FILE_ID}",
    f"https://drive.usercontent.google.com/download?id={FILE_ID}&export=download&confirm=t",
]
HUB = ["bert-base-uncased", "google-bert/bert-base-uncased", "google-bert/bert-base-uncased@v1.0", "bert@refs/pr/1"]
UNKNOWN = ["", "ftp://host/a", "gs://bucket/a", "ssh://host/x", "s3:/bucket/a", "file:", "file:/a", "https:/host/a"]
WRONG = ["s3://", "s3:///key", "s3://a b/key", "s3://bucket:1/key", "file://elsewhere/a", "file://", "a b://c"]
WRONG_WEB = ["http://", "http://[::1/x", "http://host:99999/x", "http://host:0/x", "https://a b/x"]
NO_DRIVE_FILE = ["https://drive.google.com/drive/folders/abc", "https://drive.google.com/uc?id="]

Parse = Callable[[str], Location]
PARSERS: dict[Parse, list[str]] = {
    store_location: LOCAL + S3,
    weights_location: LOCAL + S3,
    source_location: LOCAL + S3 + WEB + DRIVE,
    model_location: LOCAL[1:] + S3 + HUB,
}
ALL = LOCAL + S3 + WEB + DRIVE + HUB + UNKNOWN + WRONG + WRONG_WEB + NO_DRIVE_FILE


@pytest.mark.parametrize("address", ALL)
@pytest.mark.parametrize("parse", PARSERS)
def test_each_setting_accepts_only_its_address_forms(parse: Parse, address: str) -> None:
    taken = address in PARSERS[parse] or (address in LOCAL + HUB)  # a name without a scheme may be a file
    if taken:
        assert parse(address).address == address
        return
    with pytest.raises(ConfigError, match=r"^setting: expected .*, got .*$") as raised:
        located("setting", address, parse)
    assert "\n" not in str(raised.value)


def test_local_path_is_expanded_and_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    paths = {text: location.path for text in LOCAL if isinstance(location := store_location(text), LocalPath)}
    assert list(paths.values()) == [
        Path(path) for path in ("data.tar", "data.tar", "/a/b c", "/home/me/data", "/data/runs/r1", "/a/b c", "/a")
    ]


def test_file_address_keeps_query_and_fragment_characters() -> None:
    location = source_location("file:///a?b#c%23d")
    assert isinstance(location, LocalPath)
    assert location.path == Path("/a?b#c#d")


def test_home_of_unknown_user_is_refused() -> None:
    with pytest.raises(ConfigError, match="source: expected the path of an existing user's home directory"):
        located("source", "~nobody-has-this-name/x", source_location)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/a/b.txt", ("bucket", "a/b.txt")),
        ("s3://bucket/a/b/", ("bucket", "a/b")),
        ("s3://bucket//a", ("bucket", "a")),
    ],
)
def test_s3_address_has_bucket_and_key(address: str, expected: tuple[str, str]) -> None:
    location = store_location(address)
    assert isinstance(location, S3Address)
    assert (location.bucket, location.key) == expected


@pytest.mark.parametrize("address", ["s3://KEY:canary@bucket/x", "s3://canary@bucket", "s3://KEY:can/canary@bucket/x"])
@pytest.mark.parametrize("parse", PARSERS)
def test_credentials_in_s3_address_are_refused_and_not_repeated(parse: Parse, address: str) -> None:
    with pytest.raises(ConfigError) as raised:
        located("setting", address, parse)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("address", ["https://user:canary@[::1/x", "https://user:can/ary:canary@host/x?canary"])
def test_credentials_in_broken_web_address_are_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError) as raised:
        located("bert_model", address, model_location)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("address", DRIVE)
def test_every_form_of_drive_address_names_the_file(address: str) -> None:
    assert source_location(address) == DriveFile(address, FILE_ID, None)


@pytest.mark.parametrize("address", ["https://drive.google.com.evil.example/uc?id=1", "https://example.org/file/d/1"])
def test_other_hosts_are_not_google_drive(address: str) -> None:
    assert source_location(address) == WebAddress(address)


@pytest.mark.parametrize(
    ("address", "repository", "revision"),
    [
        ("bert-base-uncased", "bert-base-uncased", None),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased", None),
        ("google-bert/bert-base-uncased@v1.0", "google-bert/bert-base-uncased", "v1.0"),
        ("me/bert@refs/pr/1", "me/bert", "refs/pr/1"),
    ],
)
def test_hub_model_may_be_pinned_to_a_revision(address: str, repository: str, revision: str | None) -> None:
    assert model_location(address) == HubModel(address, repository, revision)


@pytest.mark.parametrize("name", ["bert", "me/bert", "me/bert@v1"])
def test_local_directory_takes_precedence_over_hub_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(model_location(name), HubModel)
    (tmp_path / name).mkdir(parents=True)
    assert model_location(name) == LocalPath(name, Path(name))
