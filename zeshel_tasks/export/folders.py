"""Writes both encoders as model folders of sentence-transformers, which need neither this package nor a run.

candidate_encoder/    a SentenceTransformer of standard modules if the tokenizer is BERT's
mention_encoder/      a SentenceTransformer with mention_modules.py, which finds the window around the mention
cross_encoder/        a CrossEncoder with mention_modules.py

sentence-transformers itself is not needed to write them.
"""

from __future__ import annotations

import copy
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn
from transformers import AddedToken

from zeshel_tasks.data import context_window
from zeshel_tasks.data.tokens import TITLE_END, Prompts, Tokens
from zeshel_tasks.models.biencoder import load_biencoder
from zeshel_tasks.models.crossencoder import load_crossencoder
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.model_types import counts_after_padding
from zeshel_tasks.models.pooling import candidate_pooling
from zeshel_tasks.text.json_text import to_json

CANDIDATE_ENCODER, MENTION_ENCODER, CROSS_ENCODER = "candidate_encoder", "mention_encoder", "cross_encoder"

_CODE = Path(__file__).with_name("mention_modules.py")
_IMPORT = "from zeshel_tasks.data.context_window import"
# These names are known to all versions of sentence-transformers.
_MODULES = "sentence_transformers.models"
_TANH, _IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"


def write_biencoder(directory: Path, out: Path) -> None:
    """Write both towers of a saved bi-encoder below ``out``. Their vectors are those of the bi-encoder in fp32.

    Raises:
        ConfigError: the bi-encoder cannot be read.
    """
    model, settings, tokens = load_biencoder(directory)
    lengths = {"mention": settings.max_context_length, "candidate": settings.max_cand_length}
    for name, encoder, kind in (
        (MENTION_ENCODER, model.context_encoder, "Mention"),
        (CANDIDATE_ENCODER, model.cand_encoder, "Candidate"),
    ):
        folder = _Folder(out / name, encoder, tokens)
        if kind == "Candidate" and not tokens.spaces_count:
            folder.add_plain_transformer(settings.max_cand_length)
        else:
            folder.add_transformer(kind, lowercase=settings.lowercase, lengths=lengths)
        pooling = settings.pooling if kind == "Mention" else candidate_pooling(settings.pooling)
        if pooling in ("span", "span_and_mean"):
            folder.add_span_pooling(and_mean=pooling == "span_and_mean")
        else:
            folder.add_pooling(pooling)
        folder.add_head()
        if settings.similarity == "cosine":
            folder.add("Normalize", {})
        prompts = _prompts(settings.prompts, "query" if kind == "Mention" else "document")
        folder.finish("SentenceTransformer", similarity_fn_name=settings.similarity, **prompts)


def write_crossencoder(directory: Path, out: Path) -> None:
    """Write a saved cross-encoder below ``out``. Its scores are those of the cross-encoder in fp32, without a sigmoid.

    Raises:
        ConfigError: the cross-encoder cannot be read.
    """
    model, settings, tokens = load_crossencoder(directory)
    folder = _Folder(out / CROSS_ENCODER, model.encoder, tokens)
    lengths = {
        "mention": settings.max_context_length,
        "candidate": settings.max_cand_length,
        "pair": settings.max_seq_length,
    }
    folder.add_transformer("Pair", lowercase=settings.lowercase, lengths=lengths)
    folder.add_pooling("cls")
    folder.add_head(module_output_name="scores")
    folder.finish("CrossEncoder", activation_fn=_IDENTITY)


class _Folder:
    """A model folder, to which modules are added in the order in which they compute."""

    def __init__(self, folder: Path, encoder: Encoder, tokens: Tokens) -> None:
        self._folder, self._encoder, self._tokens = folder, encoder, tokens
        encoder.drop_unused()
        bert: Any = encoder.bert_model
        bert.save_pretrained(folder)
        self._bert = bert
        self._modules: list[dict[str, Any]] = []

    def add_plain_transformer(self, max_length: int) -> None:
        """Add the transformer as a standard module; the end of the title is an added token of its tokenizer."""
        tokenizer = copy.deepcopy(self._tokens.tokenizer)
        # Text never becomes a special token, even if it spells one. The marker must be found in text, so it is none.
        tokenizer.add_tokens([AddedToken(TITLE_END, special=False, normalized=False)])
        self._save_tokenizer(tokenizer, split_special_tokens=True, model_max_length=max_length)
        self._add_root(f"{_MODULES}.Transformer", {"max_seq_length": max_length, "do_lower_case": False})

    def add_transformer(self, kind: str, *, lowercase: bool, lengths: dict[str, int]) -> None:
        """Add the transformer with the code that reads mentions, candidates or pairs."""
        self._save_tokenizer(self._tokens.tokenizer)
        shutil.copyfile(context_window.__file__, self._folder / "context_window.py")
        code = _CODE.read_text(encoding="utf-8")
        assert code.count(_IMPORT) == 1
        (self._folder / _CODE.name).write_text(code.replace(_IMPORT, "from .context_window import"), encoding="utf-8")
        gap = not counts_after_padding(self._encoder.model_type)
        self._add_root(
            f"{_CODE.stem}.{kind}Transformer",
            {
                "transformer_task": "feature-extraction",
                "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
                "module_output_name": "token_embeddings",
                "lowercase": lowercase,
                "lengths": lengths,
                "gap": gap,
            },
        )

    def add_pooling(self, mode: str) -> None:
        """Add the mean over all tokens, or the output for the first one."""
        modes = {"pooling_mode_cls_token": mode == "cls", "pooling_mode_mean_tokens": mode == "mean"}
        self.add("Pooling", {"word_embedding_dimension": self._bert.config.hidden_size, **modes})

    def add_span_pooling(self, *, and_mean: bool) -> None:
        """Add the mean over the tokens of the mention."""
        markers = {"start": self._tokens.mention_start, "end": self._tokens.mention_end}
        settings = {"embedding_dimension": self._bert.config.hidden_size, **markers, "and_mean": and_mean}
        self.add("MentionPooling", settings, package=_CODE.stem)

    def add_head(self, **settings: Any) -> None:
        """Add the pooler and the linear layer after it, if the encoder has one."""
        if self._encoder.additional_linear is not None:
            self._add_dense(self._bert.pooler.dense, _TANH)
            self._add_dense(self._encoder.additional_linear, _IDENTITY, **settings)

    def add(self, name: str, settings: dict[str, Any], *, package: str = _MODULES) -> Path:
        """Add a module; returns its folder."""
        number = len(self._modules)
        folder = self._folder / f"{number}_{name}"
        folder.mkdir()
        _write(folder / "config.json", settings)
        self._modules.append({"idx": number, "name": str(number), "path": folder.name, "type": f"{package}.{name}"})
        return folder

    def finish(self, model_type: str, **settings: Any) -> None:
        """Write the list of modules and the settings of the whole model."""
        _write(self._folder / "modules.json", self._modules)
        known = {
            "model_type": model_type,
            "__version__": {"transformers": version("transformers"), "pytorch": version("torch")},
            "prompts": {},
            "default_prompt_name": None,
        }
        if (self._folder / _CODE.name).exists():
            known["requirements"] = {"sentence-transformers": ">=6"}
        _write(self._folder / "config_sentence_transformers.json", known | settings)

    def _save_tokenizer(self, tokenizer: Any, **settings: Any) -> None:
        tokenizer.save_pretrained(self._folder)
        path = self._folder / "tokenizer_config.json"
        known = json.loads(path.read_bytes())
        for of_this_process in ("is_local", "local_files_only"):
            known.pop(of_this_process, None)
        _write(path, known | settings)

    def _add_root(self, name: str, settings: dict[str, Any]) -> None:
        _write(self._folder / "sentence_bert_config.json", settings)
        self._modules.append({"idx": 0, "name": "0", "path": "", "type": name})

    def _add_dense(self, linear: nn.Linear, activation: str, **settings: Any) -> None:
        sizes = {"in_features": linear.in_features, "out_features": linear.out_features, "bias": True}
        folder = self.add("Dense", {**sizes, "activation_function": activation, **settings})
        save_file(
            {f"linear.{name}": tensor for name, tensor in linear.state_dict().items()}, folder / "model.safetensors"
        )


def _prompts(prompts: Prompts, default: str) -> dict[str, Any]:
    if not any(prompts):
        return {}
    # The library joins the prompt and the text. Here, parts are tokenized separately.
    separate = {"query": f"{prompts.mention} ".lstrip(), "document": f"{prompts.candidate} ".lstrip()}
    return {"prompts": separate, "default_prompt_name": default}


def _write(path: Path, content: object) -> None:
    path.write_text(to_json(content, indent=2) + "\n", encoding="utf-8")
