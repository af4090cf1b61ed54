"""What a retrieval model declares about its vectors, in the files of sentence-transformers beside its weights.

``modules.json`` lists the steps after the transformer: a pooling, whose settings are in a folder of its own, perhaps a
normalization, and in some models a linear layer, which is not read here.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, Literal, NamedTuple

from zeshel_tasks.config import Pooling, PoolingSetting, Similarity, SimilaritySetting
from zeshel_tasks.download.model_file_names import DECLARATIONS, MODULES, POOLING
from zeshel_tasks.errors import ConfigError

log = logging.getLogger(__name__)

_MODES = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}


class Declared(NamedTuple):
    """The vectors for which a model was trained."""

    pooling: Literal["cls", "mean"]
    similarity: Similarity


def pooling_and_similarity(
    directory: Path, pooling: PoolingSetting, similarity: SimilaritySetting
) -> tuple[Pooling, Similarity]:
    """Returns the settings with ``auto`` replaced by what the model declares, or by mean and cosine if it does not.

    Raises:
        ConfigError: a setting is ``auto`` and the declaration is broken, or names a pooling that does not exist here.
    """
    if pooling != "auto" and similarity != "auto":
        return pooling, similarity
    declared = declaration(directory)
    known = declared or Declared("mean", "cosine")
    chosen = known.pooling if pooling == "auto" else pooling, known.similarity if similarity == "auto" else similarity
    log.info(
        "pooling %s and similarity %s, %s", *chosen, "as bert_model declares" if declared else "without declaration"
    )
    return chosen


def declaration(directory: Path) -> Declared | None:
    """Returns what the model in a directory declares; None if it has no such files.

    Raises:
        ConfigError: the files are broken, or the pooling is neither of [CLS] nor the mean.
    """
    if not (directory / MODULES).exists():
        return None
    modules, pooling = _read(directory / MODULES, list), _read(directory / POOLING, dict)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules if isinstance(module, dict)]
    modes = sorted(key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True)
    if len(modes) != 1 or modes[0] not in _MODES:
        raise ConfigError(
            f"pooling: expected cls, mean, span or span_and_mean, because {directory}/{POOLING} declares "
            f"{', '.join(modes) or 'none'}, got auto"
        )
    if "Dense" in kinds:
        log.warning("bert_model: the linear layer that %s declares after the pooling is left out", directory / MODULES)
    mode: Any = _MODES[modes[0]]
    return Declared(mode, "cosine" if "Normalize" in kinds else "dot")


def copy_declaration(directory: Path, target: Path) -> None:
    """Copies the files, if any, beside a copy of the model."""
    for name in DECLARATIONS:
        if (directory / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(directory / name, target / name)


def _read(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"bert_model: {path}: expected JSON, got: {error}") from error
    if not isinstance(content, kind):
        raise ConfigError(f"bert_model: {path}: expected a {kind.__name__}, got {type(content).__name__}")
    return content
