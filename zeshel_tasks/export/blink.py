"""Writes a run's results as files that BLINK's own scripts read.

train.jsonl valid.jsonl test.jsonl               the mentions
biencoder/pytorch_model.bin                      keys context_encoder.* and cand_encoder.*
crossencoder/pytorch_model.bin                   keys encoder.*
top64_candidates/{train,valid,test}.t7           context_vecs, candidate_vecs, labels, worlds
cand_pool_{split}.pt cand_enc_{split}.pt         {world index: tensor}
worlds.json                                      names of the worlds, by index
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zeshel_tasks.config.splits import SPLITS, Split
from zeshel_tasks.data.arrays import read_array
from zeshel_tasks.data.candidate_sets import NO_CANDIDATE
from zeshel_tasks.data.mention_table import tokenize_mentions
from zeshel_tasks.data.tokens import Tokens, TokenTable
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.models.biencoder import BiencoderSettings, load_biencoder
from zeshel_tasks.models.blink_weights import save_blink_weights
from zeshel_tasks.models.crossencoder import load_crossencoder
from zeshel_tasks.stages.encoded_world import EncodedWorld, candidate_encodings
from zeshel_tasks.store import Artifact, Manifest, open_run
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.safe_text import quoted

log = logging.getLogger(__name__)


def write_blink(run_address: str, out: Path, cache: Path) -> None:
    """Write the files into the empty directory ``out``.

    In BLINK's format, the candidate sets repeat every candidate's tokens for every mention. One split of them is in
    memory at a time: mentions x top_k x max_cand_length x 8 bytes.

    Raises:
        ConfigError: a stage has not finished.
        DataError: an artifact is damaged, or comes from a version with other metrics.
    """
    run = open_run(run_address)
    wanted = ("convert", "train-biencoder", "train-crossencoder", *(f"eval-biencoder-{split}" for split in SPLITS))
    _Export({name: run.artifact(name, cache) for name in wanted}, out, cache).write()


class _Export:
    def __init__(self, artifacts: dict[str, Artifact], out: Path, scratch: Path) -> None:
        self._artifacts, self._out, self._scratch = artifacts, out, scratch
        self._worlds = _worlds(artifacts["convert"].manifest)

    def write(self) -> None:
        (self._out / "worlds.json").write_text(to_json(self._worlds, indent=1))
        biencoder, settings, tokens = load_biencoder(self._artifacts["train-biencoder"].directory("model"))
        crossencoder, _, _ = load_crossencoder(self._artifacts["train-crossencoder"].directory("model"))
        for encoder in (biencoder.context_encoder, crossencoder.encoder):
            _check_that_blink_reads(encoder.model_type)
        _check_that_blink_has_no_prompts(settings)
        _warn_of_differences(settings)
        for name, model in (("biencoder", biencoder), ("crossencoder", crossencoder)):
            (self._out / name).mkdir()
            save_blink_weights(model, self._out / name / "pytorch_model.bin")
        for split in SPLITS:
            self._write_split(split, tokens, settings.max_context_length)

    def _write_split(self, split: Split, tokens: Tokens, max_context_length: int) -> None:
        convert = self._artifacts["convert"]
        convert.path(f"{split}.mentions.jsonl")
        jsonl = convert.path(f"{split}.jsonl")
        shutil.copyfile(jsonl, self._out / jsonl.name)
        evaluated = self._artifacts[f"eval-biencoder-{split}"]
        if "biencoder" in evaluated.manifest.metrics.get("methods", {}):
            log.warning("%s: BLINK retrieves with the bi-encoder alone, this run with a hybrid retriever", split)
        pools = self._encodings(evaluated)
        for name, file in (("cand_pool", "tokens.npy"), ("cand_enc", "vectors.npy")):
            tensors = {self._worlds.index(world): _tensor(files.path(file)) for world, files in pools.items()}
            torch.save(tensors, self._out / f"{name}_{split}.pt")
        table = tokenize_mentions(jsonl, tokens, max_context_length, self._scratch / f"mentions-{split}")
        rank = read_array(evaluated.path("gold_rank.npy"))
        candidates = read_array(evaluated.path("candidates.npy"), mapped=True)
        kept = np.flatnonzero(rank >= 0)  # BLINK drops the mentions whose gold was not retrieved
        names = [table.worlds[world] for world in table.world[kept]]
        pool = {world: read_array(files.path("tokens.npy"), mapped=True) for world, files in pools.items()}
        rows = [_candidate_rows(pool[world], candidates[row]) for world, row in zip(names, kept, strict=True)]
        target = self._out / f"top{candidates.shape[1]}_candidates"
        target.mkdir(exist_ok=True)
        torch.save(
            {
                "context_vecs": torch.from_numpy(table.contexts[kept].astype(np.int64)),
                "candidate_vecs": torch.from_numpy(np.stack(rows).astype(np.int64)) if rows else torch.empty(0),
                "labels": torch.from_numpy(rank[kept].astype(np.int64)),
                "worlds": torch.tensor([self._worlds.index(name) for name in names]),
            },
            target / f"{split}.t7",
        )

    def _encodings(self, evaluated: Artifact) -> dict[str, EncodedWorld]:
        pools = {}
        for world, encoded in candidate_encodings(evaluated, self._scratch).items():
            if encoded is None:
                raise ConfigError(f"{evaluated.store.address}: expected candidate encodings of {world}, got none")
            pools[world] = encoded
        return pools


def _check_that_blink_reads(model_type: str) -> None:
    if model_type != "bert":
        raise ConfigError(
            f"export-blink: expected encoders of the type bert, the only one that BLINK computes, got {model_type}"
        )


def _check_that_blink_has_no_prompts(settings: BiencoderSettings) -> None:
    for name, prompt in settings.prompts._asdict().items():
        if prompt:
            raise ConfigError(
                f"export-blink: expected a bi-encoder without prompts, which BLINK's code does not read, got "
                f"{name}_prompt {quoted(prompt)}"
            )


def _warn_of_differences(settings: BiencoderSettings) -> None:
    if not settings.lowercase:
        log.warning("BLINK's format has lower-cased contexts, but this bi-encoder was trained with lowercase false")
    if (settings.pooling, settings.similarity) != ("cls", "dot"):
        log.warning(
            "BLINK's code scores by the dot product of [CLS] vectors, but this bi-encoder was trained with pooling %s "
            "and similarity %s: cand_enc_<split>.pt has its vectors, which BLINK's code would not compute",
            settings.pooling,
            settings.similarity,
        )


def _worlds(convert: Manifest) -> list[str]:
    """Return the names of the worlds: those of train, then valid, then test, each sorted."""
    try:
        by_split = convert.metrics["worlds"]
        return list(dict.fromkeys(world for split in SPLITS for world in sorted(by_split[split])))
    except (LookupError, TypeError) as error:
        raise DataError(
            "a manifest of convert whose metrics this version does not know",
            field="worlds",
            expected="worlds by split",
            got=f"{type(error).__name__}: {error}",
        ) from error


def _candidate_rows(pool: TokenTable, candidates: npt.NDArray[np.int32]) -> TokenTable:
    """Return the tokens of a mention's candidates, with padding if its world has fewer entities."""
    return np.where(candidates[:, None] == NO_CANDIDATE, 0, pool[np.maximum(candidates, 0)])


def _tensor(path: Path) -> Any:
    """Read an array as a tensor of the type that BLINK reads: int64 for tokens, float32 for vectors."""
    array = read_array(path)
    return torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iu" else np.float32, copy=False))
