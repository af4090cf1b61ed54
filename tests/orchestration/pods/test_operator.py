import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from tests.orchestration.pods.conftest import MakeTask, come_back, commit, start
from zeshel_tasks.pipeline.contract import run_stage
from zeshel_tasks.pipeline.registry import STAGES
from zeshel_tasks.pipeline.stage import Step
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.store import open_run

STEP = Step(STAGES["eval-biencoder"], "test")
TRAIN = Step(STAGES["train-biencoder"])


def test_pod_has_the_arguments_and_labels_of_its_stage(make_task: MakeTask, cluster: Any, tmp_path: Path) -> None:
    start(*make_task(STEP, {"eval_biencoder.top_k": 8}, instance="prod", labels={"kueue.x-k8s.io/queue-name": "gpu"}))
    (container,) = cluster.pod["spec"]["containers"]
    assert container["image"] == "zeshel-tasks:1"
    assert container["args"] == [
        "eval-biencoder", f"--run={tmp_path}/store/runs/r1", "--preset=smoke", "--split=test", "--top_k=8",
    ]  # fmt: skip
    assert cluster.pod["metadata"]["labels"].items() >= {
        "app.kubernetes.io/name": "zeshel", "app.kubernetes.io/component": "stage",
        "app.kubernetes.io/instance": "prod",
        "zeshel/stage": "eval-biencoder", "zeshel/split": "test", "zeshel/run": "r1",
        "dag_id": "zeshel", "task_id": "eval-biencoder-test", "run_id": "r1", "kueue.x-k8s.io/queue-name": "gpu",
    }.items()  # fmt: skip


def test_stored_result_is_reused_without_a_pod(
    make_task: MakeTask, cluster: Any, tmp_path: Path, downloaded: dict[str, Any]
) -> None:
    task, context = make_task(Step(STAGES["download"]), downloaded)
    value = task.execute(context)
    assert cluster.pods == {}
    record = open_run(f"{tmp_path}/store/runs/r1").record("download")
    assert record is not None
    assert record.reused
    assert value["worlds"] == 8
    assert context["outlet_events"][task.command.asset].extra["metrics"]["worlds"] == 8


def test_later_try_also_reuses_a_stored_result_and_deletes_the_pod_of_the_earlier_one(
    make_task: MakeTask, cluster: Any, tmp_path: Path, downloaded: dict[str, Any]
) -> None:
    name = start(*make_task(Step(STAGES["download"]), {"download.source": str(tmp_path / "elsewhere")}))
    assert list(cluster.pods) == [name]
    task, context = make_task(Step(STAGES["download"]), downloaded)
    context["ti"].try_number = 2
    value = task.execute(context)
    assert cluster.pods == {}
    assert value["worlds"] == 8


@pytest.mark.parametrize("try_number", [1, 2])
def test_absent_split_is_skipped_without_a_pod(
    make_task: MakeTask, cluster: Any, tmp_path: Path, downloaded: dict[str, Any], try_number: int
) -> None:
    """A cleared task runs again as a later try."""
    run_stage(STAGES["download"], f"{tmp_path}/store/runs/r1", build_recipe("smoke", downloaded))
    task, context = make_task(Step(STAGES["eval-biencoder"], "heldout_train_seen"), downloaded)
    context["ti"].try_number = try_number
    with pytest.raises(AirflowSkipException, match="no heldout_train_seen"):
        task.execute(context)
    assert cluster.pods == {}


def test_pod_starts_if_the_source_does_not_answer(
    make_task: MakeTask, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeshel_tasks.orchestration.stage_command._MINUTES_TO_ASK", 0.02)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/worlds.tar"
        params = {"download.source": address, "download.private_addresses": "allow"}
        start(*make_task(Step(STAGES["download"]), params))
    assert len(cluster.pods) == 1


def test_pod_starts_if_airflow_may_not_read_a_path(
    make_task: MakeTask, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any) -> None:
        raise PermissionError("[Errno 13] Permission denied: '/root/bert'")

    monkeypatch.setattr("zeshel_tasks.orchestration.stage_command.reuse_stage", denied)
    start(*make_task(Step(STAGES["download"])))
    assert len(cluster.pods) == 1


def test_pod_starts_if_the_source_is_missing_on_airflow(make_task: MakeTask, cluster: Any, tmp_path: Path) -> None:
    start(*make_task(Step(STAGES["download"]), {"download.source": str(tmp_path / "only-in-the-image.tar.bz2")}))
    assert len(cluster.pods) == 1


def test_pod_is_unprivileged_and_has_no_token(make_task: MakeTask, cluster: Any) -> None:
    start(*make_task(STEP))
    spec = cluster.pod["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 50000, "runAsGroup": 50000, "fsGroup": 50000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/scratch", "/dev/shm"}
    assert spec["restartPolicy"] == "Never"


def test_users_are_left_to_a_cluster_that_chooses_them(make_task: MakeTask, cluster: Any) -> None:
    start(*make_task(STEP, run_as_user=None))
    assert cluster.pod["spec"]["securityContext"] == {
        "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip


def test_pod_refers_to_secrets_by_name(make_task: MakeTask, cluster: Any) -> None:
    start(*make_task(STEP, secrets=["store"], env={"AWS_ENDPOINT_URL": "http://s3"}))
    (container,) = cluster.pod["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert {"name": "AWS_ENDPOINT_URL", "value": "http://s3"} in container["env"]


@pytest.mark.parametrize(
    ("step", "params", "limits"),
    [
        (TRAIN, {}, {"nvidia.com/gpu": "4", "memory": "8Gi"}),
        (TRAIN, {"gpus": 2, "memory": "16Gi"}, {"nvidia.com/gpu": "2", "memory": "16Gi"}),
        (TRAIN, {"gpus": 0}, {"memory": "8Gi"}),
        (STEP, {}, {"nvidia.com/gpu": "1", "memory": "8Gi"}),
        (Step(STAGES["download"]), {"gpus": 2, "memory": "16Gi"}, {"memory": "1Gi"}),
    ],
)
def test_run_overrides_gpus_and_memory_of_model_stages_only(
    make_task: MakeTask, cluster: Any, step: Step, params: dict[str, Any], limits: dict[str, str]
) -> None:
    model, data = ({"resources": {"limits": {"memory": memory}}} for memory in ("8Gi", "1Gi"))
    start(*make_task(step, params, gpus=4, model=model, data=data))
    assert cluster.pod["spec"]["containers"][0]["resources"]["limits"] == limits


def test_model_and_data_stages_have_separate_node_settings(make_task: MakeTask, cluster: Any) -> None:
    gpu_nodes = {"nodeSelector": {"pool": "gpu"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    for step in (TRAIN, Step(STAGES["convert"])):
        start(*make_task(step, model={**gpu_nodes, "affinity": affinity, "priorityClassName": "training"}))
    train, convert = (pod["spec"] for pod in cluster.pods.values())
    assert (train["nodeSelector"], train["priorityClassName"]) == ({"pool": "gpu"}, "training")
    assert train["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert train["affinity"] == affinity
    assert convert["nodeSelector"] == {}
    assert not convert.get("tolerations")


def test_stages_without_a_model_run_in_the_small_image_and_without_the_hub(make_task: MakeTask, cluster: Any) -> None:
    cache = {"hostPath": "/var/cache/hub"}
    for step in (TRAIN, Step(STAGES["convert"])):
        start(*make_task(step, smallImage="zeshel-small:1", hubCache=cache))
    train, convert = (pod["spec"] for pod in cluster.pods.values())
    assert [spec["containers"][0]["image"] for spec in (train, convert)] == ["zeshel-tasks:1", "zeshel-small:1"]
    folder = {"path": "/var/cache/hub", "type": "Directory"}
    assert {"name": "hub-cache", "hostPath": folder} in train["volumes"]
    assert {"name": "hub-cache", "mountPath": "/hub-cache"} in train["containers"][0]["volumeMounts"]
    assert {"name": "HF_HUB_CACHE", "value": "/hub-cache"} in train["containers"][0]["env"]
    assert "hub-cache" not in str(convert)


def test_no_task_that_imports_a_model_library_runs_in_the_small_image(load_dag_file: Callable[..., ModuleType]) -> None:
    """tests/stages/test_small_image.py runs those that do."""
    pods = {"image": "zeshel-tasks:1", "smallImage": "zeshel-small:1", "namespace": "ml"}
    variables = {"ZESHEL_RUNNER": "kubernetes", "ZESHEL_PODS": json.dumps(pods)}
    modules = load_dag_file(**variables), load_dag_file("zeshel_link", **variables)
    tasks = [task for dag in (modules[0].report.dag, modules[1].links.dag) for task in dag.tasks]
    images = {task.task_id: getattr(task, "image", None) for task in tasks}
    small = {name for name, image in images.items() if image == "zeshel-small:1"}
    assert small == {"download", "convert", "cut-worlds", "fuse", "calibrate", "report", "promote"}
    assert images["list"] == images["compare"] == "zeshel-tasks:1"


def test_image_of_a_run_is_that_of_all_its_stages(make_task: MakeTask) -> None:
    task, _ = make_task(Step(STAGES["convert"]), {"image": "mine:2"}, smallImage="zeshel-small:1")
    assert task.image == "mine:2"


def test_param_text_is_not_rendered_as_a_template(make_task: MakeTask) -> None:
    task, _ = make_task(Step(STAGES["download"]), {"download.source": "s3://b/{{ run_id }}", "image": "mine:2"})
    assert "--source=s3://b/{{ run_id }}" in task.arguments
    assert task.image == "mine:2"


def test_values_of_the_deployment_are_not_rendered_as_templates(make_task: MakeTask, cluster: Any) -> None:
    text = '{{- with secret "kv/zeshel" -}}{{ .Data.token }}{{ run_id }}'
    values = {
        "annotations": {"vault.hashicorp.com/t": text},
        "labels": {"a": "{{ b }}"},
        "env": {"A": text, "B": "b.yaml"},
    }
    task, context = make_task(STEP, **values)
    start(task, context)
    (container,) = cluster.pod["spec"]["containers"]
    assert cluster.pod["metadata"]["annotations"]["vault.hashicorp.com/t"] == text
    assert cluster.pod["metadata"]["labels"]["a"] == "{{ b }}"
    assert {"name": "A", "value": text} in container["env"]
    assert {"name": "B", "value": "b.yaml"} in container["env"]


@pytest.mark.parametrize(
    ("step", "annotations", "expected"),
    [
        (TRAIN, {}, "true"),
        (TRAIN, {"karpenter.sh/do-not-disrupt": "false"}, "false"),
        (STEP, {}, None),
    ],
)
def test_karpenter_does_not_move_a_training(
    make_task: MakeTask, cluster: Any, step: Step, annotations: dict[str, str], expected: str | None
) -> None:
    start(*make_task(step, annotations=annotations))
    assert cluster.pod["metadata"].get("annotations", {}).get("karpenter.sh/do-not-disrupt") == expected


def test_invalid_params_start_no_pod(make_task: MakeTask, cluster: Any) -> None:
    with pytest.raises(AirflowFailException, match="no such setting"):
        make_task(STEP, {"eval_biencoder.topk": 8})
    assert cluster.pods == {}


def test_committed_stage_succeeds_and_passes_on_its_metrics(make_task: MakeTask, cluster: Any, tmp_path: Path) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    commit(STEP, tmp_path / "store")
    cluster.end(0)
    assert come_back(task, context, name, "success") == {"mentions": 7}
    assert context["outlet_events"][task.command.asset].extra["metrics"] == {"mentions": 7}
    assert cluster.pods == {}


def test_exit_code_0_without_a_manifest_fails_the_task(make_task: MakeTask, cluster: Any) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    cluster.end(0)
    with pytest.raises(AirflowException, match="no manifest is committed"):
        come_back(task, context, name, "success")


@pytest.mark.parametrize(("exit_code", "retried"), [(2, False), (3, False), (75, True), (1, True), (143, True)])
def test_exit_code_decides_about_retries_and_stage_error_is_shown(
    make_task: MakeTask, cluster: Any, exit_code: int, retried: bool
) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    cluster.end(exit_code, "INFO: start\nERROR: top_k: expected 1, got 0\n  more of it\n")
    with pytest.raises(AirflowException) as caught:
        come_back(task, context, name, "failed", "pod failed")
    assert isinstance(caught.value, AirflowFailException) is not retried
    assert str(caught.value).endswith(":\ntop_k: expected 1, got 0\n  more of it")
    assert list(cluster.pods) == [name], "a failed pod is kept to be looked at"


def test_vanished_pod_is_retried_unless_its_work_is_committed(
    make_task: MakeTask, cluster: Any, tmp_path: Path
) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    cluster.pods.clear()
    with pytest.raises(AirflowException, match="is gone, and its result is not in the store") as caught:
        come_back(task, context, name, "error", "404")
    assert not isinstance(caught.value, AirflowFailException)
    commit(STEP, tmp_path / "store")
    assert come_back(task, context, name, "error", "404") == {"mentions": 7}


def test_successful_pod_succeeds_despite_a_triggerer_error(make_task: MakeTask, cluster: Any, tmp_path: Path) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    commit(STEP, tmp_path / "store")
    cluster.end(0)
    assert come_back(task, context, name, "error", "connection lost") == {"mentions": 7}


def test_pod_without_its_image_is_deleted(make_task: MakeTask, cluster: Any) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    cluster.set_status("Pending", {"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    with pytest.raises(AirflowException, match="image zeshel-tasks:1 cannot be pulled") as caught:
        come_back(task, context, name, "error", "Image cannot be pulled")
    assert not isinstance(caught.value, AirflowFailException)
    assert cluster.pods == {}


def test_unschedulable_pod_is_deleted(make_task: MakeTask, cluster: Any) -> None:
    task, context = make_task(STEP)
    name = start(task, context)
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: insufficient nvidia.com/gpu"}
    cluster.set_status("Pending", None, conditions=[condition])
    with pytest.raises(AirflowException, match=r"took too long\n0/3 nodes: insufficient nvidia.com/gpu"):
        come_back(task, context, name, "timeout", "took too long")
    assert cluster.pods == {}


def test_task_stopped_during_pod_creation_fails_and_deletes_the_pod(make_task: MakeTask, cluster: Any) -> None:
    task, context = make_task(STEP)
    push = context["ti"].xcom_push

    def stopped_here(key: str, value: Any) -> None:
        push(key, value)
        if key == "pod_name":
            task.on_kill()

    context["ti"].xcom_push = stopped_here
    with pytest.raises(AirflowException, match="the task was stopped"):
        task.execute(context)
    assert cluster.pods == {}


def test_new_try_takes_over_a_running_pod(make_task: MakeTask, cluster: Any) -> None:
    first = start(*make_task(STEP))
    cluster.set_status("Running", {"running": {}})
    task, context = make_task(STEP)
    context["ti"].try_number = 2
    assert start(task, context) == first
    assert list(cluster.pods) == [first]


def test_unshown_log_lines_are_logged_at_their_own_level(make_task: MakeTask, cluster: Any) -> None:
    task, context = make_task(STEP)
    with structlog.testing.capture_logs() as logged:
        name = start(task, context)
        cluster.logs[name] = [
            "2026-01-01T00:00:01.900000000Z INFO: shown before\n",
            "2026-01-01T00:00:02.100000000Z WARNING: slow\n",
            "2026-01-01T00:00:02.200000000Z   because\n",
            "2026-01-01T00:00:03.000000000Z ERROR: bad\n",
        ]
        cluster.end(2, "ERROR: bad")
        event = {"name": name, "namespace": "ml", "status": "failed", "message": "m"}
        with pytest.raises(AirflowFailException):
            task.trigger_reentry(context, event | {"last_log_time": "2026-01-01T00:00:02.700000+00:00"})
    lines = [(line["log_level"], line["event"]) for line in logged]
    end = next(number for number, (_, text) in enumerate(lines) if text.startswith("Trigger emitted"))
    assert lines[1:end] == [("warning", "slow"), ("warning", "  because"), ("error", "bad")]
