"""The policy in docs/operations.md lets a store do all that it does, needs each action, and opens nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from moto.core.authorization import enable_iam_authentication

from tests.support.s3_servers.chosen import needs_moto
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.location import S3Address
from zeshel_tasks.store import s3
from zeshel_tasks.store.s3 import S3Store, object_tags

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
(TEXT,) = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
ACTIONS = sorted({action for part in json.loads(TEXT)["Statement"] for action in part["Action"]})
Policy = dict[str, Any]
pytestmark = needs_moto


@pytest.fixture
def use(bucket: str, aws_environment: pytest.MonkeyPatch) -> Callable[[Policy], None]:
    """Make the clients of this test those of a user with a policy, in an account that checks permissions."""
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    aws_environment.setattr(s3, "_TRANSFER", parts)
    first = boto3.client("s3")
    first.put_object(Bucket=bucket, Key="inputs/archive", Body=b"1")
    first.create_multipart_upload(Bucket=bucket, Key="zeshel/unfinished")

    def with_policy(policy: Policy) -> None:
        iam, name = boto3.client("iam"), uuid4().hex
        iam.create_user(UserName=name)
        text = json.dumps(policy).replace("example-bucket", bucket)
        iam.put_user_policy(UserName=name, PolicyName="store", PolicyDocument=text)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        aws_environment.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        aws_environment.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])

    return with_policy


def everything(bucket: str, folder: Path) -> None:
    """Do all that a store does, and look at inputs."""
    store = S3Store(bucket, "zeshel")
    store.put("a", b"1")
    assert store.put_if_absent("b", b"2")
    found = store.get_version("b")
    assert found is not None
    assert store.put_if_unchanged("b", b"3", found[1])
    large = folder / "large"
    large.write_bytes(bytes((5 << 20) + 1))
    store.upload(large, "large")
    copy = store.local_copy("large", folder / "copy")
    assert copy is not None
    assert copy.read_bytes() == large.read_bytes()
    assert store.get("missing") is None
    assert sorted(store.keys("")) == ["a", "b", "large"]
    store.delete("a")
    store.delete_all(["b", "large"])
    (unfinished,) = store.unfinished("")
    store.discard(unfinished)
    assert object_tags(S3Address(f"s3://{bucket}/inputs/archive", bucket, "inputs/archive")).keys() == {"."}
    assert S3Store(bucket, "inputs").get("archive") == b"1"


def test_policy_is_enough(use: Callable[[Policy], None], bucket: str, tmp_path: Path) -> None:
    use(json.loads(TEXT))
    with enable_iam_authentication():
        everything(bucket, tmp_path)


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_needed(use: Callable[[Policy], None], bucket: str, tmp_path: Path, action: str) -> None:
    policy = json.loads(TEXT)
    for part in policy["Statement"]:
        part["Action"] = [other for other in part["Action"] if other != action] or ["s3:GetBucketLocation"]
    use(policy)
    with enable_iam_authentication(), pytest.raises(ConfigError, match="AccessDenied"):
        everything(bucket, tmp_path)


def test_nothing_else_is_open(use: Callable[[Policy], None], bucket: str) -> None:
    use(json.loads(TEXT))
    with enable_iam_authentication():
        with pytest.raises(ConfigError, match="AccessDenied"):
            S3Store(bucket, "inputs").put("archive", b"2")
        for prefix in ("other", "zeshel2"):
            with pytest.raises(ConfigError, match="AccessDenied"):
                S3Store(bucket, prefix).get("a")
