"""Behaviour that only occurs with an S3 server."""

import logging
import shutil
import socket
import threading
from collections.abc import Callable, Collection
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import certifi
import pytest

from tests.store.s3_proxy import Answer, Forward, Request, refusal
from tests.support.s3_servers.chosen import needs_conditional_writes, needs_moto
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.location import S3Address, store_location
from zeshel_tasks.store import s3
from zeshel_tasks.store.s3 import S3Store, object_tags
from zeshel_tasks.store.s3_client import s3_client

Behind = Callable[[Callable[[Request, Forward], Answer]], S3Store]


def every_use_raises(
    error: type[Exception], match: str, store: S3Store, folder: Path, *, but: Collection[str] = ()
) -> None:
    path = folder / "file"
    path.write_bytes(b"x")
    uses: dict[str, Callable[[], object]] = {
        "get": lambda: store.get("key"),
        "put": lambda: store.put("key", b"x"),
        "put_if_absent": lambda: store.put_if_absent("key", b"x"),
        "upload": lambda: store.upload(path, "key"),
        "local_copy": lambda: store.local_copy("key", folder / "copy"),
        "keys": lambda: list(store.keys("")),
        "delete": lambda: store.delete("key"),
    }
    for name, use in uses.items():
        if name not in but:
            with pytest.raises(error, match=match):
                use()


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the log messages of our code, since libraries may log, too."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("zeshel_tasks")]


CONDITIONS = {"if-none-match", "if-match"}


def forgets_conditions(request: Request, forward: Forward) -> Answer:
    for condition in CONDITIONS:
        request.headers.pop(condition, None)
    return forward(request)


def refuses_conditions(request: Request, forward: Forward) -> Answer:
    return refusal(501, "NotImplemented") if CONDITIONS & request.headers.keys() else forward(request)


def calls_conditions_invalid(request: Request, forward: Forward) -> Answer:
    return refusal(400, "InvalidArgument") if CONDITIONS & request.headers.keys() else forward(request)


def finds_conditions_false(request: Request, forward: Forward) -> Answer:
    return refusal(412, "PreconditionFailed") if CONDITIONS & request.headers.keys() else forward(request)


WITHOUT_CONDITIONS = [
    pytest.param(forgets_conditions, marks=needs_moto),
    refuses_conditions,
    calls_conditions_invalid,
    finds_conditions_false,
]


def compares_with_quotes(request: Request, forward: Forward) -> Answer:
    """Like Ceph's radosgw 16: it compares If-Match with an ETag that has no quotes."""
    if (given := request.headers.get("if-match")) is not None:
        request.headers["if-match"] = "another" if given.startswith('"') else f'"{given}"'
    return forward(request)


@needs_moto
def test_put_if_unchanged_works_where_an_etag_in_quotes_is_refused(
    behind_proxy: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    store = behind_proxy(compares_with_quotes)
    store.put("key", b"first")
    for data in (b"second", b"third"):
        found = store.get_version("key")
        assert found is not None
        assert store.put_if_unchanged("key", data, found[1]) is True
        assert store.put_if_unchanged("key", b"late", found[1]) is False
    assert store.get("key") == b"third"
    assert own_messages(caplog) == []


@pytest.mark.parametrize("server", WITHOUT_CONDITIONS)
def test_put_if_absent_works_without_conditional_writes_and_warns_once(
    behind_proxy: Behind, caplog: pytest.LogCaptureFixture, server: Callable[[Request, Forward], Answer]
) -> None:
    store = behind_proxy(server)
    same_bucket = S3Store(store.address.removeprefix("s3://").partition("/")[0], "another/prefix")
    with caplog.at_level(logging.WARNING, logger="zeshel_tasks"):
        assert store.put_if_absent("key", b"first") is True
        assert store.put_if_absent("key", b"second") is False
        assert same_bucket.put_if_absent("key", b"other") is True
    assert store.get("key") == b"first"
    assert list(store.keys("")) == ["key"], "the probe is removed"
    assert own_messages(caplog) == [
        f"{store.address} does not support conditional writes (If-None-Match), so concurrent writers are detected late"
    ]


@pytest.mark.parametrize("server", WITHOUT_CONDITIONS)
def test_put_if_unchanged_works_without_conditional_writes_and_warns_once(
    behind_proxy: Behind, caplog: pytest.LogCaptureFixture, server: Callable[[Request, Forward], Answer]
) -> None:
    store = behind_proxy(server)
    store.put("key", b"first")
    found = store.get_version("key")
    assert found is not None
    with caplog.at_level(logging.WARNING, logger="zeshel_tasks"):
        assert store.put_if_unchanged("key", b"second", found[1]) is True
        assert store.put_if_unchanged("key", b"third", found[1]) is False
    assert store.get("key") == b"second"
    assert list(store.keys("")) == ["key"], "the probe is removed"
    assert own_messages(caplog) == [
        f"{store.address} does not support conditional writes (If-Match), so concurrent writers are detected late"
    ]


@needs_moto
@pytest.mark.parametrize("is_there", [False, True])
def test_one_of_two_racing_writers_wins_without_conditional_writes(
    behind_proxy: Behind, s3_endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """The second one is late: it writes when the first one has written and waits for it."""
    first_waits, second_wrote, together, writes = threading.Event(), threading.Event(), threading.Barrier(2), count()
    won: dict[bytes, bool] = {}

    def server(request: Request, forward: Forward) -> Answer:
        if not (request.method == "PUT" and request.path.endswith("/key")):
            return forgets_conditions(request, forward)
        together.wait(20)
        if next(writes) == 0:
            return forward(request)
        first_waits.wait(5)
        answer = forward(request)
        second_wrote.set()
        return answer

    def sleep(_: float) -> None:
        first_waits.set()
        second_wrote.wait(20)

    monkeypatch.setattr(s3, "time", SimpleNamespace(sleep=sleep))
    store = behind_proxy(server)
    if is_there:
        boto3.client("s3", endpoint_url=s3_endpoint).put_object(Bucket=bucket, Key="some/prefix/key", Body=b"before")
    found = store.get_version("key")

    def attempt(name: bytes) -> None:
        won[name] = store.put_if_unchanged("key", name, found[1]) if found else store.put_if_absent("key", name)

    threads = [threading.Thread(target=attempt, args=(name,)) for name in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = store.get("key")
    assert stored is not None
    assert won == {b"one": stored == b"one", b"two": stored == b"two"}


@needs_conditional_writes
def test_conditional_writes_cause_no_warning(
    bucket: str, aws_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = S3Store(bucket, "")
    assert store.put_if_absent("key", b"first") is True
    assert own_messages(caplog) == []
    assert list(store.keys("")) == ["key"]


@needs_conditional_writes
@pytest.mark.parametrize("conflict", [(409, "ConditionalRequestConflict"), (500, "UnknownError")])
def test_conditional_write_conflict_is_retried(behind_proxy: Behind, conflict: tuple[int, str]) -> None:
    conflicts = [refusal(*conflict)] * 2

    def server(request: Request, forward: Forward) -> Answer:
        conditional_write_of_key = "if-none-match" in request.headers and request.path.endswith("/key")
        return conflicts.pop() if conditional_write_of_key and conflicts else forward(request)

    assert behind_proxy(server).put_if_absent("key", b"x") is True
    assert not conflicts


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "AccessDenied"])
def test_refused_credentials_raise_config_error(behind_proxy: Behind, tmp_path: Path, code: str) -> None:
    store = behind_proxy(lambda request, forward: refusal(403, code))
    every_use_raises(ConfigError, rf"^s3://test-\w+/some/prefix.*the store answered (403|{code})", store, tmp_path)


def test_missing_bucket_raises_config_error(s3_endpoint: str, tmp_path: Path) -> None:
    store = S3Store("no-such-bucket", "prefix")
    # A download first asks for the object's size. That answer does not tell a missing bucket from a missing object.
    every_use_raises(ConfigError, "s3://no-such-bucket/.*NoSuchBucket", store, tmp_path, but=["local_copy"])


def test_invalid_bucket_name_raises_config_error(s3_endpoint: str, tmp_path: Path) -> None:
    every_use_raises(
        ConfigError, "(?s)s3://no bucket!/.*Invalid bucket name", S3Store("no bucket!", "prefix"), tmp_path
    )


def test_missing_credentials_raise_config_error(bucket: str, aws_environment: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        aws_environment.delenv(name)
    with pytest.raises(ConfigError, match="boto3 reads the AWS environment variables"):
        S3Store(bucket, "").get("key")


def test_invalid_endpoint_raises_config_error(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL", "not an address")
    with pytest.raises(ConfigError, match="not an address"):
        S3Store("bucket", "").get("key")


def test_unreachable_server_raises_store_unavailable(aws_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    aws_environment.setenv("AWS_ENDPOINT_URL", address)
    every_use_raises(StoreUnavailable, f"s3://bucket/prefix.*{address}", S3Store("bucket", "prefix"), tmp_path)


def test_overloaded_server_raises_store_unavailable(behind_proxy: Behind, tmp_path: Path) -> None:
    store = behind_proxy(lambda request, forward: refusal(503, "SlowDown"))
    every_use_raises(StoreUnavailable, "the store answered (SlowDown|503)", store, tmp_path)


def test_download_that_keeps_breaking_raises_store_unavailable(behind_proxy: Behind, tmp_path: Path) -> None:
    def server(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        return answer._replace(cut=True) if request.method == "GET" else answer

    store = behind_proxy(server)
    store.put("key", b"x" * 1000)
    with pytest.raises(StoreUnavailable, match="some/prefix/key"):
        store.local_copy("key", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(StoreUnavailable, match="some/prefix/key"):
        store.get("key")


CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")
PROFILE = """
[profile other]
endpoint_url = http://global.example:1
services = own
region = eu-west-9
max_attempts = 4
retry_mode = adaptive
request_checksum_calculation = WHEN_SUPPORTED
response_checksum_validation = when_supported
ca_bundle = {folder}/certificates.pem
s3 =
    addressing_style = path
    payload_signing_enabled = false
[profile plain]
region = eu-west-9
[profile endpoint]
endpoint_url = http://global.example:1
[services own]
s3 =
    endpoint_url = http://s3.example:2
"""


@pytest.fixture
def aws_profile(aws_environment: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], pytest.MonkeyPatch]:
    """Selects a profile of PROFILE, with no other settings in the environment."""

    def select(name: str) -> pytest.MonkeyPatch:
        (tmp_path / "config").write_text(PROFILE.format(folder=tmp_path))
        shutil.copy(certifi.where(), tmp_path / "certificates.pem")
        aws_environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        aws_environment.setenv("AWS_PROFILE", name)
        for variable in ("ENDPOINT_URL", "DEFAULT_REGION", "REGION", "MAX_ATTEMPTS", "RETRY_MODE", "CA_BUNDLE"):
            aws_environment.delenv(f"AWS_{variable}", raising=False)
        for variable in CHECKSUMS:
            aws_environment.delenv(f"AWS_{variable.upper()}", raising=False)
        return aws_environment

    return select


def client_settings() -> dict[str, object]:
    s3_client.cache_clear()
    client: Any = s3_client()
    names = ("retries", "region_name", "s3", *CHECKSUMS)
    found = {name: getattr(client.meta.config, name) for name in names}
    return {**found, "endpoint": client.meta.endpoint_url, "ca_bundle": client._endpoint.http_session._verify}


def test_settings_of_the_aws_config_file_are_honoured(
    aws_profile: Callable[[str], pytest.MonkeyPatch], tmp_path: Path
) -> None:
    aws_profile("other")
    assert client_settings() == {
        "endpoint": "http://s3.example:2",
        "region_name": "eu-west-9",
        "retries": {"mode": "adaptive", "total_max_attempts": 4},
        "request_checksum_calculation": "when_supported",
        "response_checksum_validation": "when_supported",
        "ca_bundle": str(tmp_path / "certificates.pem"),
        "s3": {"addressing_style": "path", "payload_signing_enabled": True},  # documented as ours
    }


def test_environment_overrides_the_aws_config_file(aws_profile: Callable[[str], pytest.MonkeyPatch]) -> None:
    environment = aws_profile("other")
    for name, value in {
        "ENDPOINT_URL_S3": "http://other.example:3",
        "REGION": "eu-west-8",
        "DEFAULT_REGION": "eu-west-8",
        "MAX_ATTEMPTS": "3",
        "RETRY_MODE": "legacy",
        "REQUEST_CHECKSUM_CALCULATION": "when_required",
        "RESPONSE_CHECKSUM_VALIDATION": "WHEN_REQUIRED",
        "CA_BUNDLE": certifi.where(),
    }.items():
        environment.setenv(f"AWS_{name}", value)
    assert client_settings() == {
        "endpoint": "http://other.example:3",
        "region_name": "eu-west-8",
        "retries": {"mode": "legacy", "total_max_attempts": 3},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "ca_bundle": certifi.where(),
        "s3": {"addressing_style": "path", "payload_signing_enabled": True},
    }


@pytest.mark.parametrize(
    ("profile", "ignored", "checksums"),
    [
        ("plain", "", "when_supported"),
        ("endpoint", "", "when_required"),
        ("endpoint", "true", "when_supported"),  # AWS_IGNORE_CONFIGURED_ENDPOINT_URLS
    ],
)
def test_defaults_are_ours_where_nothing_is_set(
    aws_profile: Callable[[str], pytest.MonkeyPatch], profile: str, ignored: str, checksums: str
) -> None:
    if ignored:
        aws_profile(profile).setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", ignored)
    else:
        aws_profile(profile)
    found = client_settings()
    assert found["retries"] == {"mode": "standard", "total_max_attempts": 11}
    assert {name: found[name] for name in CHECKSUMS} == dict.fromkeys(CHECKSUMS, checksums)


def test_impatient_client_tries_twice_whatever_is_set(aws_profile: Callable[[str], pytest.MonkeyPatch]) -> None:
    aws_profile("other")
    client: Any = s3_client(patient=False)
    assert client.meta.config.retries == {"mode": "standard", "total_max_attempts": 2}


@pytest.mark.parametrize(
    "line",
    [f"{name} = many" for name in ("max_attempts", "retry_mode", *CHECKSUMS)] + ["s3 =\n  addressing_style = many"],
)
def test_wrong_value_in_the_aws_config_file_is_a_config_error(
    aws_profile: Callable[[str], pytest.MonkeyPatch], tmp_path: Path, line: str
) -> None:
    aws_profile("wrong")
    (tmp_path / "config").write_text(f"[profile wrong]\n{line}\n")
    with pytest.raises(ConfigError, match=r"^s3: .*many"):
        s3_client()


def test_broken_aws_config_file_is_a_config_error(
    aws_profile: Callable[[str], pytest.MonkeyPatch], tmp_path: Path
) -> None:
    aws_profile("wrong")
    (tmp_path / "config").write_text("no section\n")
    with pytest.raises(ConfigError, match=f"^s3: .*{tmp_path}/config"):
        s3_client()


def test_missing_profile_is_named(aws_profile: Callable[[str], pytest.MonkeyPatch]) -> None:
    aws_profile("no-such-profile")
    with pytest.raises(ConfigError, match="no-such-profile"):
        s3_client()


def test_custom_endpoint_is_sent_no_checksum_headers(behind_proxy: Behind) -> None:
    seen = []

    def server(request: Request, forward: Forward) -> Answer:
        seen.append(request.headers)
        return forward(request)

    behind_proxy(server).put("key", b"x")
    assert not [name for headers in seen for name in headers if name.startswith(("x-amz-trailer", "x-amz-checksum"))]


@pytest.mark.parametrize(
    ("prefix", "address"), [("", "s3://bucket"), ("a", "s3://bucket/a"), ("/a/b/", "s3://bucket/a/b")]
)
def test_address_names_bucket_and_prefix(prefix: str, address: str) -> None:
    assert S3Store("bucket", prefix).address == address


def test_prefixes_separate_stores_in_one_bucket(bucket: str) -> None:
    S3Store(bucket, "a").put("key", b"a")
    S3Store(bucket, "ab").put("key", b"ab")
    assert S3Store(bucket, "a").get("key") == b"a"
    assert list(S3Store(bucket, "a").keys("")) == ["key"]
    assert list(S3Store(bucket, "").keys("")) == ["a/key", "ab/key"]


def tags_of(address: str) -> dict[str, str]:
    location = store_location(address)
    assert isinstance(location, S3Address)
    return object_tags(location)


def test_object_tags_cover_exactly_the_objects_below_a_prefix(bucket: str) -> None:
    client = boto3.client("s3")
    for key in ("model/config.json", "model/sub/x", "model-2/config.json"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert set(tags_of(f"s3://{bucket}/model")) == {"config.json", "sub/x"}
    assert set(tags_of(f"s3://{bucket}/model/config.json")) == {"."}
    assert len(tags_of(f"s3://{bucket}")) == 3
    assert tags_of(f"s3://{bucket}/nothing") == {}


def test_folder_markers_are_ignored(bucket: str) -> None:
    for key in ("model/", "model/sub/", "model/config.json"):
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")
    assert list(S3Store(bucket, "model").keys("")) == ["config.json"]
    assert set(tags_of(f"s3://{bucket}/model")) == {"config.json"}
