"""The CronJob that removes old runs and artifacts from the store."""

from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest

from tests.helm.chart import KUBERNETES, STANDALONE, TRYING_OUT, Object, Rendered, render
from zeshel_tasks import __version__
from zeshel_tasks.cli import main
from zeshel_tasks.commands import gc


def rendered(chart: Path, values: Object, **retention: Any) -> Rendered:
    return render(chart, {**values, "retention": {"enabled": True, **retention}})


def pod_of(rendered: Rendered) -> Object:
    spec: Object = rendered.one("CronJob", "zeshel-retention")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def test_there_is_none_by_default(chart: Path) -> None:
    assert not [item for item in render(chart, TRYING_OUT) if item["kind"] == "CronJob"]


def test_it_is_valid_for_kubernetes(chart: Path) -> None:
    found = rendered(chart, TRYING_OUT, schedule="@weekly").one("CronJob", "zeshel-retention")
    kubernetes_validate.validate(found, KUBERNETES[0], strict=True)
    assert found["spec"]["schedule"] == "@weekly"


@pytest.mark.parametrize("small", [{}, {"repository": "registry.example.com/small", "tag": "7"}])
def test_it_runs_in_the_small_image_if_there_is_one(chart: Path, small: Object) -> None:
    found = rendered(chart, {**STANDALONE, "images": {"small": small}})
    expected = "registry.example.com/small:7" if small else f"localhost/zeshel-tasks:{__version__}"
    assert pod_of(found)["containers"][0]["image"] == expected


@pytest.mark.parametrize(
    ("retention", "older_than", "keep_runs"),
    [({}, "30d", None), ({"olderThanDays": 14, "keepRuns": 0}, "14d", 0), ({"keepRuns": 1000000}, "30d", 1_000_000)],
)
def test_it_runs_a_command_that_exists(
    chart: Path, monkeypatch: pytest.MonkeyPatch, retention: Object, older_than: str, keep_runs: int | None
) -> None:
    found = rendered(chart, STANDALONE, **retention)
    called = list[tuple[object, ...]]()
    monkeypatch.setattr(gc, "collect_garbage", lambda *args, dry_run: called.append((*args, dry_run)))
    assert main(pod_of(found)["containers"][0]["args"]) == 0
    address = found.one("ConfigMap", "zeshel-settings")["data"]["ZESHEL_STORE"]
    assert called == [(address, older_than, keep_runs, False)]


def test_it_accesses_the_store_as_a_stage_does_and_is_as_restricted(chart: Path) -> None:
    found = rendered(chart, {**STANDALONE, "sampleInputs": {"enabled": True}})
    (job,) = [item for item in found if item["kind"] == "Job"]
    pod, sample = pod_of(found), job["spec"]["template"]["spec"]
    (ours,), (theirs,) = pod.pop("containers"), sample.pop("containers")
    assert pod == sample
    assert {key for key in ours if ours[key] != theirs[key]} == {"name", "args", "resources"}


def test_cleanup_that_never_starts_ends_and_lets_the_next_one_start(chart: Path) -> None:
    found = rendered(chart, {**STANDALONE, "stages": {"activeDeadlineSeconds": 2000000}})
    cleanup = found.one("CronJob", "zeshel-retention")["spec"]
    assert cleanup["concurrencyPolicy"] == "Forbid"
    assert cleanup["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 2_000_000


def templates_of_jobs(rendered: Rendered) -> dict[str, Object]:
    """The pods of the two Jobs by their component."""
    (job,) = [item for item in rendered if item["kind"] == "Job"]
    cleanup = rendered.one("CronJob", "zeshel-retention")["spec"]["jobTemplate"]
    return {"retention": cleanup["spec"]["template"], "sample-inputs": job["spec"]["template"]}


def test_pods_of_both_jobs_are_labelled_as_those_of_stages(chart: Path) -> None:
    own: Object = {"labels": {"sidecar.istio.io/inject": "false"}, "annotations": {"linkerd.io/inject": "disabled"}}
    found = rendered(chart, {**STANDALONE, "sampleInputs": {"enabled": True}, "stages": own})
    for component, template in templates_of_jobs(found).items():
        metadata = template["metadata"]
        assert metadata["labels"].items() >= own["labels"].items()
        assert metadata["labels"]["app.kubernetes.io/component"] == component
        assert metadata["annotations"] == own["annotations"]


def test_pods_of_both_jobs_have_the_template_of_data_stages(chart: Path) -> None:
    base: Object = {
        "name": "base",
        "env": [{"name": "AWS_CONFIG_FILE", "value": "/aws/config"}],
        "volumeMounts": [{"name": "aws", "mountPath": "/aws"}],
    }
    of_all: Object = {
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["s3.example.com"]}],
        "schedulerName": "first",
        "securityContext": {"supplementalGroups": [7]},
        "volumes": [{"name": "aws", "configMap": {"name": "aws"}}],
        "initContainers": [{"name": "proxy", "image": "proxy", "restartPolicy": "Always"}],
        "containers": [base],
    }
    of_data: Object = {
        "schedulerName": "second",
        "resourceClaims": [{"name": "fast", "resourceClaimTemplateName": "fast"}],
        "volumes": [{"name": "more", "emptyDir": {}}],
        "containers": [{"name": "base", "resources": {"claims": [{"name": "fast"}]}}],
    }
    own: Object = {
        "podTemplate": {"spec": of_all},
        "data": {"podTemplate": {"spec": of_data}},
        "model": {"podTemplate": {"spec": {"runtimeClassName": "nvidia"}}},
    }
    values: Object = {**STANDALONE, "sampleInputs": {"enabled": True}}
    plain = templates_of_jobs(rendered(chart, values))
    found = rendered(chart, {**values, "stages": own})
    for item in found:
        kubernetes_validate.validate(item, KUBERNETES[-1], strict=True)
    for component, template in templates_of_jobs(found).items():
        pod, before = template["spec"], plain[component]["spec"]
        (container,), (container_before,) = pod.pop("containers"), before.pop("containers")
        security = container_before["securityContext"]
        assert pod == before | {
            "hostAliases": of_all["hostAliases"],
            "schedulerName": "second",
            "resourceClaims": of_data["resourceClaims"],
            "securityContext": before["securityContext"] | of_all["securityContext"],
            "volumes": [*before["volumes"], *of_all["volumes"], *of_data["volumes"]],
            "initContainers": [of_all["initContainers"][0] | {"securityContext": security}],
        }
        assert container == container_before | {
            "env": [*container_before["env"], *base["env"]],
            "volumeMounts": [*container_before["volumeMounts"], *base["volumeMounts"]],
            "resources": container_before["resources"] | {"claims": [{"name": "fast"}]},
        }


def test_network_of_both_jobs_is_the_store(chart: Path) -> None:
    found = rendered(chart, {**STANDALONE, "sampleInputs": {"enabled": True}}, keepRuns=3)
    of_stages = found.one("NetworkPolicy", "zeshel-stage")["spec"]["egress"]
    for component, template in templates_of_jobs(found).items():
        policy = found.one("NetworkPolicy", f"zeshel-{component}")["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert policy["ingress"] == []
        assert policy["egress"] == of_stages[: len(policy["egress"])]
        assert len(policy["egress"]) < len(of_stages)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"olderThanDays": 13, "keepRuns": 5}, "retention.olderThanDays: expected at least 14"),
        ({"olderThanDays": 1}, "olderThanDays"),
        ({"keepRuns": -1}, "keepRuns"),
        ({"keepRuns": "all"}, "keepRuns"),
        ({"schedule": ""}, "schedule"),
    ],
)
def test_values_that_the_command_would_refuse_are_refused(chart: Path, values: Object, expected: str) -> None:
    with pytest.raises(helm_python.HelmError, match=expected):
        rendered(chart, STANDALONE, **values)
