"""Settings of an S3 store that boto3 does not read itself: the environment variables ``ZESHEL_S3_*``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.safe_text import quoted

ENV_PREFIX = "ZESHEL_S3_"
WRITES = ("PutObject", "CreateMultipartUpload", "CopyObject")
"""The operations that create an object. Parts of an upload take what its beginning says."""

_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")


def _readable(name: str) -> str:
    if name in _ARCHIVES:
        raise ValueError("expected a class whose objects can be read at once, because stages read what others wrote")
    return name


class S3Settings(BaseSettings):
    """How objects are written, and how a bucket is addressed. Each variable is ``ZESHEL_S3_`` plus the field's name."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None, description="How the server encrypts what is written. Empty: as the bucket says."
    )
    kms_key: str | None = Field(
        None,
        max_length=2048,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9:/_.-]*$",
        description="Id, alias or ARN of the KMS key. Empty: the key of the bucket, or AWS's own.",
    )
    storage_class: Annotated[str, AfterValidator(_readable)] | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="Storage class of what is written."
    )
    addressing: Literal["path", "virtual"] | None = Field(
        None, description="Whether the bucket is part of the path or of the host name. Empty: boto3's choice."
    )

    @model_validator(mode="after")
    def _key_is_of_kms(self) -> S3Settings:
        if self.kms_key is not None and not (self.encryption or "").startswith("aws:kms"):
            raise ValueError(
                f"expected {ENV_PREFIX}ENCRYPTION aws:kms or aws:kms:dsse, because {ENV_PREFIX}KMS_KEY is set"
            )
        return self

    def arguments(self) -> dict[str, str]:
        """Return the arguments of each of :data:`WRITES`."""
        named = {
            "ServerSideEncryption": self.encryption,
            "SSEKMSKeyId": self.kms_key,
            "StorageClass": self.storage_class,
        }
        return {name: value for name, value in named.items() if value is not None}

    def config(self) -> dict[str, Any]:
        """Return what ``botocore.config.Config(s3=...)`` takes."""
        return {} if self.addressing is None else {"addressing_style": self.addressing}


def read_s3_settings() -> S3Settings:
    """Read the settings from the environment.

    Raises:
        ConfigError: a value is wrong. The message names its variable.
    """
    try:
        return S3Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            raise ConfigError(f"s3: {message}; got {quoted(problem['input'].get('encryption', ''))}") from None
        variable = f"{ENV_PREFIX}{str(problem['loc'][0]).upper()}"
        raise ConfigError(f"s3: {variable}: {message}; got {quoted(str(problem['input']))}") from None
