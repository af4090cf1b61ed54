"""The examples install unchanged, and the notes list the next steps."""

from pathlib import Path

import pytest
import yaml

from tests.helm.chart import HELM, KUBERNETES, render, validate
from zeshel_tasks.orchestration.params import dag_params
from zeshel_tasks.orchestration.settings import read_deployment

EXAMPLES = sorted((HELM / "examples").glob("*.yaml"))
NOTES = {
    "aws-workload-identity": ["port-forward service/zeshel-api-server", "Unpause the DAG", "namespace ml;"],
    "existing-airflow": ["ConfigMap zeshel-settings", "Secret zeshel-store", 'airflow pools set "zeshel" 3'],
    "gpu-cluster": ["port-forward service/zeshel-api-server", "namespace zeshel-stages;"],
    "kind": ["port-forward service/zeshel-airflow", "get secret zeshel-keys", "for trials only"],
}


def test_every_example_is_tested() -> None:
    assert [example.stem for example in EXAMPLES] == sorted(NOTES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example_renders_settings_that_the_dag_reads(
    chart: Path, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = render(chart, yaml.safe_load(example.read_text()))
    for item in rendered:
        validate(item, KUBERNETES[-1])
    for name, value in rendered.one("ConfigMap", "zeshel-settings")["data"].items():
        monkeypatch.setenv(name, value)
    deployment = read_deployment()
    assert deployment.pods is not None
    assert dag_params(deployment.defaults)  # the form accepts the example's defaults
    for part in NOTES[example.stem]:
        assert part in rendered.notes


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_pods_of_an_example_fit_its_quota(chart: Path, example: Path) -> None:
    values = yaml.safe_load(example.read_text())
    quota = values.get("resourceQuota", {}).get("hard", {})
    if gpus := quota.get("requests.nvidia.com/gpu"):
        assert values["dag"]["pool"]["slots"] * values["stages"]["gpus"] <= int(gpus)


def test_notes_list_missing_values(chart: Path) -> None:
    bare = render(chart, {"store": {"address": "s3://bucket/prefix"}}).notes
    assert "MISSING: rbac.subjects is empty" in bare
    assert "No credentials for the store are set" in bare
    with_subject = {
        "store": {"address": "s3://bucket/prefix", "existingSecret": "x"},
        "rbac": {"subjects": [{"name": "a"}]},
    }
    complete = render(chart, with_subject).notes
    assert "MISSING" not in complete
    assert "No credentials" not in complete
