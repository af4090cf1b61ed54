"""A file in an S3-compatible bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from zeshel_tasks.download.transfer import Body, Interrupted
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import S3Address
from zeshel_tasks.store.s3_client import s3_client, translated

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import HeadObjectOutputTypeDef

_CHUNK = 2**20
_MISSING = {"404", "NoSuchKey", "NotFound", "NoSuchBucket"}


class S3Source:
    """An object in a bucket."""

    def __init__(self, location: S3Address) -> None:
        self.name, self._bucket, self._key = location.name, location.bucket, location.key
        self._etag: str | None = None
        if not self._key:
            raise ConfigError(f"source: expected s3://bucket/key of a file, got {self.name!r}")

    @contextmanager
    def open(self, start: int) -> Iterator[Body]:
        """Read the object from byte ``start``. boto3 retries before this raises.

        Raises:
            Interrupted: the stream broke.
            ConfigError: the object does not exist or is not accessible.
            StoreUnavailable: the store does not answer.
        """
        head = self._head()
        if head["ETag"] != self._etag:
            start, self._etag = 0, head["ETag"]
        with translated(self.name):
            range_: dict[str, Any] = {"Range": f"bytes={start}-"} if start else {}
            # IfMatch makes the request fail if the object was replaced.
            answer = s3_client().get_object(Bucket=self._bucket, Key=self._key, IfMatch=self._etag, **range_)
        with closing(answer["Body"]) as stream:
            try:
                yield Body(start, head["ContentLength"], stream.iter_chunks(_CHUNK))
            except BotoCoreError as error:
                raise Interrupted(str(error)) from error

    def identity(self) -> str:
        """``etag:...``.

        Raises:
            ConfigError: the object does not exist or is not accessible.
            StoreUnavailable: the store does not answer.
        """
        return f"etag:{self._head()['ETag']}"

    def _head(self) -> HeadObjectOutputTypeDef:
        with translated(self.name):
            try:
                return s3_client().head_object(Bucket=self._bucket, Key=self._key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _MISSING:
                    raise ConfigError(f"source: no such object: {self.name} (a prefix ends with '/')") from error
                raise
