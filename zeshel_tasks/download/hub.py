"""Identity of a model on the Hugging Face hub: the commit that its name stands for today.

A branch or a tag can move, so the name alone does not identify the content. The hub says which commit a name stands
for. Where it does not answer (a scheduler without a route to it), the commit is the one in the local cache of
huggingface_hub or, without one, the one that this store's runs resolved last.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import httpx

from zeshel_tasks.errors import ConfigError, StoreUnavailable, ZeshelError
from zeshel_tasks.location import HubModel
from zeshel_tasks.store import Store

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10
_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_identity(model: HubModel, store: Store) -> str:
    """``hub:<repository>@<commit>``.

    Args:
        model: a model with any revision; none means ``main``.
        store: the store in which the commit is recorded for processes that cannot reach the hub.

    Raises:
        ConfigError: the hub refuses or does not have this model.
        StoreUnavailable: the hub does not answer.
    """
    revision = model.revision or "main"
    if not _COMMIT.fullmatch(revision):
        revision = _resolved(replace(model, revision=revision), store)
    return f"hub:{model.repository}@{revision}"


def at_identity(model: HubModel, identity: str) -> HubModel:
    """The model at the commit of its :func:`hub_identity`."""
    return replace(model, revision=identity.rpartition("@")[2])


def _resolved(model: HubModel, store: Store) -> str:
    key = f"hub/{model.repository}@{model.revision}"
    noted = (store.get(key) or b"").decode("ascii", errors="replace")
    try:
        commit = _asked(model)
    except ZeshelError as error:
        commit = _cached(model) or noted
        if not _COMMIT.fullmatch(commit):
            raise
        log.warning("%s; assuming commit %s, which %s was before", error, commit, model.name)
    if commit != noted:
        store.put(key, commit.encode())
    return commit


def _asked(model: HubModel) -> str:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise StoreUnavailable(f"bert_model: {model.name!r}: cannot ask the hub, because HF_HUB_OFFLINE is set")
    endpoint, token = os.environ.get("HF_ENDPOINT") or "https://huggingface.co", _token()
    address = f"{endpoint.rstrip('/')}/api/models/{model.repository}/revision/{quote(model.revision or '', safe='')}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(address, headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=True)
        answer.raise_for_status()
        commit = str(answer.json()["sha"])
    except httpx.HTTPStatusError as error:
        problem = f"the hub answered {error.response.status_code} {error.response.reason_phrase}"
        if error.response.status_code in (401, 403, 404):
            raise ConfigError(f"bert_model: expected a model on the hub, got {model.name!r}: {problem}") from error
        raise StoreUnavailable(f"bert_model: {model.name!r}: {problem}") from error
    except (httpx.HTTPError, httpx.InvalidURL, LookupError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise StoreUnavailable(f"bert_model: {model.name!r}: the hub does not answer: {problem}") from error
    if not _COMMIT.fullmatch(commit):
        raise StoreUnavailable(f"bert_model: {model.name!r}: expected a commit from the hub, got {commit!r}")
    return commit


def _cached(model: HubModel) -> str:
    hub = Path(os.environ.get("HF_HUB_CACHE") or _home() / "hub")
    return _read(hub / f"models--{model.repository.replace('/', '--')}" / "refs" / (model.revision or ""))


def _token() -> str:
    return os.environ.get("HF_TOKEN") or _read(Path(os.environ.get("HF_TOKEN_PATH") or _home() / "token"))


def _home() -> Path:
    """The cache folder of huggingface_hub, a package that the scheduler's image lacks."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
