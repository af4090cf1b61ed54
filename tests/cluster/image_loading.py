"""Loads images from archives into the cluster under test: python -m tests.cluster.image_loading ARCHIVE ...

The cluster is that of kubectl's current context. kind and minikube are supported. For other clusters or another way,
set the environment variable IMAGE_LOAD to the command, with {} for the archive: ``ctr -n k8s.io images import {}``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "IMAGE_LOAD"
KIND_PREFIX = "kind-"
MINIKUBE_PROVIDER = "minikube.sigs.k8s.io"


class ImageLoadError(Exception):
    """The cluster is not supported, or the command to load an image failed."""


@dataclass(frozen=True)
class Context:
    """A kubectl context: its name, and the provider that is noted in the kubeconfig (minikube does that)."""

    name: str
    providers: tuple[str, ...] = ()


def load(archives: Sequence[Path], environ: Mapping[str, str]) -> None:
    """Loads all ``archives``, and shows the output of the commands.

    Raises:
        ImageLoadError: an archive is missing, the cluster is not supported, or the command failed.
    """
    context = None if environ.get(VARIABLE) else current_context(environ)
    for archive in archives:
        if not archive.is_file():
            raise ImageLoadError(f"expected an image archive at {archive}, found none")
        _run(load_command(archive.resolve(), context, environ), environ)


def load_command(archive: Path, context: Context | None, environ: Mapping[str, str]) -> list[str]:
    """Returns the command that loads ``archive``: IMAGE_LOAD, or else the command for the context's cluster.

    Raises:
        ImageLoadError: IMAGE_LOAD has no ``{}``, or the cluster is not supported.
    """
    if template := environ.get(VARIABLE):
        words = shlex.split(template)
        if not any("{}" in word for word in words):
            raise ImageLoadError(f"{VARIABLE}: expected a command with {{}} where the archive goes, got {template!r}")
        return [word.replace("{}", str(archive)) for word in words]
    if context is not None and context.name.startswith(KIND_PREFIX):
        return ["kind", "load", "image-archive", str(archive), "--name", context.name.removeprefix(KIND_PREFIX)]
    if context is not None and MINIKUBE_PROVIDER in context.providers:
        return ["minikube", "image", "load", str(archive), "--profile", context.name]
    raise ImageLoadError(
        f"expected the context of a kind or minikube cluster, or a command in {VARIABLE}; "
        f"got {'no context' if context is None else f'the context {context.name!r}'}"
    )


def current_context(environ: Mapping[str, str]) -> Context | None:
    """Returns kubectl's current context, or None if none is set.

    Raises:
        ImageLoadError: kubectl is not installed, or the kubeconfig is wrong.
    """
    answer = json.loads(_run(["kubectl", "config", "view", "--output=json"], environ, capture=True))
    names = {entry["name"]: entry["context"] for entry in answer.get("contexts") or []}
    name = answer.get("current-context")
    if name not in names:
        return None
    clusters = {entry["name"]: entry["cluster"] for entry in answer.get("clusters") or []}
    return Context(name, _providers(clusters.get(names[name]["cluster"], {})))


def _providers(cluster: Mapping[str, Any]) -> tuple[str, ...]:
    facts = [entry["extension"] for entry in cluster.get("extensions") or []]
    return tuple(fact["provider"] for fact in facts if isinstance(fact, dict) and "provider" in fact)


def _run(command: list[str], environ: Mapping[str, str], capture: bool = False) -> str:
    try:
        done = subprocess.run(command, check=True, text=True, env=dict(environ), capture_output=capture)
    except FileNotFoundError as error:
        raise ImageLoadError(
            f"expected {command[0]} on PATH, found none; wanted to run {shlex.join(command)}"
        ) from error
    except subprocess.CalledProcessError as error:
        said = f": {error.stderr.strip()}" if error.stderr else ""
        raise ImageLoadError(f"{shlex.join(command)} ended with exit code {error.returncode}{said}") from error
    return done.stdout or ""


def main() -> None:
    """Loads the archives on the command line."""
    parser = argparse.ArgumentParser(description="Gives images in archives to the cluster of kubectl's context.")
    parser.add_argument("archives", nargs="+", type=Path)
    try:
        load(parser.parse_args().archives, os.environ)
    except ImageLoadError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
