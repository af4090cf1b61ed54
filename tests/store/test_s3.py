"""Behaviour that only occurs with an S3 server."""

import logging
import socket
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import boto3
import pytest

from tests.store.s3_proxy import Answer, Forward, Request, refusal
from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.location import S3Address, store_location
from zeshel_tasks.store.s3 import S3Store, object_tags, s3_client

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


@pytest.mark.parametrize("server", [forgets_conditions, refuses_conditions, calls_conditions_invalid])
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


@pytest.mark.parametrize("server", [forgets_conditions, refuses_conditions, calls_conditions_invalid])
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


def test_last_racing_writer_knows_it_won_without_conditional_writes(behind_proxy: Behind) -> None:
    store, won = behind_proxy(forgets_conditions), {}
    store.put_if_absent("probe", b"")

    def attempt(name: bytes) -> None:
        won[name] = store.put_if_absent("key", name)

    threads = [threading.Thread(target=attempt, args=(name,)) for name in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = store.get("key")
    assert stored is not None
    assert won[stored] is True


def test_conditional_writes_cause_no_warning(
    bucket: str, aws_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = S3Store(bucket, "")
    assert store.put_if_absent("key", b"first") is True
    assert own_messages(caplog) == []
    assert list(store.keys("")) == ["key"]


def test_conditional_write_conflict_is_retried(behind_proxy: Behind) -> None:
    conflicts = [refusal(409, "ConditionalRequestConflict")] * 2

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
    with pytest.raises(ConfigError, match="set the AWS environment variables"):
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


def test_client_retries_ten_times_by_default(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.delenv("AWS_MAX_ATTEMPTS")
    assert vars(s3_client().meta.config)["retries"] == {"mode": "standard", "total_max_attempts": 11}
    s3_client.cache_clear()
    aws_environment.setenv("AWS_MAX_ATTEMPTS", "3")
    assert vars(s3_client().meta.config)["retries"] == {"mode": "standard", "total_max_attempts": 3}


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
