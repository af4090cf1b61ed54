"""A store in an S3-compatible bucket."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import (
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.location import S3Address
from zeshel_tasks.store.base import StoredObject, checked_key, checked_prefix
from zeshel_tasks.store.s3_client import NOT_SUPPORTED, error_code, s3_client, translated

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ObjectTypeDef

log = logging.getLogger(__name__)

# With parts of 16 MiB, the maximum of 10,000 parts is 160 GB, and 8 parts in flight take 128 MiB of memory.
_TRANSFER = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=8)
Condition = Literal["IfNoneMatch", "IfMatch"]

_SECONDS_TO_WRITE = 2.0  # between finding a condition true and the end of the write, on a server that does not check it
_WRITES = 3
_READS = 5  # the number of times that boto3 starts a download
_BROKEN_OFF = (ResponseStreamingError, ReadTimeoutError, IncompleteReadError, HTTPError)
# S3 accepts 1,000. A server that takes 0.2 s for each of these answers before the client gives up.
_DELETED_AT_ONCE = 250
_NOT_AT_ONCE = NOT_SUPPORTED | {"MethodNotAllowed", "405", "MalformedXML", "InvalidDigest", "MissingContentMD5"}
_MISSING = {"404", "NoSuchKey", "NotFound"}
_CONFLICTS = {"409", "ConditionalRequestConflict", "UnknownError"}  # the last one is a 500 of Ceph's radosgw


def _as_received(version: str) -> str:
    return version


def _without_quotes(version: str) -> str:
    """Ceph's radosgw 16 compares If-Match with an ETag that has no quotes."""
    return version.strip('"')


Form = Callable[[str], str]
_FORMS: dict[Condition, tuple[Form, ...]] = {"IfNoneMatch": (_as_received,), "IfMatch": (_as_received, _without_quotes)}
_conditional_writes: dict[tuple[S3Client, str, Condition], Form | None] = {}  # probed and logged once per process


def object_tags(location: S3Address) -> dict[str, str]:
    """Returns the ETags of all objects below a prefix by relative key, or of a single object under ``"."``."""
    with translated(location.name):
        pages = s3_client().get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=location.key)
        objects = [item for page in pages for item in _listed(page)]
    below = f"{location.key}/" if location.key else ""
    tags = {item["Key"]: item["ETag"] for item in objects if not item["Key"].endswith("/")}
    if location.key in tags:
        return {".": tags[location.key]}
    return {key.removeprefix(below): tag for key, tag in tags.items() if key.startswith(below)}


class S3Store:
    """Objects below ``s3://bucket/prefix``.

    Args:
        bucket: name of the bucket.
        prefix: prefix of all keys.
        patient: False to raise an error within seconds instead of retrying for minutes.
    """

    def __init__(self, bucket: str, prefix: str, *, patient: bool = True) -> None:
        self._bucket, self._prefix, self._patient = bucket, prefix.strip("/"), patient

    @property
    def address(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, key: str) -> bytes | None:
        found = self.get_version(key)
        return None if found is None else found[0]

    def get_version(self, key: str) -> tuple[bytes, str] | None:
        with translated(self._where(key)):
            for left in reversed(range(_READS if self._patient else 1)):
                try:
                    answer = self._client().get_object(Bucket=self._bucket, Key=self._key(key))
                    return answer["Body"].read(), answer["ETag"]
                except ClientError as error:
                    if error_code(error) in _MISSING:
                        return None
                    raise
                except _BROKEN_OFF:  # boto3 retries only until the answer starts
                    if not left:
                        raise
        raise AssertionError("unreachable")

    def put(self, key: str, data: bytes) -> None:
        with translated(self._where(key)):
            for left in reversed(range(_WRITES)):
                try:
                    self._client().put_object(Bucket=self._bucket, Key=self._key(key), Body=data)
                    return
                except KeyError:  # no ETag: Swift's answer to a write that a later one has overtaken
                    if not left:
                        raise

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self._form("IfNoneMatch"):
            return self._put_conditionally(key, data, "IfNoneMatch", "*")
        if self.get(key) is not None:
            return False
        return self._put_and_stays(key, data)

    def put_if_unchanged(self, key: str, data: bytes, version: str) -> bool:
        if form := self._form("IfMatch"):
            return self._put_conditionally(key, data, "IfMatch", form(version))
        found = self.get_version(key)
        if found is None or found[1] != version:
            return False
        return self._put_and_stays(key, data)

    def upload(self, path: Path, key: str) -> None:
        with translated(self._where(key)):
            self._client().upload_file(str(path), self._bucket, self._key(key), Config=_TRANSFER)

    def local_copy(self, key: str, destination: Path) -> Path | None:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with translated(self._where(key)):
            try:
                self._client().download_file(self._bucket, self._key(key), str(destination), Config=_TRANSFER)
            except ClientError:
                # A download starts with HEAD, whose error does not tell a missing object from a missing bucket.
                if self._says_missing(key):
                    return None
                raise
        return destination

    def _says_missing(self, key: str) -> bool:
        try:
            self._client().get_object(Bucket=self._bucket, Key=self._key(key), Range="bytes=0-0")["Body"].close()
        except ClientError as error:
            if error_code(error) in _MISSING:
                return True
            raise
        return False

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        with translated(self._where(prefix)):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefixed(checked_prefix(prefix))):
                # A key that ends with / is an empty object with which consoles represent a folder.
                for item in _listed(page):
                    if not item["Key"].endswith("/"):
                        yield StoredObject(
                            self._relative(item["Key"]), item["Size"], item["LastModified"].timestamp(), item["ETag"]
                        )

    def keys(self, prefix: str) -> Iterator[str]:
        return (found.key for found in self.objects(prefix))

    def delete(self, key: str) -> None:
        with translated(self._where(key)):
            self._client().delete_object(Bucket=self._bucket, Key=self._key(key))

    def delete_all(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            some = {self._key(key): key for key in keys[start : start + _DELETED_AT_ONCE]}
            for left in some.keys() - self._deleted_at_once(some.keys()):
                self.delete(some[left])

    def _deleted_at_once(self, keys: Collection[str]) -> set[str]:
        """Returns the keys that the server says it has deleted; none if it does not know the request."""
        objects: Any = [{"Key": key} for key in keys]
        with translated(self._where("")):
            try:
                answer = self._client().delete_objects(Bucket=self._bucket, Delete={"Objects": objects})
            except ClientError as error:
                if error_code(error) not in _NOT_AT_ONCE:
                    raise
                return set()
            return {item["Key"] for item in answer.get("Deleted", [])}

    def unfinished(self, prefix: str) -> Iterator[StoredObject]:
        with translated(self._where(prefix)):
            pages = self._client().get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefixed(checked_prefix(prefix))):
                for item in page.get("Uploads", []):
                    key, begun = self._relative(item["Key"]), item["Initiated"].timestamp()
                    yield StoredObject(key, self._size_of_parts(item["Key"], item["UploadId"]), begun, item["UploadId"])

    def discard(self, unfinished: StoredObject) -> None:
        with translated(self._where(unfinished.key)):
            try:
                self._client().abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key(unfinished.key), UploadId=unfinished.version
                )
            except ClientError as error:
                if error_code(error) != "NoSuchUpload":
                    raise

    def _size_of_parts(self, key: str, upload: str) -> int:
        pages = self._client().get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=upload)
        try:
            return sum(part["Size"] for page in pages for part in page.get("Parts", []))
        except ClientError as error:
            if error_code(error) == "NoSuchUpload":  # the upload ended during the listing
                return 0
            raise

    def _client(self) -> S3Client:
        return s3_client() if self._patient else s3_client(patient=False)

    def _relative(self, key: str) -> str:
        return key[len(self._prefix) + 1 :] if self._prefix else key

    def _form(self, condition: Condition) -> Form | None:
        """Returns the form in which the server takes the version of a condition, or None if it takes none.

        Some servers reject the header, some ignore it, and some refuse the right version, too.
        """
        known = (self._client(), self._bucket, condition)
        if known not in _conditional_writes:
            honoured = (form for form in _FORMS[condition] if self._honours(condition, form))
            _conditional_writes[known] = next(honoured, None)
            if _conditional_writes[known] is None:
                problem = "%s does not support conditional writes (%s), so concurrent writers are detected late"
                log.warning(problem, self.address, "If-None-Match" if condition == "IfNoneMatch" else "If-Match")
        return _conditional_writes[known]

    def _honours(self, condition: Condition, form: Form) -> bool:
        """Returns True if the server writes an object where the condition is true, and only there."""
        probe = f"artifacts/probe/{uuid.uuid4().hex}/object"  # where a cleanup removes it if this process is killed
        true = false = "*"
        try:
            with translated(self._where(probe)):
                if condition == "IfMatch":
                    self.put(probe, b"")
                    found = self.get_version(probe)
                    true, false = found[1] if found else "", '"0"'
                return self._put_conditionally(probe, b"", condition, form(true)) and not self._put_conditionally(
                    probe, b"", condition, form(false)
                )
        except ConfigError as error:
            if not (isinstance(error.__cause__, ClientError) and error_code(error.__cause__) in NOT_SUPPORTED):
                raise
            return False
        finally:
            self.delete(probe)

    def _put_conditionally(self, key: str, data: bytes, condition: Condition, version: str) -> bool:
        conditions: Any = {condition: version}
        with translated(self._where(key)):
            for _ in range(10):
                try:
                    self._client().put_object(Bucket=self._bucket, Key=self._key(key), Body=data, **conditions)
                    return True
                except ClientError as error:
                    # The answer to If-Match without an object is 404.
                    if error_code(error) in ("PreconditionFailed", "412", *_MISSING):
                        return False
                    if error_code(error) not in _CONFLICTS:
                        raise
        raise StoreUnavailable(f"{self._where(key)}: ten conflicting writes in a row")

    def _put_and_stays(self, key: str, data: bytes) -> bool:
        """Writes an object without a condition. Returns False if another writer, who also found it true, was later."""
        self.put(key, data)
        time.sleep(_SECONDS_TO_WRITE)
        return self.get(key) == data

    def _key(self, key: str) -> str:
        return self._prefixed(checked_key(key))

    def _prefixed(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _where(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefixed(key)}"


def _listed(page: ListObjectsV2OutputTypeDef) -> list[ObjectTypeDef]:
    """The objects on a page of a listing. A web page that happens to be XML would otherwise list none."""
    if "IsTruncated" not in page:
        raise KeyError("IsTruncated")
    return page.get("Contents", [])
