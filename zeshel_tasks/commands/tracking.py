"""Records runs and the champion in MLflow, if a tracking address is set.

A stage that has finished its work sends MLflow every finished stage of its run that MLflow does not know yet. If the
server was down at the end of one stage, the next stage sends its data. ``zeshel track`` does the same by hand. The
store is the source of truth, and no stage fails because of MLflow.

MLflow shows the present state of a run in the store. MLflow cannot remove parameters and steps, so if a stage was
repeated, its MLflow run is deleted and replaced by a new one. MLflow learns only about finished stages, not about those
that failed, were rejected or did not start. Its runs are always marked FINISHED.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from zeshel_tasks.commands.tracking_writer import Tracking
from zeshel_tasks.credentials import check_credentials
from zeshel_tasks.errors import ConfigError, StoreUnavailable, ZeshelError
from zeshel_tasks.location import is_server
from zeshel_tasks.proxies import check_proxies
from zeshel_tasks.store import open_run, open_store
from zeshel_tasks.text.redaction import HIDDEN, redacted, secrets_of, without_secrets
from zeshel_tasks.text.safe_text import quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

ADDRESS = "MLFLOW_TRACKING_URI"
_WEB = re.compile(r"\s*https?:", re.IGNORECASE)
_CREDENTIALS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
# A stage holds a GPU while it updates MLflow. By default, MLflow waits many minutes for a silent server. With these
# settings, the first unanswered request fails after 16 seconds and ends the update.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "8", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# At the end of a run, MLflow prints its address, including a password in it.
_PRINTS_NO_ADDRESS = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}


def tell_of_run(run_address: str) -> None:
    """Send the finished stages of a run to MLflow, if an address is set. Failures are logged as warnings."""
    _told(lambda: track_run(run_address))


def tell_of_champion(store_address: str) -> None:
    """Send the champion to MLflow, if an address is set. Failures are logged as warnings."""
    _told(lambda: Tracking(_client()).champion(open_store(store_address)))


def track_run(run_address: str) -> None:
    """Send the finished stages of a run to MLflow, and the champion if the run has finished ``promote``.

    Raises:
        ConfigError: no address is set, MLflow is not installed, or the run has no finished stage.
        StoreUnavailable: MLflow does not answer or rejects a request.
    """
    run = open_run(run_address)
    with _refusals_named():
        Tracking(_client()).run(run)


def _client() -> MlflowClient:
    if not os.environ.get(ADDRESS):
        raise ConfigError(f"{ADDRESS}: expected the address of an MLflow server, got nothing")
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    os.environ.update(_PRINTS_NO_ADDRESS)
    check_proxies()
    check_credentials(_CREDENTIALS)
    address = os.environ[ADDRESS]
    if _WEB.match(address) and not is_server(address):  # MLflow also takes files, databases and its plugins' addresses
        shown = quoted(without_secrets(address))
        raise ConfigError(f"{ADDRESS}: expected the address of an MLflow server, got {shown}")
    try:
        from mlflow import MlflowClient, environment_variables
    except ImportError as error:
        raise ConfigError(
            f"{ADDRESS} is set, but MLflow is not installed: pip install 'zeshel-tasks[mlflow]'"
        ) from error
    _check_numbers(environment_variables)
    return MlflowClient()


def _check_numbers(known: ModuleType) -> None:
    """Check the variables for MLflow's requests, which it reads at its first request."""
    for name in os.environ:
        if name.startswith("MLFLOW_HTTP_") and hasattr(known, name):
            try:
                getattr(known, name).get()
            except ValueError as error:
                raise ConfigError(f"{name}: expected another value, got {quoted(os.environ[name])}: {error}") from error


def _told(tell: Callable[[], None]) -> None:
    if not os.environ.get(ADDRESS):
        return
    try:
        with _refusals_named():
            tell()
    except ZeshelError as error:
        log.warning("MLflow was not updated; nothing else is affected: %s", error)
    except Exception as error:  # of any library: the stage has finished and must not fail because of MLflow
        # No traceback, because any library in it may show the address.
        problem = f"{type(error).__name__}: {_without_secrets(error)}"
        log.warning("MLflow was not updated; nothing else is affected: %s", problem)


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Convert MLflow's errors, which fill a page if the server is down, to one line."""
    try:
        yield
    except ZeshelError:
        raise
    except Exception as error:  # of any library below MLflow's client: requests, urllib3, protobuf
        if not type(error).__module__.startswith(("mlflow", "requests", "urllib3", "google.protobuf")):
            raise
        raise StoreUnavailable(f"{without_secrets(os.environ[ADDRESS])}: {_without_secrets(error)}") from error


def _without_secrets(error: Exception) -> str:
    """Return the first line of an error's message, without secrets of the address that the library may quote."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    for secret in sorted(secrets_of(os.environ[ADDRESS]), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return redacted(text)[:500]
