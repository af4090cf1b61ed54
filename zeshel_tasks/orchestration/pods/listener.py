"""Lets each triggerer look for abandoned pods. Every component of Airflow loads this module with the plugin."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from airflow.listeners import hookimpl

PAUSE_SECONDS = 60.0

log = logging.getLogger(__name__)


@hookimpl  # type: ignore[untyped-decorator]
def on_starting(component: Any) -> None:
    """Start the search in a thread of the triggerer's main process, which has the rights and the database.

    Args:
        component: the ``Job`` of a component of Airflow, or something else in a task's process.
    """
    if hasattr(type(component), "heartrate"):  # not of the object, whose rate depends on the type that is yet to come
        threading.Thread(target=_search, args=(component,), name="abandoned-pods", daemon=True).start()


def _search(job: Any) -> None:
    time.sleep(PAUSE_SECONDS)  # Airflow sets the type of the job later, and forks. Meanwhile no lock may be held.
    if job.job_type != "TriggererJob":
        return
    from zeshel_tasks.orchestration.pods.abandoned import delete_abandoned, pod_settings  # slow to import

    suspects: set[str] = set()
    while (pods := pod_settings()) is not None:
        try:
            suspects = delete_abandoned(pods, suspects)
        except Exception as error:  # of the database, or of the cluster
            suspects = set()  # two searches in a row must find a pod
            log.warning("could not look for abandoned pods: %s", error)
        time.sleep(PAUSE_SECONDS)
