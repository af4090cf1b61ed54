"""Archives, folders and S3 prefixes give the same data set."""

import os
import tarfile
import unicodedata
from pathlib import Path

import boto3
import pytest

from tests.support.data_set_files import DataSetFiles
from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.download.sources import identities, obtain
from zeshel_tasks.errors import ConfigError, DataError


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    root = DataSetFiles(tmp_path / "kb").write()
    (root / "notes.txt").write_text("no part of it")
    (root / "documents" / ".hidden.json").write_text("{}")
    return root


@pytest.fixture
def prefix(data_set: Path, bucket: str) -> str:
    for path in data_set.rglob("*.json"):
        boto3.client("s3").upload_file(str(path), bucket, f"team/kb/{path.relative_to(data_set).as_posix()}")
    boto3.client("s3").put_object(
        Bucket=bucket, Key="team/kb/documents/", Body=b""
    )  # consoles create folders like this
    return f"s3://{bucket}/team/kb/"


def obtained(source: str, tmp_path: Path, **config: object) -> dict[str, bytes]:
    folder = tmp_path / "obtained"
    folder.mkdir()
    obtain(source, folder, tmp_path, DownloadConfig.model_validate({"source": source, **config}))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def files_of(data_set: Path) -> dict[str, bytes]:
    return {
        path.relative_to(data_set).as_posix(): path.read_bytes()
        for path in data_set.rglob("*.json")
        if not path.name.startswith(".")
    }


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/"])
def test_local_folder_is_copied(data_set: Path, tmp_path: Path, form: str) -> None:
    assert obtained(form.format(data_set), tmp_path) == files_of(data_set)


def test_s3_prefix_is_copied(prefix: str, data_set: Path, tmp_path: Path) -> None:
    assert obtained(prefix, tmp_path) == files_of(data_set)


def test_archive_is_unpacked(raw_archive: Path, golden: Path, tmp_path: Path) -> None:
    found = obtained(str(raw_archive), tmp_path)
    assert found == {name: data for name, data in files_of(golden / "raw").items() if name in found}
    assert {name.partition("/")[0] for name in found} == {"documents", "mentions"}


def test_oversized_folder_is_refused(data_set: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"too large.*max_unpacked_gb"):
        obtained(str(data_set), tmp_path, max_unpacked_gb=1e-6)


def test_folder_without_data_set_error_names_expected_files(data_set: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"documents/\*\.json"):
        obtained(str(data_set / "documents"), tmp_path)


def test_prefix_without_data_set_error_names_expected_files(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing-here/: .*documents/\*\.json"):
        obtained(f"s3://{bucket}/nothing-here/", tmp_path)


def test_error_for_a_prefix_without_slash_mentions_the_slash(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such object.*a prefix ends with '/'"):
        obtained(prefix.rstrip("/"), tmp_path)


def test_hash_for_folder_is_refused(data_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sha256: expected none for several files"):
        obtained(str(data_set), tmp_path, sha256="a" * 64)


def test_identity_changes_with_content_of_its_source(prefix: str, data_set: Path, raw_archive: Path) -> None:
    config = DownloadConfig(source=str(raw_archive), more_sources=(prefix, str(data_set)), sha256="A" * 64)
    first = identities(config)
    assert first.keys() == {"source", "source 2", "source 3"}
    assert first["source"] == f"sha256:{'a' * 64}"
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{key}documents/aster.json", Body=b"{}")
    (data_set / "mentions" / "val.json").write_text("{}")
    second = identities(config)
    assert {name for name in first if first[name] != second[name]} == {"source 2", "source 3"}


def test_unrelated_files_do_not_change_identity(prefix: str, data_set: Path) -> None:
    """Such as a store below the same prefix, or a README."""
    config = DownloadConfig(source=prefix, more_sources=(str(data_set),))
    first = identities(config)
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{key}runs/r1/stages/download.json", Body=b"{}")
    (data_set / "README").write_text("new")
    assert identities(config) == first


class TestLinks:
    @pytest.fixture
    def linked(self, data_set: Path, tmp_path: Path) -> Path:
        """A folder with links to the folders and files of the data set."""
        root = tmp_path / "linked"
        (root / "mentions").mkdir(parents=True)
        (root / "documents").symlink_to(data_set / "documents")
        for path in (data_set / "mentions").glob("*.json"):
            (root / "mentions" / path.name).symlink_to(path)
        return root

    def test_links_are_followed(self, linked: Path, data_set: Path, tmp_path: Path) -> None:
        assert obtained(str(linked), tmp_path) == files_of(data_set)

    @pytest.mark.parametrize("file", ["documents/aster.json", "mentions/val.json"])
    def test_changed_link_target_changes_identity(self, linked: Path, data_set: Path, file: str) -> None:
        config = DownloadConfig(source=str(linked))
        first = identities(config)
        (data_set / file).write_text("{}")
        assert identities(config) != first

    def test_broken_links_are_refused(self, linked: Path, data_set: Path, tmp_path: Path) -> None:
        (data_set / "mentions" / "test.json").unlink()
        with pytest.raises(DataError, match=r"linked: not a file, or a link to .* not there.*got mentions/test\.json"):
            obtained(str(linked), tmp_path)


def test_pipe_or_device_is_not_opened(data_set: Path, tmp_path: Path) -> None:
    """Opening a pipe would wait for ever, in Airflow, too, which asks for the identity."""
    (data_set / "documents" / "folder.json").mkdir()  # ignored, like all other folders
    for file in ("documents/a.json", "mentions/train.json"):
        (data_set / file).unlink(missing_ok=True)
    os.mkfifo(data_set / "documents" / "a.json")
    (data_set / "mentions" / "train.json").symlink_to("/dev/zero")
    for use in (lambda: obtained(str(data_set), tmp_path), lambda: identities(DownloadConfig(source=str(data_set)))):
        with pytest.raises(DataError, match=r"kb: not a file, .* expected a file; got documents/a\.json"):
            use()
    (data_set / "documents" / "a.json").unlink()
    with pytest.raises(DataError, match=r"kb: not a file, .* expected a file; got mentions/train\.json"):
        identities(DownloadConfig(source=str(data_set)))


@pytest.mark.parametrize("form", ["file://localhost{}", "file://{}"])
def test_folder_address_is_decoded(data_set: Path, tmp_path: Path, form: str) -> None:
    spaced = data_set.rename(tmp_path / "my kb")
    address = form.format(str(spaced).replace(" ", "%20"))
    assert obtained(address, tmp_path) == files_of(spaced)
    assert identities(DownloadConfig(source=address)) == identities(DownloadConfig(source=str(spaced)))


def test_unprintable_name_is_refused(data_set: Path, tmp_path: Path) -> None:
    (data_set / "documents" / "two\nlines.json").write_text("{}")
    with pytest.raises(DataError, match=r"kb: a name that cannot be kept; expected a printable name"):
        obtained(str(data_set), tmp_path)


def test_decomposed_name_from_macos_is_composed(data_set: Path, tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café.json") for form in ("NFC", "NFD"))
    (data_set / "documents" / decomposed).write_text("{}")
    archive = tmp_path / "kb.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(data_set, "kb")
    for number, source in enumerate((str(data_set), str(archive))):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        assert f"documents/{composed}" in obtained(source, scratch)


def test_archive_is_named_in_errors(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"x" * 600)
    with pytest.raises(DataError, match=r"broken\.tar: not a tar archive"):
        obtained(str(broken), tmp_path)
