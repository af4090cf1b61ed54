"""The deployment's own part of a stage's pod, and Params that the deployment fixes, as they reach Kubernetes."""

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.orchestration.pods.conftest import MakeTask, start
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step

STEP = Step(STAGES["eval-biencoder"], "test")
DOWNLOAD = Step(STAGES["download"])
TEMPLATE = {
    "spec": {
        "runtimeClassName": "nvidia",
        "securityContext": {"supplementalGroups": [2000]},
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
        "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        "initContainers": [{"name": "warm-up", "image": "models:1", "command": ["sync"]}],
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
        "containers": [
            {
                "name": "base",
                "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
                "envFrom": [{"configMapRef": {"name": "proxy"}}],
                "resources": {"claims": [{"name": "gpu"}]},
                "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
            }
        ],
    }
}
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def test_pod_has_both_what_the_template_and_the_stage_say(make_task: MakeTask, cluster: Any) -> None:
    model = {"resources": {"limits": {"memory": "8Gi"}}}
    start(*make_task(STEP, instance="prod", secrets=["store"], model=model, podTemplate=TEMPLATE))
    spec = cluster.pod["spec"]
    (base,) = spec["containers"]
    assert (base["image"], base["args"][0]) == ("zeshel-tasks:1", "eval-biencoder")
    assert base["resources"] == {
        "claims": [{"name": "gpu"}],
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"},
        "requests": {"nvidia.com/gpu": "1"},
    }
    assert [mount["mountPath"] for mount in base["volumeMounts"]] == ["/models", "/scratch", "/dev/shm"]
    assert [volume["name"] for volume in spec["volumes"]] == ["models", "scratch", "shm"]
    assert {"HF_TOKEN", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"} <= {variable["name"] for variable in base["env"]}
    assert base["envFrom"] == [{"configMapRef": {"name": "proxy"}}, {"secretRef": {"name": "store"}}]
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]
    (constraint,) = spec["topologySpreadConstraints"]
    assert constraint["labelSelector"]["matchLabels"].items() <= cluster.pod["metadata"]["labels"].items()
    assert constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "prod"


def test_template_leaves_the_pod_restricted(make_task: MakeTask, cluster: Any) -> None:
    start(*make_task(STEP, podTemplate=TEMPLATE))
    spec = cluster.pod["spec"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 50000, "runAsGroup": 50000, "fsGroup": 50000,
        "supplementalGroups": [2000], "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert [item["securityContext"] for item in [*spec["containers"], *spec["initContainers"]]] == [RESTRICTED] * 2
    assert spec["automountServiceAccountToken"] is False


def test_class_adds_to_the_template_of_all_pods(make_task: MakeTask, cluster: Any) -> None:
    of_models = {
        "spec": {
            "runtimeClassName": "gvisor",
            "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
            "containers": [{"name": "base", "volumeMounts": [{"name": "cache", "mountPath": "/cache"}]}],
        }
    }
    settings = {"podTemplate": TEMPLATE, "model": {"podTemplate": of_models}}
    start(*make_task(STEP, **settings))
    spec = cluster.pod["spec"]
    assert spec["runtimeClassName"] == "gvisor"
    assert [volume["name"] for volume in spec["volumes"]] == ["models", "cache", "scratch", "shm"]
    assert [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]][:2] == ["/models", "/cache"]
    cluster.pods.clear()
    start(*make_task(DOWNLOAD, {"download.source": "/nowhere.tar"}, **settings))
    assert cluster.pod["spec"]["runtimeClassName"] == "nvidia"
    assert "cache" not in str(cluster.pod)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"nodeSelector": {}},
            r"\.spec: expected one of .*; got 'nodeSelector', which nodeSelector of model and data sets",
        ),
        ({"volume": []}, r"\.spec: expected one of containers, .*, volumes; got 'volume'$"),
        ({"volumes": [{"name": "a", "hostPath": {}}]}, r"spec\.volumes\[0\]: expected one of .*; got 'hostPath'"),
        ({"volumes": [{"name": "scratch"}]}, r"spec\.volumes: expected another name than 'scratch'"),
        ({"volumes": {"name": "a"}}, r"spec\.volumes: expected a list, got a value of type dict"),
        ({"containers": [{"name": "b"}]}, r"spec\.containers: expected one with the name base, .*; got 'b'"),
        ({"containers": [{"name": "base"}] * 2}, r"spec\.containers: .* got 'base, base'"),
        ({"containers": [{"name": "base", "image": "a"}]}, r"containers\[0\]: expected one of .*; got 'image'"),
        ({"initContainers": [{"name": "a"}]}, r"spec\.initContainers\[0\]: expected image; it is not set"),
        ({"topologySpreadConstraints": [{"topologyKey": "a"}]}, r"\[0\]: expected maxSkew; it is not set"),
    ],
)
def test_template_that_cannot_work_is_refused(make_task: MakeTask, spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"^ZESHEL_PODS\.podTemplate.*{problem}"):
        make_task(STEP, podTemplate={"spec": spec})


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ({"env": [{"name": "A", "value": "again"}]}, r"env: expected another name than 'A'"),
        ({"env": [{"name": "B", "value": True}]}, r"env\[0\]\.value: expected text, got a value of type bool"),
        ({"resources": {"claims": [{"name": "gpu"}]}}, r"claims: expected the name of one of spec.resourceClaims"),
        ({"volumeMounts": [{"name": "a", "mountPath": "/a"}]}, "expected one of the volumes scratch, shm; got 'a'"),
        ({"volumeMounts": [{"name": "shm", "mountPath": "/scratch"}]}, "expected another mountPath than '/scratch'"),
        ({"volumeMounts": [{"name": "shm"}]}, r"volumeMounts\[0\]: expected mountPath; it is not set"),
    ],
)
def test_container_that_cannot_work_is_refused(make_task: MakeTask, base: dict[str, Any], problem: str) -> None:
    template = {"spec": {"containers": [{"name": "base", **base}]}}
    with pytest.raises(ConfigError, match=rf"^ZESHEL_PODS\.model\.podTemplate.*{problem}"):
        make_task(STEP, env={"A": "1"}, model={"podTemplate": template})


# -- Params that the deployment fixes


def test_value_that_the_deployment_fixes_is_refused_before_a_pod_starts(make_task: MakeTask, cluster: Any) -> None:
    """A caller of Airflow's API can send a Param that the form does not have."""
    problem = (
        r"download: bad configuration, not retried:\nimage: expected no value .*stages.fixedParams.*; got 'evil:1'"
    )
    with pytest.raises(AirflowFailException, match=problem):
        make_task(DOWNLOAD, {"image": "evil:1", "memory": "1Gi"}, fixedParams=["image"])
    assert cluster.pods == {}


def test_other_values_are_free(make_task: MakeTask, cluster: Any) -> None:
    start(*make_task(STEP, {"memory": "16Gi"}, fixedParams=["image", "gpus"]))
    assert cluster.pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "16Gi"
