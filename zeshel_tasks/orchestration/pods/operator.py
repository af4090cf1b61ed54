"""An Airflow operator that runs a command of ``zeshel`` as a pod."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.providers.cncf.kubernetes.secret import Secret
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from kubernetes.client import ApiException
from kubernetes.client import models as k8s
from urllib3.exceptions import HTTPError

from zeshel_tasks.errors import EXIT_OK, ConfigError
from zeshel_tasks.orchestration.params import refuse_fixed, run_config_of
from zeshel_tasks.orchestration.pod_settings import PodSettings
from zeshel_tasks.orchestration.pods import specification
from zeshel_tasks.orchestration.pods.ending import container_state, exit_code, is_over, pod_failure
from zeshel_tasks.orchestration.pods.lost import gone_by
from zeshel_tasks.orchestration.pods.outage import OUTAGE_SECONDS, is_outage
from zeshel_tasks.orchestration.pods.refusal import not_created
from zeshel_tasks.orchestration.pods.template import pod_template
from zeshel_tasks.orchestration.pods.trigger import PAUSE_SECONDS, UNREACHABLE_SINCE, StagePodTrigger
from zeshel_tasks.orchestration.settings import RunConfig, path_safe
from zeshel_tasks.orchestration.task_command import (
    TaskCommand,
    finish,
    named_after,
    published,
    split_level,
    submitted_now,
)


class ZeshelPodOperator(KubernetesPodOperator):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Runs ``zeshel ...`` in a pod and is green only if the result is in the store.

    Args:
        command: the command to run.
        pods: the deployment's settings of pods.
    """

    ui_color = "#dbe9f6"
    template_ext: ClassVar[tuple[str, ...]] = ()  # a value that ends with .yaml is not a file

    def __init__(self, *, command: TaskCommand, pods: PodSettings, **kwargs: Any) -> None:
        pod_class = pods.model if command.runs_a_model else pods.data
        template = pod_template(command, pods)
        super().__init__(
            # -- which cluster
            kubernetes_conn_id=pods.connection_id,  # the default is a connection that may not exist
            in_cluster=pods.in_cluster if pods.connection_id is None else None,
            namespace=pods.namespace,
            # -- what runs
            name=f"zeshel-{command.name.replace('_', '-')}",
            random_name_suffix=True,  # Airflow stores a pod's name without its uid (apache/airflow#71743)
            image=specification.image(command, pods, RunConfig()),
            image_pull_policy=pods.image_pull_policy,
            image_pull_secrets=[k8s.V1LocalObjectReference(name=name) for name in pods.image_pull_secrets],
            env_vars=specification.environment(command, pods),
            # By reference, because values would appear in rendered templates and logs (apache/airflow#17604, #69021).
            secrets=[Secret("env", None, name) for name in pods.secrets],
            labels=specification.labels(command, pods),
            annotations=specification.annotations_of(command, pods),
            # -- where
            node_selector=dict(pod_class.node_selector),
            tolerations=list(pod_class.tolerations),
            affinity=dict(pod_class.affinity),
            priority_class_name=pod_class.priority_class_name,
            # -- what it may do
            service_account_name=pods.service_account_name,
            automount_service_account_token=False,  # stages do not use the API server
            security_context=specification.pod_security(pods, template),
            container_security_context=specification.container_security(),
            volumes=specification.volumes(command, pods),
            volume_mounts=specification.volume_mounts(command, pods),
            # -- what the deployment adds
            full_pod_spec=template,
            # -- how it is watched
            deferrable=True,  # hours of training occupy no worker slot and survive a worker's death
            durable=True,  # a new try finds the pod that the previous try left running
            poll_interval=pods.poll_interval_seconds,
            startup_check_interval_seconds=pods.poll_interval_seconds,
            schedule_timeout_seconds=pods.schedule_timeout_seconds,  # GPU nodes scale up slowly (apache/airflow#51789)
            startup_timeout_seconds=pods.startup_timeout_seconds,
            logging_interval=pods.logging_interval_seconds,  # None: no log before the end (apache/airflow#57531)
            do_xcom_push=False,  # metrics come from the manifest; a sidecar can hang (apache/airflow#37298)
            log_pod_spec_on_failure=False,  # it contains the environment (apache/airflow#17604)
            log_events_on_failure=True,  # such as "FailedScheduling" and "BackOff", which often explain it
            termination_message_policy="FallbackToLogsOnError",  # the stage's last lines, even if its log is unreadable
            # -- how it ends
            on_finish_action="delete_succeeded_pod",  # a failed pod stays for inspection
            on_kill_action="delete_pod",
            termination_grace_period=pods.termination_grace_period_seconds,  # to save a checkpoint
            active_deadline_seconds=pods.active_deadline_seconds,  # ends a pod that Airflow no longer watches
            **named_after(command, kwargs),
        )
        self.operator_extra_links = command.links
        self.command, self.pods, self.pod_class = command, pods, pod_class

    def _do_render_template_fields(self, parent: Any, template_fields: Any, context: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Add the fields that depend on the run, so that the UI's *Rendered Templates* shows them.

        Airflow calls this also for a mapped task, in contrast to ``render_template_fields``.

        Nothing is rendered: neither the text of a Param nor the deployment's values, such as the annotations with which
        Vault's agent gets its own templates, are templates of Airflow.

        Raises:
            AirflowFailException: the Params are not a valid recipe, or the deployment fixes one of them.
        """
        try:
            refuse_fixed(context["params"], self.pods.fixed_params)
        except ConfigError as error:
            raise AirflowFailException(f"{self.command.name}: bad configuration, not retried:\n{error}") from None
        self.arguments = self.command.arguments(context)
        run = run_config_of(context["params"])
        self.image = specification.image(self.command, self.pods, run)
        self.container_resources = specification.resources(
            self.command, self.pods, self.pod_class, run, self.full_pod_spec
        )
        run_label = {"zeshel/run": make_safe_label_value(path_safe(context["run_id"]))}
        self.labels = specification.labels(self.command, self.pods) | run_label

    def execute(self, context: Any) -> Any:
        """Create the pod, or find the one of an earlier try, and hand it to the triggerer.

        If the result is already in the store, no pod is created, and that of an earlier try is deleted.

        Raises:
            TaskDeferred: the pod exists, or Kubernetes does not answer.
            AirflowException: the task was stopped and the pod deleted, or Kubernetes does not create the pod.
            AirflowFailException: Kubernetes refuses the pod.
        """
        return self.execute_again(context, since=time.time())

    def execute_again(self, context: Any, *, since: float, event: Any = None) -> Any:  # noqa: ARG002
        """Do the same after an outage of Kubernetes.

        Args:
            context: of the task instance.
            since: Unix time of the first attempt.
            event: says that it is time for another attempt.
        """
        done = self.command.reused(context)
        if done is not None:
            if context["ti"].try_number > 1:
                self._delete_pod_of_earlier_try(context)
            return self._passed_on(published(self.command, done, context))
        submitted = [k8s.V1EnvVar(name=name, value=value) for name, value in submitted_now().items()]
        self.env_vars = specification.environment(self.command, self.pods) + submitted
        try:
            self.execute_async(context)
        except TaskDeferred as deferred:
            # SIGTERM raises nothing here, so the task would wait for the pod that it has deleted.
            if self._killed:
                raise AirflowException(f"{self.command.name}: the task was stopped and its pod deleted") from deferred
            raise
        except (ApiException, HTTPError) as error:
            if not is_outage(error) or time.time() - since > OUTAGE_SECONDS or self._killed:
                # Without its cause, which would add headers and a traceback to the log.
                raise not_created(self.command.name, error) from None
            self.log.warning("Kubernetes does not answer, so no pod was created; waiting for it: %s", error)
            pause = TimeDeltaTrigger(timedelta(seconds=PAUSE_SECONDS))
            super().defer(trigger=pause, method_name="execute_again", kwargs={"since": since})

    def find_pod(self, namespace: str, context: Any, *, exclude_checked: bool = True) -> k8s.V1Pod | None:
        """Return the pod of an earlier try, which this one takes over; None if there is none or if it is deleted."""
        pod = super().find_pod(namespace, context, exclude_checked=exclude_checked)
        return self._unless_deleted(pod)

    def _get_pod_from_task_state_store(self, context: Any) -> k8s.V1Pod | None:
        return self._unless_deleted(super()._get_pod_from_task_state_store(context))

    def _unless_deleted(self, pod: k8s.V1Pod | None) -> k8s.V1Pod | None:
        """Return None instead of a pod that is being deleted, after it has saved its checkpoint, or is lost."""
        if pod is None or (by := gone_by(pod)) is None:
            return pod
        self.log.info("waiting until pod %s, which is being deleted, is gone", pod.metadata.name)
        while not is_over(pod):
            if datetime.now(UTC) >= by:
                self.log.warning("pod %s is not gone; its node is probably lost", pod.metadata.name)
                self.patch_already_checked(pod, reraise=False)  # or further tries would find it, too
                break
            time.sleep(self.pods.poll_interval_seconds)
            if self._killed:
                raise AirflowException(f"{self.command.name}: the task was stopped before its pod was created")
            try:
                pod = self.hook.get_pod(pod.metadata.name, pod.metadata.namespace)
            except ApiException as error:
                if error.status != 404:
                    raise
                break
        return None

    def defer(self, *, trigger: KubernetesPodTrigger, **options: Any) -> None:
        """Wait with our own trigger.

        Raises:
            TaskDeferred: always.
        """
        _, arguments = trigger.serialize()
        super().defer(trigger=StagePodTrigger(**arguments), **options)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Decide whether the task succeeded, after the triggerer saw the pod end. Its outcome becomes its XCom.

        Raises:
            TaskDeferred: the pod is still running, or Kubernetes does not answer.
            AirflowFailException, AirflowException: see ``ending.pod_failure`` and ``task_command.finish``.
        """
        failure, outage = None, None
        try:
            super().trigger_reentry(context, event)
        except (AirflowException, ApiException, HTTPError) as error:
            outage = error if self.pod is None and is_outage(error) else None
            failure = pod_failure(self.command.name, self.pod, self.base_container_name, event)
        if failure is not None and self.pod is not None and exit_code(self.pod, self.base_container_name) != EXIT_OK:
            self._delete_what_could_still_run(self.pod)
            raise failure
        # The pod succeeded, or is gone and its end is unknown: the store decides.
        code = None if failure is not None and self.pod is None else EXIT_OK
        try:
            value = finish(self.command, code, [], context)
        except AirflowException as error:
            if outage is not None:
                self._defer_until_the_outage_ends(context, event, outage)
            raise failure or error from None
        return self._passed_on(value)

    def _defer_until_the_outage_ends(self, context: Any, event: dict[str, Any], outage: BaseException) -> None:
        """Return to the triggerer. The pod may work on meanwhile.

        Raises:
            TaskDeferred: Kubernetes has answered within the last day.
            AirflowException: it has not.
        """
        since = event.get(UNREACHABLE_SINCE, time.time())
        if time.time() - since > OUTAGE_SECONDS:
            raise AirflowException(f"{self.command.name}: Kubernetes has not answered for a day: {outage}") from None
        self.log.warning("Kubernetes does not answer; waiting for pod %s again: %s", event["name"], outage)
        self.pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name=event["name"], namespace=event["namespace"]))
        self.trigger_kwargs = {UNREACHABLE_SINCE: since}
        self.invoke_defer_method(last_log_time=event.get("last_log_time"), context=context)

    def _passed_on(self, value: Any) -> Any:
        """Return the task's value, and let Airflow push it. Before the pod ran, this would have added a sidecar."""
        self.do_xcom_push = True
        return value

    def is_istio_enabled(self, pod: k8s.V1Pod) -> bool:  # noqa: ARG002
        """Return True: the stage's container decides, even if there is no sidecar that outlives it."""
        return True

    def _delete_pod_of_earlier_try(self, context: Any) -> None:
        """Delete a pod that works on a result which is there. Its end was not seen, or it would have been handled."""
        try:
            pod = super().find_pod(self.namespace, context)
            if pod is not None:
                self.pod_manager.delete_pod(pod)
        except (AirflowException, ApiException, HTTPError) as error:
            self.log.warning("could not look for a pod of an earlier try and delete it: %s", error)

    def _delete_what_could_still_run(self, pod: k8s.V1Pod) -> None:
        """Delete a pod that waits for its image or a node, or whose sidecar runs on.

        It could run at the same time as the next try's pod, and it holds the resources of its node.
        """
        if is_over(pod):
            return
        try:
            self.pod_manager.delete_pod(pod)
        except (ApiException, HTTPError) as error:
            self.log.warning("could not delete pod %s: %s", pod.metadata.name, error)

    def _write_logs(self, pod: k8s.V1Pod, follow: bool = False, since_time: Any = None) -> None:  # noqa: ARG002
        """Log the lines that the triggerer has not logged, each at its own level. The provider logs all as INFO."""
        state = container_state(pod, self.base_container_name)
        if state is None or state.waiting:
            return
        since = _whole_second(since_time)
        answer = self.client.read_namespaced_pod_log(
            name=pod.metadata.name,
            namespace=pod.metadata.namespace,
            container=self.base_container_name,
            since_seconds=None if since is None else math.ceil((datetime.now(UTC) - since).total_seconds()) + 1,
            timestamps=True,
            _preload_content=False,
        )
        level = "INFO"
        for raw_line in answer:
            written_at, _, line = raw_line.decode("utf-8", errors="replace").rstrip("\n").partition(" ")
            if line and (since is None or datetime.fromisoformat(written_at) >= since):
                level, text = split_level(line, level)
                getattr(self.log, level.lower())("%s", text)


def _whole_second(time: datetime | str | None) -> datetime | None:
    """Round down to a second, because the triggerer omits the lines of the second in which it reads."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return None if time is None else time.replace(microsecond=0)
