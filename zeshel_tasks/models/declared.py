"""What a retrieval model declares about its vectors, in the files of sentence-transformers beside its weights.

``modules.json`` lists the steps after the transformer: a pooling, whose settings are in a folder of its own, perhaps a
normalization, and in some models a linear layer, which is not read here. ``config_sentence_transformers.json`` has the
prompts, the texts that the model expects before queries and documents.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, Literal, NamedTuple

from zeshel_tasks.config.biencoder import AUTO, Similarity, TrainBiencoderConfig
from zeshel_tasks.data.tokens import Prompts
from zeshel_tasks.download.model_file_names import DECLARATIONS, MODULES, POOLING, PROMPTS
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.safe_text import quoted

log = logging.getLogger(__name__)

_MODES = {"cls": "cls", "mean": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
# The names that sentence-transformers looks for when it encodes a query or a document.
_OF_QUERIES, _OF_DOCUMENTS = ("query",), ("document", "passage", "corpus")


class Declared(NamedTuple):
    """The vectors for which a model was trained."""

    pooling: Literal["cls", "mean"]
    similarity: Similarity


def with_declared(config: TrainBiencoderConfig, directory: Path) -> TrainBiencoderConfig:
    """Returns the settings with each ``auto`` replaced by what the model in ``directory`` declares.

    Without a declaration, these are the mean, the cosine and no prompts.

    Raises:
        ConfigError: a setting is ``auto`` and the declaration is broken, or names a pooling that does not exist here.
    """
    changed: dict[str, Any] = {}
    if AUTO in (config.pooling, config.similarity):
        declared = declaration(directory)
        known = declared or Declared("mean", "cosine")
        if config.pooling == AUTO:
            changed["pooling"] = known.pooling
        if config.similarity == AUTO:
            changed["similarity"] = known.similarity
        chosen = changed.get("pooling", config.pooling), changed.get("similarity", config.similarity)
        source = "as bert_model declares" if declared else "without declaration"
        log.info("pooling %s and similarity %s, %s", *chosen, source)
    if AUTO in (config.mention_prompt, config.candidate_prompt):
        prompts = declared_prompts(directory)
        if config.mention_prompt == AUTO:
            changed["mention_prompt"] = prompts.mention or None
        if config.candidate_prompt == AUTO:
            changed["candidate_prompt"] = prompts.candidate or None
        if any(prompts):
            log.info("bert_model declares the prompts %s and %s", *map(quoted, prompts))
        pooling = changed.get("pooling", config.pooling)
        if any(prompts) and pooling != "cls" and not _pools_prompts(directory):
            log.warning("bert_model: %s leaves the prompt out of the mean; here it is part of it", directory / POOLING)
    return config.model_copy(update=changed)


def prompts_of(config: TrainBiencoderConfig) -> Prompts:
    """Returns the prompts of settings without ``auto``."""
    return Prompts(config.mention_prompt or "", config.candidate_prompt or "")


def declaration(directory: Path) -> Declared | None:
    """Returns what the model in a directory declares; None if it has no such files.

    Raises:
        ConfigError: the files are broken, or the pooling is neither of [CLS] nor the mean.
    """
    if not (directory / MODULES).exists():
        return None
    modules, pooling = _read(directory / MODULES, list), _read(directory / POOLING, dict)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules if isinstance(module, dict)]
    modes = _modes(pooling)
    if len(modes) != 1 or modes[0] not in _MODES:
        raise ConfigError(
            f"pooling: expected cls, mean, span or span_and_mean, because {directory}/{POOLING} declares "
            f"{', '.join(map(quoted, modes)) or 'none'}, got auto"
        )
    if "Dense" in kinds:
        log.warning("bert_model: the linear layer that %s declares after the pooling is left out", directory / MODULES)
    mode: Any = _MODES[modes[0]]
    return Declared(mode, "cosine" if "Normalize" in kinds else "dot")


def declared_prompts(directory: Path) -> Prompts:
    """Returns the prompts of queries and of documents that the model in a directory declares.

    A model that names neither may declare a prompt of all texts.

    Raises:
        ConfigError: the file is broken.
    """
    path = directory / PROMPTS
    if not path.exists():
        return Prompts()
    content = _read(path, dict)
    known, default = content.get("prompts") or {}, content.get("default_prompt_name")
    if not isinstance(known, dict) or not all(isinstance(text, str | None) for text in known.values()):
        raise ConfigError(f"bert_model: {path}: prompts: expected texts by name, got {quoted(known)}")

    def prompt(names: tuple[str, ...]) -> str:
        of_all = "" if known.keys() & set(names) else known.get(str(default))
        return next((known[name] for name in names if known.get(name)), of_all) or ""

    return Prompts(prompt(_OF_QUERIES), prompt(_OF_DOCUMENTS))


def copy_declaration(directory: Path, target: Path) -> None:
    """Copies the files, if any, beside a copy of the model."""
    for name in DECLARATIONS:
        if (directory / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(directory / name, target / name)


def _modes(pooling: dict[str, Any]) -> list[str]:
    """Returns the modes of the pooling, as version 6 of sentence-transformers or an earlier one names them."""
    modes = pooling.get("pooling_mode")
    if modes is not None:
        return [str(mode) for mode in modes] if isinstance(modes, list) else [str(modes)]
    return sorted(key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True)


def _pools_prompts(directory: Path) -> bool:
    path = directory / POOLING
    return not path.exists() or _read(path, dict).get("include_prompt") is not False


def _read(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"bert_model: {path}: expected JSON, got: {error}") from error
    if not isinstance(content, kind):
        raise ConfigError(f"bert_model: {path}: expected a {kind.__name__}, got {type(content).__name__}")
    return content
