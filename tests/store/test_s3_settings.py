"""How objects are written, and how a bucket is addressed, by the variables ``ZESHEL_S3_*``."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig

import zeshel_tasks
from tests.store.s3_proxy import Answer, Forward, Request
from tests.support.s3_servers.chosen import NAME, needs_moto
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.store import s3
from zeshel_tasks.store.s3 import S3Store
from zeshel_tasks.store.s3_client import s3_client

Behind = Callable[[Callable[[Request, Forward], Answer]], S3Store]
PARTS = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
KMS = {"ENCRYPTION": "aws:kms", "KMS_KEY": "test-key"}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_TRANSFER", PARTS)


@pytest.fixture
def settings(aws_environment: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Sets variables ``ZESHEL_S3_*``."""

    def apply(values: dict[str, str]) -> None:
        for name, value in values.items():
            aws_environment.setenv(f"ZESHEL_S3_{name}", value)

    return apply


def write_in_every_way(store: S3Store, folder: Path) -> set[str]:
    """Writes objects with all methods of a store, one of them in parts, and returns their keys."""
    (folder / "small").write_bytes(b"x")
    (folder / "large").write_bytes(os.urandom(6 << 20))
    store.put("put", b"1")
    assert store.put_if_absent("absent", b"1")
    found = store.get_version("absent")
    assert found is not None
    assert store.put_if_unchanged("absent", b"2", found[1])
    store.upload(folder / "small", "small")
    store.upload(folder / "large", "large")
    return {"put", "absent", "small", "large"}


@needs_moto
def test_every_write_says_how(behind_proxy: Behind, settings: Callable[[dict[str, str]], None], tmp_path: Path) -> None:
    settings({**KMS, "STORAGE_CLASS": "STANDARD_IA"})
    writes, parts = [], []

    def server(request: Request, forward: Forward) -> Answer:
        if "partNumber=" in request.path:
            parts.append(request.headers)
        elif request.method == "PUT" or request.path.endswith("?uploads"):
            writes.append(request.headers)
        return forward(request)

    write_in_every_way(behind_proxy(server), tmp_path)
    names = ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id", "x-amz-storage-class")
    # Five objects, one of them begun as an upload of parts, and four probes of conditional writes.
    assert [[headers.get(name) for name in names] for headers in writes] == [
        ["aws:kms", "test-key", "STANDARD_IA"]
    ] * len(writes)
    assert len(writes) >= 5
    assert len(parts) == 2


@pytest.mark.skipif(NAME == "swift", reason="Swift does not encrypt with named keys")
def test_server_encrypts_every_object_with_the_key(
    bucket: str, settings: Callable[[dict[str, str]], None], tmp_path: Path
) -> None:
    settings(KMS)
    store = S3Store(bucket, "a")
    for key in write_in_every_way(store, tmp_path):
        head = boto3.client("s3").head_object(Bucket=bucket, Key=f"a/{key}")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "test-key")
    assert store.get("absent") == b"2"
    copy = store.local_copy("large", tmp_path / "copy")
    assert copy is not None
    assert copy.read_bytes() == (tmp_path / "large").read_bytes()


def test_writes_are_unchanged_without_settings(behind_proxy: Behind, tmp_path: Path) -> None:
    said: list[str] = []

    def server(request: Request, forward: Forward) -> Answer:
        said.extend(name for name in request.headers if name.startswith(("x-amz-server", "x-amz-storage")))
        return forward(request)

    behind_proxy(server).put("key", b"x")
    assert said == []


def test_no_code_writes_an_object_in_another_way() -> None:
    """Another operation of S3 would not have the settings. `upload_file` begins with one of these."""
    calls = {
        node.func.attr
        for file in Path(zeshel_tasks.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    creating = {"put_object", "copy_object", "create_multipart_upload", "upload_file", "upload_fileobj", "copy_fileobj"}
    assert calls & (creating | {"write_get_object_response", "restore_object", "rename_object"}) == {
        "put_object",
        "upload_file",
    }


@pytest.mark.parametrize(("style", "host"), [("virtual", "bucket.s3.example"), ("path", "s3.example")])
def test_bucket_is_addressed_as_set(
    settings: Callable[[dict[str, str]], None], aws_environment: pytest.MonkeyPatch, style: str, host: str
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL", "https://s3.example")
    aws_environment.setenv("AWS_ACCESS_KEY_ID", "key")
    aws_environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    aws_environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    settings({"ADDRESSING": style})
    client: Any = s3_client()
    address = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert address.split("/")[2] == host
    assert client.meta.config.s3["payload_signing_enabled"] is True


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"ENCRYPTION": "kms"}, "ZESHEL_S3_ENCRYPTION: .*'AES256', 'aws:kms' or 'aws:kms:dsse'; got 'kms'"),
        ({"KMS_KEY": "key"}, "ZESHEL_S3_ENCRYPTION aws:kms or aws:kms:dsse, because ZESHEL_S3_KMS_KEY"),
        ({"ENCRYPTION": "AES256", "KMS_KEY": "key"}, "because ZESHEL_S3_KMS_KEY is set; got 'AES256'"),
        ({**KMS, "KMS_KEY": "a b"}, "ZESHEL_S3_KMS_KEY: .*; got 'a b'"),
        ({"STORAGE_CLASS": "DEEP_ARCHIVE"}, "ZESHEL_S3_STORAGE_CLASS: .* read at once.*; got 'DEEP_ARCHIVE'"),
        ({"STORAGE_CLASS": "A\nB"}, "ZESHEL_S3_STORAGE_CLASS: "),
        ({"ADDRESSING": "host"}, "ZESHEL_S3_ADDRESSING: .*'path' or 'virtual'; got 'host'"),
    ],
)
def test_wrong_setting_is_named(
    settings: Callable[[dict[str, str]], None], values: dict[str, str], problem: str
) -> None:
    settings(values)
    with pytest.raises(ConfigError, match=f"^s3: .*{problem}") as caught:
        s3_client()
    assert "\n" not in str(caught.value)
