"""The Job that writes sample inputs, and the trigger form's defaults that use them."""

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.helm.chart import KUBERNETES, STANDALONE, TRYING_OUT, Object, render
from zeshel_tasks.cli import main
from zeshel_tasks.demo import sample_inputs

ENABLED: Object = {"sampleInputs": {"enabled": True}}


def job(chart: Path, values: dict[str, Any]) -> dict[str, Any]:
    (found,) = [item for item in render(chart, {**values, **ENABLED}) if item["kind"] == "Job"]
    return found


def settings(chart: Path, values: dict[str, Any]) -> dict[str, Any]:
    return dict(render(chart, {**values, **ENABLED}).one("ConfigMap", "zeshel-settings")["data"])


def test_job_is_valid_for_kubernetes(chart: Path) -> None:
    kubernetes_validate.validate(job(chart, TRYING_OUT), KUBERNETES[0], strict=True)


def test_job_accesses_the_store_as_a_stage_does(chart: Path) -> None:
    values: Object = {**STANDALONE, "stages": {"env": {"HTTPS_PROXY": "http://proxy:3128"}, "secrets": ["more"]}}
    (container,) = job(chart, values)["spec"]["template"]["spec"]["containers"]
    pods = json.loads(settings(chart, values)["ZESHEL_PODS"])
    assert {entry["name"]: entry.get("value") for entry in container["env"]}.items() >= pods["env"].items()
    assert (
        [source["secretRef"]["name"] for source in container["envFrom"]] == pods["secrets"] == ["zeshel-store", "more"]
    )


def test_job_is_as_restricted_as_a_stage(chart: Path) -> None:
    pod = job(chart, TRYING_OUT)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def test_defaults_name_the_inputs_that_the_job_writes(chart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = job(chart, STANDALONE)["spec"]["template"]["spec"]["containers"]
    written: list[str] = []
    monkeypatch.setattr(sample_inputs, "make_sample_inputs", written.append)
    assert main(container["args"]) == 0
    assert json.loads(settings(chart, STANDALONE)["ZESHEL_DEFAULTS"]) == {
        "preset": "smoke",
        "download.source": f"{written[0]}/{sample_inputs.ARCHIVE}",
        "bert_model": f"{written[0]}/{sample_inputs.MODEL}",
    }


def test_user_defaults_override_sample_inputs(chart: Path) -> None:
    values: Object = {**STANDALONE, "dag": {"defaults": {"preset": "blink", "gpus": 2}}}
    defaults = json.loads(settings(chart, values)["ZESHEL_DEFAULTS"])
    assert (defaults["preset"], defaults["gpus"]) == ("blink", 2)
    assert defaults["bert_model"].endswith("/small_bert")


def test_user_defaults_can_be_removed_for_a_trial(chart: Path) -> None:
    defaults = [settings(chart, {**STANDALONE, "dag": {"defaults": given}})["ZESHEL_DEFAULTS"] for given in ({}, None)]
    assert defaults[0] == defaults[1]


def test_job_is_placed_as_a_stage_of_class_data(chart: Path) -> None:
    placement: Object = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "batch",
    }
    pod = job(chart, {**STANDALONE, "stages": {"data": placement}})["spec"]["template"]["spec"]
    assert {key: pod[key] for key in placement} == placement


def test_variables_of_the_user_replace_those_of_the_job(chart: Path) -> None:
    own = {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE"}
    (container,) = job(chart, {**STANDALONE, "stages": {"env": own}})["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": name, "value": value} for name, value in own.items()]
