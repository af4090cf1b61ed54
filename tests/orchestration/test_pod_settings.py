import json

import pytest

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.pod_settings import PodSettings
from zeshel_tasks.orchestration.settings import read_deployment

LEAST = {"image": "zeshel-tasks:1", "namespace": "ml"}


def read(monkeypatch: pytest.MonkeyPatch, text: str) -> PodSettings | None:
    monkeypatch.setenv("ZESHEL_STORE", "s3://b/p")
    monkeypatch.setenv("ZESHEL_PODS", text)
    return read_deployment().pods


def test_kubernetes_names_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    given = LEAST | {
        "imagePullSecrets": ["registry"],
        "gpuResource": "amd.com/gpu",
        "model": {
            "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "16Gi"}},
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "priorityClassName": "training",
        },
    }
    pods = read(monkeypatch, json.dumps(given))
    assert pods is not None
    assert (pods.image_pull_secrets, pods.gpu_resource) == (["registry"], "amd.com/gpu")
    assert pods.model.node_selector == {"pool": "gpu"}
    assert pods.model.resources.limits == {"memory": "16Gi"}
    assert pods.data.tolerations == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{oops", ["ZESHEL_PODS: expected a JSON object"]),
        ("[]", ["ZESHEL_PODS"]),
        ('{"namespace": "n"}', ["ZESHEL_PODS.image", "not set"]),
        (json.dumps(LEAST | {"gpu": 1}), ["ZESHEL_PODS.gpu", "not permitted"]),
        (json.dumps(LEAST | {"gpus": -1}), ["ZESHEL_PODS.gpus", "greater than or equal to 0", "-1"]),
        (json.dumps(LEAST | {"runAsUser": 0}), ["ZESHEL_PODS.runAsUser", "greater than or equal to 1"]),
        (json.dumps(LEAST | {"scratchSize": "50 GB"}), ["ZESHEL_PODS.scratchSize", "'50 GB'"]),
        (json.dumps(LEAST | {"shmSize": "0.0Gi"}), ["ZESHEL_PODS.shmSize", "'0.0Gi'"]),
        (json.dumps(LEAST | {"hubCache": {}}), ["ZESHEL_PODS.hubCache", "expected claimName or hostPath, got neither"]),
        (json.dumps(LEAST | {"hubCache": {"claimName": "a", "hostPath": "/b"}}), ["ZESHEL_PODS.hubCache", "got both"]),
        (
            json.dumps(LEAST | {"model": {"resources": {"limits": {"memory": "lots"}}}}),
            ["ZESHEL_PODS.model.resources.limits.memory", "'lots'"],
        ),
    ],
)
def test_invalid_value_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch, text: str, named: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(monkeypatch, text)
    for part in named:
        assert part in str(caught.value)
