"""``zeshel export``: write the models of a run, or of the champion, in the format of another program."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

from zeshel_tasks.commands.argument_types import hub_repository, license_id, path, run, store
from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.json_text import to_json

log = logging.getLogger(__name__)

FORMATS = ("sentence-transformers", "blink")
MARKER = "zeshel_export.json"
"""Names the exported models, so that a push that failed can be repeated."""


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``zeshel export``."""
    parser.add_argument("--format", required=True, choices=FORMATS)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=run, metavar="ADDRESS", help="<store>/runs/<run id>, local or s3://")
    source.add_argument("--store", type=store, metavar="ADDRESS", help="export the champion of this store")
    parser.add_argument("--out", required=True, type=path, help="a new or empty directory")
    parser.add_argument("--push", type=hub_repository, metavar="OWNER/NAME", help="also push it to the hub, as a model")
    parser.add_argument("--public", action="store_true", help="a new model on the hub is public, not private")
    parser.add_argument("--license", type=license_id, metavar="ID", help="the models' licence, such as apache-2.0")


def export(options: argparse.Namespace, out: Path) -> None:
    """Export as the flags say; see :func:`export_models` and :func:`export_blink`.

    Raises:
        ConfigError: a flag is for another format.
    """
    if options.format == "blink":
        for name in ("store", "push", "public", "license"):
            if getattr(options, name):
                raise ConfigError(f"--{name}: expected --format sentence-transformers, got blink")
        export_blink(options.run, out)
        return
    export_models(
        out,
        run=options.run,
        store=options.store,
        push=options.push,
        public=options.public,
        license_id=options.license,
    )


def export_blink(run: str, out: Path) -> None:
    """Write the files of BLINK's format into the new or empty directory ``out``.

    Raises:
        ConfigError: ``out`` is not empty, or a stage has not finished.
        DataError: an artifact is damaged, or comes from a version with other metrics.
    """
    from zeshel_tasks.export.blink import write_blink

    _write(out, lambda unfinished, cache: write_blink(run, unfinished, cache))
    log.info("wrote BLINK's files to %s", out)


def export_models(
    out: Path,
    *,
    run: str | None,
    store: str | None,
    push: str | None = None,
    public: bool = False,
    license_id: str | None = None,
) -> None:
    """Write both encoders as folders of sentence-transformers, with a model card, and perhaps push them to the hub.

    If ``out`` already has the export of the same models, a push takes it as it is. So a push that failed can be
    repeated, and the model card can be edited before.

    Args:
        out: a new or empty directory.
        run: address of the run.
        store: address of the store, for its champion; either this or ``run``.
        push: name of the repository on the hub.
        public: a new repository is public.
        license_id: identifier of the models' licence on the hub.

    Raises:
        ConfigError: ``out`` is not empty, a model is missing, or the hub refuses.
        DataError: an artifact is damaged, or comes from a version with other metrics.
        StoreUnavailable: the hub does not answer.
    """
    from zeshel_tasks.export.hub import Target
    from zeshel_tasks.export.model_card import UNKNOWN_LICENSE, for_the_hub
    from zeshel_tasks.export.models import write_models
    from zeshel_tasks.export.source import Source

    target = None if push is None else Target(push, MARKER)
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(f"{out.name}-", out.parent) as cache:
        source = Source.of_run(run, cache) if run is not None else Source.of_champion(str(store), cache)
        if target is not None and _identity(out) == source.identity:
            log.info("%s already has these models", out)
        else:

            def write(unfinished: Path, _: Path) -> None:
                write_models(source, unfinished, license_id or UNKNOWN_LICENSE)
                (unfinished / MARKER).write_text(to_json(source.identity, indent=1))

            _write(out, write)
            log.info("wrote the models of %s to %s", source.run, out)
    if target is not None and push is not None:
        card = out / "README.md"
        card.write_text(for_the_hub(card.read_text(encoding="utf-8"), push), encoding="utf-8")
        log.info("pushed to %s", target.push(out, public=public, message=f"Models of run {source.run}"))


def _write(out: Path, write: Callable[[Path, Path], None]) -> None:
    """Call ``write`` with the folder to fill and one for temporary files. ``out`` appears when all is written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out: expected a new or empty directory, got {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(f"{out.name}-", out.parent) as cache:
        unfinished = cache / "unfinished"
        unfinished.mkdir()
        write(unfinished, cache)
        unfinished.replace(out)


def _identity(out: Path) -> object:
    try:
        return json.loads((out / MARKER).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
