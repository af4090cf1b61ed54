"""boto3's client, and what its errors mean.

boto3's own settings apply: environment variables, then the profile in AWS's config file. ``s3_settings.py`` has those
that boto3 lacks. :func:`s3_client` says which values we choose if the user does not, and which few we always choose.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from boto3.exceptions import Boto3Error, S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    EndpointProviderError,
    InvalidChecksumConfigError,
    InvalidConfigError,
    InvalidDefaultsMode,
    InvalidProxiesConfigError,
    InvalidRetryConfigurationError,
    InvalidS3AddressingStyleError,
    InvalidS3UsEast1RegionalEndpointConfigError,
    InvalidSTSRegionalEndpointsConfigError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from zeshel_tasks.credentials import check_credentials, check_files
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.location import is_server
from zeshel_tasks.proxies import check_proxies, proxy_for, refused_by_proxy
from zeshel_tasks.store.s3_settings import WRITES, S3Settings, read_s3_settings
from zeshel_tasks.text.redaction import without_secrets
from zeshel_tasks.text.safe_text import quoted

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

READ_TIMEOUT_SECONDS = 60
"""A request to a server that is silent for this long is retried."""

# For requests of a page that someone waits for. Two attempts at a silent server take 6 seconds and a pause.
_IMPATIENT = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=2, read_timeout=3)

_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)  # fmt: skip
# Argument of Config -> (name of the user's setting, value).
_CHECKSUMS_WHEN_REQUIRED = {
    name: (name, "when_required") for name in ("request_checksum_calculation", "response_checksum_validation")
}
_WRONG_SETTINGS = (
    ConfigNotFound,
    ConfigParseError,
    EndpointProviderError,
    InvalidChecksumConfigError,
    InvalidConfigError,
    InvalidDefaultsMode,
    InvalidProxiesConfigError,
    InvalidRetryConfigurationError,
    InvalidS3AddressingStyleError,
    InvalidS3UsEast1RegionalEndpointConfigError,
    InvalidSTSRegionalEndpointsConfigError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
_REFUSED = {
    "401", "403", "AccessDenied", "Forbidden", "Unauthorized", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "NoSuchBucket", "InvalidBucketName", "AuthorizationHeaderMalformed", "PermanentRedirect", "301",
    "AccountProblem", "AllAccessDisabled", "NotSignedUp", "MethodNotAllowed", "405",
    "InvalidObjectState", "KeyTooLongError", "EntityTooLarge", "InvalidStorageClass",  # InvalidObjectState: archived
    # of STS, which exchanges the token of a workload's identity for credentials
    "ExpiredTokenException", "InvalidToken", "InvalidIdentityToken", "IDPRejectedClaim", "InvalidClientTokenId",
    "UnrecognizedClientException", "ValidationError", "MalformedPolicyDocument", "PackedPolicyTooLarge",
    "RegionDisabledException",
}  # fmt: skip
# What OpenSSL says if the server's certificate, or the protocol of its port, is not the expected one.
_WRONG_CERTIFICATE = re.compile("CERTIFICATE_VERIFY_FAILED|doesn't match|WRONG_VERSION_NUMBER|UNSUPPORTED_PROTOCOL")
NOT_SUPPORTED = {"NotImplemented", "501", "InvalidArgument", "400", "BadRequest", "InvalidRequest"}


@functools.cache
def s3_client(*, patient: bool = True) -> S3Client:
    """Returns the process's S3 client, which is thread-safe.

    Unless the user sets them, it makes up to 11 attempts in the mode ``standard``, and it uses checksums only where S3
    requires them if an endpoint is set. Timeouts and the signing of what is sent are always ours. An impatient client
    tries twice and waits only for seconds, whatever the user sets.
    """
    check_proxies(("http", "https"))
    check_credentials(_CREDENTIALS)
    check_files(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"))
    settings = read_s3_settings()
    with translated("s3"), _unreadable_files_named():
        core = botocore.session.get_session()
        if bundle := core.get_config_variable("ca_bundle"):
            _check_certificates(bundle)
        session = boto3.session.Session(botocore_session=core)
        retries: Any = _unless_set(
            core, {"mode": ("retry_mode", "standard"), "total_max_attempts": ("max_attempts", 11)}
        )
        # Send a SHA-256 that the server checks; boto3 omits it by default over TLS.
        of_s3: Any = {"payload_signing_enabled": True, **settings.config()}
        config = Config(
            retries=retries,
            connect_timeout=10,
            read_timeout=READ_TIMEOUT_SECONDS,
            max_pool_connections=16,
            s3=of_s3,
        )
        address = session.client("s3").meta.endpoint_url
        has_an_endpoint = address != _address_of_aws(session)
        if _is_direct(address):
            config = config.merge(Config(proxies={}))  # botocore does not know networks in NO_PROXY
        if has_an_endpoint:
            # Some S3-compatible stores reject the CRC32 trailers that boto3 sends by default.
            config = config.merge(Config(**_unless_set(core, _CHECKSUMS_WHEN_REQUIRED)))
        client = session.client("s3", config=config if patient else config.merge(_IMPATIENT))
        if has_an_endpoint:
            client.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
        if not is_server(client.meta.endpoint_url):
            shown = quoted(without_secrets(client.meta.endpoint_url))
            raise ConfigError(f"s3: expected an endpoint like https://host:9000, got {shown}")
        client.meta.events.register("after-call.s3.PutObject", _check_stored)
        _write_as_set(client, settings)
        # Now, because later a missing file or program could not be told from one of the caller's.
        if credentials := session.get_credentials():
            credentials.get_frozen_credentials()
        return client


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turns boto3's exceptions into ours: ConfigError if the server refused, else StoreUnavailable."""
    try:
        yield
    except _WRONG_SETTINGS as error:
        raise ConfigError(
            f"{where}: {error} (boto3 reads the AWS environment variables and AWS's config file)"
        ) from error
    except ClientError as error:
        raise _answered(where, error) from error
    except S3UploadFailedError as error:  # it hides the store's answer
        cause = error.__context__
        answer = _answered(where, cause) if isinstance(cause, ClientError) else StoreUnavailable(f"{where}: {error}")
        raise answer from error
    except (ValueError, ParamValidationError) as error:  # botocore raises these for a malformed endpoint or bucket name
        raise ConfigError(f"{where}: {error}") from error
    except ProxyConnectionError as error:
        if found := re.search(r"Tunnel connection failed: ((403|407)[\w ]*)", str(error.kwargs.get("error"))):
            raise ConfigError(refused_by_proxy(where, found[1])) from error
        raise StoreUnavailable(f"{where}: {error}") from error
    except SSLError as error:
        if _WRONG_CERTIFICATE.search(str(error)):
            raise ConfigError(f"{where}: {error} (AWS_CA_BUNDLE names the file of the accepted authorities)") from error
        raise StoreUnavailable(f"{where}: {error}") from error
    except (BotoCoreError, Boto3Error, HTTPError) as error:  # urllib3 raises its own if an error response breaks off
        raise StoreUnavailable(f"{where}: {error}") from error
    except (LookupError, RecursionError) as error:  # a web page, or a redirect to itself
        problem = f"expected the answer of an S3 store, got another one ({type(error).__name__})"
        raise StoreUnavailable(f"{where}: {problem}") from error
    except RuntimeError as error:
        if "credentials are still expired" not in str(error):
            raise
        expected = "expected credentials that are valid by this machine's clock"
        raise ConfigError(f"{where}: {expected}, got: {error}") from error


def _answered(where: str, error: ClientError) -> ConfigError | StoreUnavailable:
    if error_code(error) == "407":
        return ConfigError(refused_by_proxy(where, "407 Proxy Authentication Required"))
    message = f"{where}: the store answered {error_code(error)}: {error.response.get('Error', {}).get('Message', '')}"
    # KMS.NotFoundException, KMS.DisabledException: a key that the store cannot use.
    refused = error_code(error) in _REFUSED | NOT_SUPPORTED or error_code(error).startswith("KMS.")
    return ConfigError(message) if refused else StoreUnavailable(message)


def error_code(error: ClientError) -> str:
    """Returns the code of a store's answer, such as ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _check_certificates(bundle: str) -> None:
    try:
        ssl.create_default_context(cafile=bundle)
    except OSError as error:
        expected = "AWS_CA_BUNDLE or ca_bundle: expected a file of certificates"
        raise ConfigError(f"s3: {expected}, got {quoted(bundle)}: {error}") from error


@contextmanager
def _unreadable_files_named() -> Iterator[None]:
    try:
        yield
    except BotoCoreError:  # some of them are also an OSError
        raise
    except OSError as error:
        raise ConfigError(f"s3: expected credentials that can be read, got: {error}") from error
    except EOFError as error:  # boto3 asks for the code of a device
        raise ConfigError("s3: expected a role without MFA (mfa_serial), since nobody can type its code") from error


def _check_stored(http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
    """A proxy or a web server may answer 200 to everything. A store answers with the ETag of the new object."""
    if http_response.status_code < 300 and "ETag" not in parsed:
        raise KeyError("ETag")


def _write_as_set(client: S3Client, settings: S3Settings) -> None:
    """Gives every operation that creates an object the settings, also those of boto3's own uploads."""

    def add(params: dict[str, Any], **_: Any) -> None:
        params.update(settings.arguments())

    for operation in WRITES:
        client.meta.events.register(f"before-parameter-build.s3.{operation}", add)


def _add_md5(request: Any, **_: Any) -> None:
    """DeleteObjects requires a checksum. boto3 sends CRC32, but servers that do not know it require MD5 (Swift)."""
    digest = hashlib.md5(request.data, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _is_direct(address: str) -> bool:
    endpoint = urlsplit(address)
    return is_server(address) and proxy_for(endpoint.scheme, endpoint.hostname or "", endpoint.port) is None


def _unless_set(core: botocore.session.Session, values: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Returns the values whose setting is neither in the environment (``AWS_RETRY_MODE``) nor in the profile."""
    profile = core.get_scoped_config()
    return {
        argument: value
        for argument, (name, value) in values.items()
        if not (os.environ.get(f"AWS_{name.upper()}") or profile.get(name))
    }


def _address_of_aws(session: boto3.session.Session) -> str:
    """Returns the endpoint of AWS, whichever the environment or the profile sets."""
    without: dict[str, Any] = {"ignore_configured_endpoint_urls": True}  # types-boto3 does not know it
    return str(session.client("s3", config=Config(**without)).meta.endpoint_url)
