"""The manifests of docs/scaling.md are valid, and contain what ``zeshel`` reads."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.helm.chart import KUBERNETES
from zeshel_tasks import __version__, cli
from zeshel_tasks.compute.gang_seat import Seat, seat_in

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    """The documented objects by kind."""
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "scaling.md").read_text(), re.DOTALL)
    found = [document for block in blocks for document in yaml.safe_load_all(block)]
    return {document["kind"]: document for document in found if document.get("apiVersion")}


def container(job: dict[str, Any]) -> dict[str, Any]:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_job_is_valid_for_kubernetes(manifests: dict[str, dict[str, Any]]) -> None:
    for kind in ("Job", "Service"):
        kubernetes_validate.validate(manifests[kind], KUBERNETES[-1], strict=True)


def test_train_job_is_valid_for_kubeflow(manifests: dict[str, dict[str, Any]]) -> None:
    """The models leave out what they do not know, so nothing may be lost."""
    # The package imports a thousand modules, which each worker would pay for during collection.
    from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob

    job = TrainerV1alpha1TrainJob.from_dict(manifests["TrainJob"])
    assert job is not None
    found = job.to_dict()
    assert found.pop("metadata")["labels"] == manifests["TrainJob"]["metadata"]["labels"]
    assert found == {key: value for key, value in manifests["TrainJob"].items() if key != "metadata"}


def test_pods_of_the_job_find_each_other(manifests: dict[str, dict[str, Any]]) -> None:
    job, service = manifests["Job"], manifests["Service"]["metadata"]["name"]
    name, pods = job["metadata"]["name"], job["spec"]["completions"]
    environment = {entry["name"]: entry.get("value", "3") for entry in container(job)["env"]}
    assert seat_in(environment) == Seat(3, pods, 0, f"{name}-0.{service}", 29500)
    assert job["spec"]["template"]["spec"]["subdomain"] == service
    assert manifests["Service"]["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert job["spec"]["parallelism"] == pods


def test_documented_commands_are_accepted(
    manifests: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(cli, "run_stage", lambda stage, *_: ran.append(stage.name))
    trainer = manifests["TrainJob"]["spec"]["trainer"]
    (torchrun,) = re.findall(r"zeshel_tasks (train-.*)", (DOCS / "scaling.md").read_text())
    for command in (container(manifests["Job"])["args"], trainer["args"], torchrun.split()):
        assert cli.main(command) == 0
    assert ran == ["train-biencoder"] * 3
    for image in (container(manifests["Job"])["image"], trainer["image"]):
        assert image.endswith(f":{__version__}")
