"""Recognizes that the Kubernetes API is out of order. The pods work on meanwhile."""

from __future__ import annotations

import aiohttp
from airflow.providers.cncf.kubernetes.exceptions import KubernetesApiError
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import KubernetesApiException
from kubernetes.client import ApiException
from kubernetes_asyncio.client import ApiException as AsyncApiException
from urllib3.exceptions import HTTPError

OUTAGE_SECONDS = 86_400.0
"""Time without an answer, one day, after which a task fails."""

_NO_ANSWER = (
    *(HTTPError, KubernetesApiException),  # of the operator's client
    *(aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, KubernetesApiError),  # of the trigger's client
    *(ConnectionError, TimeoutError),
)


def is_outage(error: BaseException) -> bool:
    """Return True if the API does not answer, is overloaded or fails, so that the same request may succeed later."""
    if isinstance(error, ApiException | AsyncApiException):
        return not error.status or error.status in (408, 429) or error.status >= 500
    return isinstance(error, _NO_ANSWER)
