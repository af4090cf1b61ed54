"""``zeshel serve``: link texts over HTTP."""

from __future__ import annotations

import argparse
import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zeshel_tasks.commands.argument_types import path, store
from zeshel_tasks.commands.settings_flags import add_settings_of, given_settings
from zeshel_tasks.compute.termination import ToldToStop, end_now
from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.credentials import check_credentials
from zeshel_tasks.errors import EXIT_OK, ConfigError
from zeshel_tasks.recipe import build_settings
from zeshel_tasks.serving.settings import LINK_SETTINGS, ServeConfig

log = logging.getLogger(__name__)

TOKEN = "ZESHEL_ADMIN_TOKEN"
_SHORTEST_TOKEN = 16


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``serve``."""
    parser.add_argument(
        "--store", required=True, type=store, metavar="ADDRESS", help="a directory or s3://bucket/prefix"
    )
    parser.add_argument("--kb", required=True, action="append", metavar="NAME", help="a knowledge base (repeatable)")
    parser.add_argument(
        "--admin_token_file",
        type=path,
        metavar="FILE",
        help=f"file with the token that lets requests change entities (default: ${TOKEN}; without, none may)",
    )
    add_settings_of(parser, ServeConfig)
    add_settings_of(parser, LinkConfig, LINK_SETTINGS)
    parser.set_defaults(command=_serve)


def _serve(options: argparse.Namespace) -> None:
    given = dict(given_settings(options))
    of_service = {name: given.pop(name) for name in ServeConfig.model_fields if name in given}
    settings = build_settings(ServeConfig, of_service)
    build_settings(LinkConfig, given)
    token = _admin_token(options.admin_token_file)
    _check_installed()
    try:
        _serve_until_sigterm(options.store, list(dict.fromkeys(options.kb)), settings, given, token)
    except ToldToStop:  # before the server's own handler was there, or after it
        log.info("stopped by SIGTERM")


def _serve_until_sigterm(
    address: str, names: list[str], settings: ServeConfig, link_settings: dict[str, Any], token: str | None
) -> None:
    from zeshel_tasks.knowledge_base.head import KnowledgeBase
    from zeshel_tasks.store import open_store

    opened = open_store(address)
    if not settings.wait:  # a mistyped name is noticed before torch is imported, which takes seconds
        for name in names:
            _ = KnowledgeBase.read(opened, name).head

    from zeshel_tasks.pipeline.contract import scratch_space
    from zeshel_tasks.serving.server import new_service, run

    with scratch_space() as cache:
        with new_service(opened, names, settings, link_settings, token, cache) as service:
            run(service)
        if not service.drained.is_set():
            end_now(EXIT_OK)  # Python must not end while a thread computes in a library


def _admin_token(file: Path | None) -> str | None:
    """The token of a file, without the line end after it, or of the environment."""
    if file is None:
        check_credentials([TOKEN])
        token, name = os.environ.get(TOKEN) or None, TOKEN
    else:
        name = "--admin-token-file"
        try:
            token = file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}: expected a file with a token in ASCII, got {file}: {error}") from error
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise ConfigError(f"{name}: expected a token of at least {_SHORTEST_TOKEN} characters, got {len(token)}")
    return token


def _check_installed() -> None:
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(name) is None:
            raise ConfigError(f"serve: expected an installation with zeshel-tasks[serve], got one without {name}")
