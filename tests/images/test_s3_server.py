import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.cluster.s3.server import OneAtATime, s3_server


@pytest.fixture
def client() -> Iterator[Any]:
    server = s3_server("127.0.0.1", 0, ["first", "second"])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield boto3.Session().client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    server.shutdown()
    thread.join()


def test_buckets_exist_and_store_objects(client: Any) -> None:
    assert {bucket["Name"] for bucket in client.list_buckets()["Buckets"]} >= {"first", "second"}
    client.put_object(Bucket="second", Key="a/b", Body=b"text")
    assert client.get_object(Bucket="second", Key="a/b")["Body"].read() == b"text"


def test_second_conditional_write_is_rejected(client: Any) -> None:
    client.put_object(Bucket="first", Key="manifest.json", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="first", Key="manifest.json", Body=b"second", IfNoneMatch="*")
    assert client.get_object(Bucket="first", Key="manifest.json")["Body"].read() == b"first"


def test_requests_are_served_one_at_a_time() -> None:
    """A conditional write must be atomic, as on a real server."""
    threads = 8
    together, inside, most = threading.Barrier(threads), [], []

    def slow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        inside.append(environ)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return [b""]

    application = OneAtATime(slow)

    def ask(_: int) -> None:
        together.wait(timeout=60)
        application({}, None)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(threads)))
    assert most == [1] * threads


def test_invalid_bucket_name_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"(?s)bucket 'No' was refused with status 400: .*InvalidBucketName"):
        s3_server("127.0.0.1", 0, ["No"])
