"""Which files of a folder transformers reads for a pretrained BERT.

Only these are downloaded and hashed, so that an edited README does not repeat a training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from zeshel_tasks.errors import ConfigError

CONFIG = "config.json"
_ADAPTER = "adapter_config.json"
DECLARATIONS = MODULES, POOLING, PROMPTS = (
    "modules.json", "1_Pooling/config.json", "config_sentence_transformers.json",
)  # fmt: skip
"""What sentence-transformers writes beside a model, see ``models/declared.py``."""
_TOKENIZER = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "bpe.codes", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model",
}  # fmt: skip
# transformers reads the first of these that is there; an index names the other files. Pickled weights are read with
# weights_only=True.
_WEIGHTS = {
    "model.safetensors": ("model.safetensors",),
    "model.safetensors.index.json": ("model.safetensors.index.json", "*.safetensors"),
    "pytorch_model.bin": ("pytorch_model.bin",),
    "pytorch_model.bin.index.json": ("pytorch_model.bin.index.json", "pytorch_model*.bin"),
}
WEIGHTS = tuple(_WEIGHTS)


def files_read(names: Iterable[str]) -> list[str]:
    """The names of the files that are read, sorted: configuration, tokenizer, weights and declarations."""
    found = set(names)
    patterns = next((patterns for first, patterns in _WEIGHTS.items() if first in found), ())
    return sorted(
        name
        for name in found
        if _describes(name) or ("/" not in name and any(fnmatchcase(name, pattern) for pattern in patterns))
    )


def without_weights(names: Iterable[str]) -> list[str]:
    """Those of the names that are of the configuration, of the tokenizer or of a declaration."""
    return list(filter(_describes, names))


def names_in(folder: Path) -> list[str]:
    """The names of the files in a folder that may be read."""
    return [path.name for path in folder.iterdir() if path.is_file()] + [POOLING] * (folder / POOLING).is_file()


def _describes(name: str) -> bool:
    return name == CONFIG or name in _TOKENIZER or name in DECLARATIONS


def check_no_adapter(names: Iterable[str], where: str) -> None:
    """Refuse a model with an adapter (LoRA). Depending on what is installed, transformers would apply or ignore it.

    Args:
        names: of the files beside each other.
        where: start of the message.

    Raises:
        ConfigError: there is an adapter.
    """
    if _ADAPTER in names:
        raise ConfigError(f"{where}: expected a model whose adapter is merged into its weights, got {_ADAPTER}")


def weights_in(folder: Path) -> list[Path]:
    """The files from which transformers reads the weights of the model in a folder."""
    found = {path.name for path in folder.iterdir()}
    first = next((name for name in WEIGHTS if name in found), None)
    return [folder / name for name in _shards(folder, found) or ([] if first is None else [first])]


def missing_files(folder: Path) -> list[str]:
    """The names of files without which no model can be loaded from a folder; of alternatives, the first.

    Args:
        folder: with all files or some of them. It need not exist.
    """
    found = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
    needed = [(CONFIG,), WEIGHTS, ("tokenizer.json", *_TOKENIZER), *((name,) for name in _shards(folder, found))]
    return [names[0] for names in needed if found.isdisjoint(names)]


def _shards(folder: Path, found: set[str]) -> list[str]:
    """The files that an index names, if the weights have one that can be read."""
    index = next((name for name in files_read(found) if name.endswith(".index.json")), None)
    if index is None:
        return []
    try:
        return sorted(set(json.loads((folder / index).read_bytes())["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError):  # loading the model says what is wrong
        return []
