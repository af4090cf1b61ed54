"""Deletes pods that no task waits for any more.

The trigger of a task deletes its pod when a person ends the task. It cannot do so if the triggerer is down at that
time, if the task is on its way between a worker and the triggerer, or if Kubernetes does not answer.
"""

from __future__ import annotations

import logging

from airflow.models.taskinstance import TaskInstance
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.utils.session import create_session
from airflow.utils.state import State
from kubernetes.client import ApiException
from sqlalchemy import or_, select
from urllib3.exceptions import HTTPError

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.orchestration.pod_settings import PodSettings
from zeshel_tasks.orchestration.pods.ending import is_over
from zeshel_tasks.orchestration.pods.specification import instance_labels
from zeshel_tasks.orchestration.settings import read_deployment

ANSWER_SECONDS = 30.0

log = logging.getLogger(__name__)


def pod_settings() -> PodSettings | None:
    """Return the settings of a deployment that creates pods and can tell them from those of any other Airflow."""
    try:
        deployment = read_deployment()
    except ConfigError:  # the DAG reports it
        return None
    pods = deployment.pods if deployment.runner == "kubernetes" else None
    return pods if pods is not None and pods.instance else None


def delete_abandoned(pods: PodSettings, suspects: set[str]) -> set[str]:
    """Delete the pods that no task waits for, if the previous call found so, too. Failed pods stay for inspection.

    Args:
        pods: the deployment's settings, with an ``instance``.
        suspects: uids that the previous call returned.

    Returns:
        The uids of the pods that no task waits for.

    Raises:
        Exception: the cluster or Airflow's database cannot be read. No pod is deleted then.
    """
    in_cluster = pods.in_cluster if pods.connection_id is None else None
    client = KubernetesHook(conn_id=pods.connection_id, in_cluster=in_cluster).core_v1_client
    selector = ",".join(f"{name}={value}" for name, value in instance_labels(str(pods.instance)).items())
    found = client.list_namespaced_pod(pods.namespace, label_selector=selector, _request_timeout=ANSWER_SECONDS).items
    running = [pod for pod in found if not is_over(pod) and pod.metadata.deletion_timestamp is None]
    awaited = _awaited() if running else set()  # read after the list, so it contains the tasks of all pods in it
    abandoned = [pod.metadata for pod in running if _task(pod.metadata.labels) not in awaited]
    for pod in abandoned:
        if pod.uid in suspects:
            log.warning("deleting pod %s, because no task waits for it", pod.name)
            try:
                client.delete_namespaced_pod(pod.name, pod.namespace, _request_timeout=ANSWER_SECONDS)
            except (ApiException, HTTPError) as error:
                log.warning("could not delete pod %s: %s", pod.name, getattr(error, "reason", error))
    return {pod.uid for pod in abandoned}


def _task(labels: dict[str, str]) -> tuple[str | None, ...]:
    """Return the pod's task as the operator's labels name it."""
    return labels.get("dag_id"), labels.get("run_id"), labels.get("task_id"), labels.get("map_index", "-1")


def _awaited() -> set[tuple[str | None, ...]]:
    """Return the unfinished tasks of this Airflow as labels name them. Each may wait for a pod or take one over."""
    # Named one by one, the states are found by their index. The history of all DAGs may be long.
    unfinished = or_(TaskInstance.state.is_(None), TaskInstance.state.in_([*filter(None, State.unfinished)]))
    task = TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index
    with create_session() as session:
        rows = session.execute(select(*task).where(unfinished))
        return {(*map(make_safe_label_value, names), str(map_index)) for *names, map_index in rows}
