"""What a pretrained model states about its making, in the metadata of its README.

The metadata is YAML between two lines of ``---``: https://huggingface.co/docs/hub/model-cards. It is text of unknown
origin, and nothing checks that it is true.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from zeshel_tasks.metrics import MetricsModel
from zeshel_tasks.text.safe_text import one_line, safe_text
from zeshel_tasks.text.yaml_text import read_yaml

log = logging.getLogger(__name__)

README = "README.md"
MAX_README_BYTES = 2**20
"""The README of a model with many benchmark results has 150 kB."""
_MOST_NAMES, _MOST_CHARACTERS = 50, 100
_KEY = re.compile(r"([A-Za-z][\w-]*)\s*:")
_READ = ("license", "license_name", "datasets", "base_model")


def beginning_of(path: Path) -> bytes:
    """The part of a README that is read."""
    with path.open("rb") as file:
        return file.read(MAX_README_BYTES)


class StatedOrigin(MetricsModel):
    """What the README states, each name on one line and of limited length.

    Attributes:
        license: identifier of the licence; None if it is not stated.
        datasets: the data sets on which the model was trained.
        base_models: the models from which its training started.
    """

    license: str | None = None
    datasets: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()


def stated_origin(readme: str) -> StatedOrigin:
    """Returns what the text of a README states. Metadata that cannot be read states nothing."""
    try:
        found = read_yaml(_metadata(readme))
    except ValueError as error:
        log.info("bert_model: the metadata of %s was not read: %s", README, one_line(str(error)))
        found = None
    known = found if isinstance(found, dict) else {}
    # The hub has identifiers for common licences; another one has a name.
    licences = _names(known.get("license_name")) or _names(known.get("license"))
    return StatedOrigin(
        license=", ".join(licences) or None,
        datasets=_names(known.get("datasets")),
        base_models=_names(known.get("base_model")),
    )


def _metadata(readme: str) -> str:
    """Returns the lines of the names that are read. Others may have thousands of lines of benchmark results."""
    first, *lines = readme.removeprefix("\ufeff").splitlines() or [""]
    if first.rstrip() != "---":
        return ""
    kept: list[str] = []
    reading = False
    for line in lines:
        if line.rstrip() == "---":
            return "\n".join(kept)
        name = _KEY.match(line)
        if name is not None:
            reading = name[1] in _READ
        if reading:
            kept.append(line)
    return ""


def _names(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    found = [safe_text(name.strip(), _MOST_CHARACTERS) for name in names if isinstance(name, str) and name.strip()]
    return tuple(found[:_MOST_NAMES])
