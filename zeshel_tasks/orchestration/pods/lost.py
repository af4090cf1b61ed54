"""Recognizes a pod whose node is lost. Its state says that it runs, because only the node could say otherwise."""

from __future__ import annotations

from datetime import datetime, timedelta

from kubernetes.client import models as k8s

LATE = timedelta(minutes=1)
"""Time after which a pod that ought to be gone is lost."""


def gone_by(pod: k8s.V1Pod) -> datetime | None:
    """Return the time at which a pod that is being deleted ought to be gone. Only its node can confirm that it is."""
    deleted: datetime | None = pod.metadata.deletion_timestamp  # includes the grace period
    return None if deleted is None else deleted + LATE


def why_lost(pod: k8s.V1Pod, now: datetime) -> str | None:
    """Return what shows that the node of a pod is lost, although the pod's state says that it runs; None if nothing."""
    by = gone_by(pod)
    if by is not None and by < now:
        return f"it should have been deleted at {pod.metadata.deletion_timestamp:%Y-%m-%d %H:%M:%S}"
    started, seconds = pod.status.start_time, pod.spec.active_deadline_seconds
    if started is None or seconds is None:
        return None
    grace = timedelta(seconds=pod.spec.termination_grace_period_seconds or 0)
    if started + timedelta(seconds=seconds) + grace + LATE < now:
        return f"it still runs, although its activeDeadlineSeconds, {seconds}, are over"
    return None
