"""The trigger that waits for a stage's pod, while its task is deferred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.triggers.pod import ContainerState, KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import AsyncPodManager, PodLaunchTimeoutException
from airflow.sdk.exceptions import AirflowException
from airflow.triggers.base import TriggerEvent

from zeshel_tasks.orchestration.pods.lost import why_lost
from zeshel_tasks.orchestration.pods.outage import OUTAGE_SECONDS, is_outage

UNREACHABLE_SINCE = "unreachable_since"
"""Key of ``trigger_kwargs``: Unix time of the first request that an outage of the Kubernetes API left unanswered."""
PAUSE_SECONDS = 30.0
SETTLE_SECONDS = 10.0
"""Least time between the start of a trigger and its event.

The task's process ends after it has deferred, and its executor hears of that a scheduler's round later. If the event
has queued the task again by then, Airflow takes the news for the end of the new process, and fails a task that is fine.
Its try has no log, because Airflow records only tries that were running.
"""
_DELETIONS: set[asyncio.Task[None]] = set()
"""Work that nobody waits for. The event loop holds only weak references to its tasks."""
IN_USE = ("deferred", "running")
"""States of a task that waits for its pod, or that a further try or another triggerer has just woken up."""


class StagePodTrigger(KubernetesPodTrigger):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    """Waits until the stage's container has ended, whatever happens to the API, the node and other triggerers."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class and its arguments."""
        _, arguments = super().serialize()
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the stage has ended, its pod is lost or did not start."""
        began = time.monotonic()
        if UNREACHABLE_SINCE in self.trigger_kwargs:  # the task has just tried in vain
            await asyncio.sleep(PAUSE_SECONDS)
        async for event in super().run():
            await asyncio.sleep(max(0.0, began + SETTLE_SECONDS - time.monotonic()))
            yield event

    async def on_kill(self) -> None:
        """Delete the pod if a person ended its task.

        Airflow cancels this call about a second after it has made it, because it cancels a trigger again and again
        until it has ended. So a task of its own does the work.
        """
        deletion = asyncio.create_task(self._delete_unless_in_use())
        _DELETIONS.add(deletion)
        deletion.add_done_callback(_DELETIONS.discard)
        await asyncio.shield(deletion)

    async def _delete_unless_in_use(self) -> None:
        """Delete the pod unless its task still waits for it.

        A triggerer also kills its triggers after it stood still for so long that another one took them over
        (apache/airflow#73454). If the state is unknown, the pod is kept: ``abandoned`` asks again.
        """
        try:
            state = await self.get_task_state()
        except AirflowException:  # there is no such task, because the run was deleted
            state = None
        except Exception as error:
            self.log.warning("pod %s is kept, because the state of its task is unknown: %s", self.pod_name, error)
            return
        if state in IN_USE:
            self.log.info("pod %s is kept, because its task is %s: another triggerer watches it", self.pod_name, state)
            return
        await super().on_kill()  # retries, and logs what it cannot do

    @cached_property
    def pod_manager(self) -> AsyncPodManager:
        """Reads the pod with the patience of this trigger."""
        return _PatientPodManager(self)

    async def _wait_for_pod_start(self) -> ContainerState:
        """Let the time to wait for a node begin when a queue, such as Kueue, has admitted the pod."""
        if (await self._get_pod()).spec.scheduling_gates:
            self.log.info("pod %s waits in a queue", self.pod_name)
            while (await self._get_pod()).spec.scheduling_gates:
                await asyncio.sleep(self.startup_check_interval)
        return await super()._wait_for_pod_start()

    async def _get_pod(self) -> Any:
        """Return the pod, after an outage of the API if need be.

        Raises:
            PodLaunchTimeoutException: the pod is lost; the task gets an event with the status ``timeout``.
        """
        pod = await self._pod_after_an_outage()
        if self.define_pod_container_state(pod) not in (ContainerState.TERMINATED, ContainerState.FAILED):
            self.trigger_kwargs.pop(UNREACHABLE_SINCE, None)
            if (why := why_lost(pod, datetime.now(UTC))) is not None:
                raise PodLaunchTimeoutException(why)
        return pod

    async def _pod_after_an_outage(self) -> Any:
        while True:
            try:
                return await super()._get_pod()
            except Exception as error:
                if not is_outage(error):
                    raise
                since = self.trigger_kwargs.setdefault(UNREACHABLE_SINCE, time.time())
                if time.time() - since > OUTAGE_SECONDS:
                    raise
                self.log.warning("Kubernetes does not answer, so pod %s is not watched: %s", self.pod_name, error)
                await asyncio.sleep(PAUSE_SECONDS)


class _PatientPodManager(AsyncPodManager):  # type: ignore[misc]  # mypy does not follow imports into Airflow
    def __init__(self, trigger: StagePodTrigger) -> None:
        super().__init__(async_hook=trigger.hook)
        self._trigger = trigger

    async def read_pod(self, pod: Any) -> Any:  # noqa: ARG002
        return await self._trigger._get_pod()

    async def fetch_container_logs_before_current_sec(
        self, pod: Any, container_name: str, since_time: Any = None
    ) -> Any:
        """Log the new lines. The log of a node that does not answer can wait."""
        try:
            return await super().fetch_container_logs_before_current_sec(pod, container_name, since_time)
        except Exception as error:
            self.log.warning("the log of pod %s cannot be read: %s", pod.metadata.name, error)
            return since_time
