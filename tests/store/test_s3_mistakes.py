"""Settings of S3 with which no attempt can succeed: exit code 2 in one line, not a retry."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.credentials import Credentials

from tests.cluster.s3.authority import new_authority, server_context
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.store import open_store

Settings = Callable[[dict[str, str]], None]
NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
WORKLOAD = {**NO_KEYS, "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/stages"}
CONTAINER = {**NO_KEYS, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/"}


@contextmanager
def refusing(code: str, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Runs a server that refuses every request with a code of S3 or STS, and yields its address."""
    body = f"<Error><Code>{code}</Code><Message>of the test</Message></Error>"
    with answering(404 if code == "NoSuchKey" else 400, body, tls) as address:
        yield address


@contextmanager
def answering(status: int, body: str, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(
                (f"<Errors>{body}</Errors>" if self.command == "POST" and status != 200 else body).encode()
            )

        do_POST = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Keeps the tests' output readable."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def settings(aws_environment: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Sets variables; an empty value unsets one, and FOLDER stands for the test's folder."""
    aws_environment.setenv("NO_PROXY", "localhost,127.0.0.1")

    def select(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            if value:
                aws_environment.setenv(name, value.replace("FOLDER", str(tmp_path)))
            else:
                aws_environment.delenv(name, raising=False)

    return select


@pytest.mark.parametrize(
    "endpoint",
    ["http://host:", "http://host:0", "http://host:99999", "http://host:word", " ", "http://", "host:9000", "ftp://host:21",
     "http://[::1", "http://ho st", "http://host:1\n", "http://host/?a=b"],
)  # fmt: skip
def test_wrong_endpoint_is_a_config_error(settings: Settings, endpoint: str) -> None:
    settings({"AWS_ENDPOINT_URL": endpoint})
    with pytest.raises(ConfigError, match=r"^s3\S*: "):
        open_store("s3://bucket/store").get("key")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"AWS_CA_BUNDLE": "FOLDER/missing.pem"}, "AWS_CA_BUNDLE .* missing.pem"),
        ({"AWS_CA_BUNDLE": "FOLDER"}, "AWS_CA_BUNDLE "),
        ({"AWS_CA_BUNDLE": "FOLDER/config"}, "AWS_CA_BUNDLE .*/config"),
        ({"AWS_REQUEST_CHECKSUM_CALCULATION": "many"}, "request_checksum_calculation.* many"),
        ({"AWS_RESPONSE_CHECKSUM_VALIDATION": "many"}, "response_checksum_validation.* many"),
        ({"AWS_STS_REGIONAL_ENDPOINTS": "many"}, "many"),
        ({**WORKLOAD, "AWS_WEB_IDENTITY_TOKEN_FILE": "FOLDER/missing"}, "credentials .*/missing"),
        ({**WORKLOAD, "AWS_WEB_IDENTITY_TOKEN_FILE": "FOLDER"}, "credentials .*Is a directory"),
        ({**CONTAINER, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "FOLDER/missing"}, "credentials .*/missing"),
        ({**NO_KEYS, "AWS_CONFIG_FILE": "FOLDER/config", "AWS_PROFILE": "program"}, "credentials .*/no/program"),
        ({**NO_KEYS, "AWS_CONFIG_FILE": "FOLDER/config", "AWS_PROFILE": "sso"}, "SSO"),
    ],
)
def test_setting_that_cannot_work_is_a_config_error(
    settings: Settings, tmp_path: Path, variables: dict[str, str], named: str
) -> None:
    (tmp_path / "config").write_text(
        "[profile program]\ncredential_process = /no/program\n[profile sso]\nsso_start_url = https://sso.test\n"
        "sso_region = us-east-1\nsso_account_id = 1\nsso_role_name = role\n"
    )
    settings(variables)
    with pytest.raises(ConfigError, match=f"^s3\\S*: .*{named.replace(' ', '.*')}") as error:
        open_store("s3://bucket/store").get("key")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ExpiredTokenException", ConfigError),
        ("InvalidIdentityToken", ConfigError),
        ("IDPRejectedClaim", ConfigError),
        ("ValidationError", ConfigError),
        ("InternalFailure", StoreUnavailable),
        ("Throttling", StoreUnavailable),
    ],
)
def test_refused_workload_identity_is_a_config_error(
    settings: Settings, tmp_path: Path, code: str, kind: type[Exception]
) -> None:
    (tmp_path / "token").write_text("token")
    with refusing(code) as address:
        settings({**WORKLOAD, "AWS_WEB_IDENTITY_TOKEN_FILE": "FOLDER/token", "AWS_ENDPOINT_URL_STS": address})
        with pytest.raises(kind, match=f"answered {code}: of the test"):
            open_store("s3://bucket/store").get("key")


def test_credentials_that_have_expired_on_arrival_are_a_config_error(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    body = "<Result><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>x</AccessKeyId><SecretAccessKey>x"
    body += (
        "</SecretAccessKey><SessionToken>x</SessionToken><Expiration>2000-01-01T00:00:00Z</Expiration></Credentials>"
    )
    with answering(200, f"{body}</AssumeRoleWithWebIdentityResult></Result>") as address:
        settings({**WORKLOAD, "AWS_WEB_IDENTITY_TOKEN_FILE": "FOLDER/token", "AWS_ENDPOINT_URL_STS": address})
        with pytest.raises(ConfigError, match=r"clock.*still expired"):
            open_store("s3://bucket/store").get("key")


@pytest.mark.parametrize(
    "code", ["InvalidToken", "MethodNotAllowed", "InvalidObjectState", "KeyTooLongError", "KMS.DisabledException"]
)
def test_lasting_refusal_of_the_store_is_a_config_error(settings: Settings, code: str) -> None:
    with refusing(code) as address:
        settings({"AWS_ENDPOINT_URL": address})
        with pytest.raises(ConfigError, match=f"the store answered {code}: of the test"):
            open_store("s3://bucket/store").get("key")


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[str]:
    """Address of a server whose certificate is signed by a private authority, that of ``authority.pem``."""
    for name, text in new_authority().items():
        (tmp_path / name).write_text(text)
    with refusing("NoSuchKey", server_context(tmp_path, ["127.0.0.1"], tmp_path)) as address:
        yield address


def test_certificate_of_an_unknown_authority_is_a_config_error(settings: Settings, tls_server: str) -> None:
    settings({"AWS_ENDPOINT_URL": tls_server})
    with pytest.raises(ConfigError, match=r"certificate verify failed.*AWS_CA_BUNDLE"):
        open_store("s3://bucket/store").get("key")


def test_private_authority_is_accepted(settings: Settings, tls_server: str) -> None:
    settings({"AWS_ENDPOINT_URL": tls_server, "AWS_CA_BUNDLE": "FOLDER/authority.pem"})
    assert open_store("s3://bucket/store").get("key") is None


def test_https_to_a_port_without_it_is_a_config_error(settings: Settings) -> None:
    with refusing("NoSuchKey") as address:
        settings({"AWS_ENDPOINT_URL": address.replace("http:", "https:")})
        with pytest.raises(ConfigError, match="wrong version number"):
            open_store("s3://bucket/store").get("key")


def test_role_that_asks_for_a_code_is_a_config_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_terminal(_: object) -> None:
        raise EOFError  # as getpass does

    settings({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    monkeypatch.setattr(Credentials, "get_frozen_credentials", no_terminal)
    with pytest.raises(ConfigError, match=r"^s3: expected a role without MFA \(mfa_serial\)"):
        open_store("s3://bucket/store").get("key")
