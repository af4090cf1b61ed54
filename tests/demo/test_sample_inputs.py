from functools import partial
from pathlib import Path

import boto3
import pytest

from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.demo import sample_inputs
from zeshel_tasks.demo.sample_inputs import make_sample_inputs
from zeshel_tasks.demo.small_bert import build_small_bert
from zeshel_tasks.download.fetch import source_identity
from zeshel_tasks.download.model_files import bert_directory
from zeshel_tasks.location import model_location
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.store import LocalStore


@pytest.fixture(autouse=True)
def not_pre_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the pretraining, which does not change the files."""
    monkeypatch.setattr(sample_inputs, "build_small_bert", partial(build_small_bert, max_pretraining_steps=0))


def test_stages_can_read_sample_inputs(bucket: str, tmp_path: Path) -> None:
    address = f"s3://{bucket}/inputs"
    make_sample_inputs(address)
    archive = f"{address}/sample_worlds.tar.bz2"
    assert source_identity(archive, DownloadConfig(source=archive))
    load_bert(bert_directory(model_location(f"{address}/small_bert"), tmp_path, LocalStore(tmp_path)))


def test_existing_sample_inputs_are_not_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_sample_inputs(str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with caplog.at_level("INFO"):
        make_sample_inputs(str(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert "already" in caplog.text


def test_interrupted_upload_is_completed(bucket: str) -> None:
    make_sample_inputs(f"s3://{bucket}")
    s3 = boto3.client("s3")
    complete = {found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    for key in ("small_bert/config.json", "small_bert/model.safetensors"):
        s3.delete_object(Bucket=bucket, Key=key)
    make_sample_inputs(f"s3://{bucket}")
    assert {found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]} == complete
