"""The presets: named sets of values that override the defaults in ``config/``."""

from __future__ import annotations

from typing import Any

from zeshel_tasks.config.stages import Preset

# What we recommend: train all parameters including mention markers and pooler, use bf16, the learning rate of the
# literature, the ingredients that helped in docs/quality.md, and vectors of half the size.
_RECOMMENDED: dict[str, Any] = {
    "type_optimization": "all",
    "precision": "auto",
    "attention_dropout": 0.0,
    "learning_rate": None,
    "train_biencoder.one_world_batches": True,
    "train_biencoder.pooling": "auto",
    "train_biencoder.similarity": "auto",
    "train_biencoder.mention_prompt": "auto",
    "train_biencoder.candidate_prompt": "auto",
    "vector_dtype": "float16",
    "fit_retrieval.hybrid": True,
    "train_crossencoder.from_biencoder": True,
    "train_crossencoder.train_candidates": 16,
}

# What we would train today on ZESHEL with one GPU of 80 GB; docs/recipe.md has the source of each value and the hours.
_BEST: dict[str, Any] = {
    **_RECOMMENDED,
    # A part of a step has as many sequences as one of `recommended` (256) or as 2 mentions with 64 candidates (128),
    # which took 42 and 38 GB with BERT-large.
    "train_biencoder.train_batch_size": 512,
    "train_biencoder.gradient_accumulation_steps": 8,
    "train_biencoder.gradient_cache": True,
    "train_biencoder.hard_negatives": 2,
    "train_biencoder.hard_negatives_from": "both",
    "train_biencoder.hard_negative_rounds": 10,
    "train_biencoder.num_train_epochs": 10,
    "train_biencoder.patience": 3,
    "train_crossencoder.train_batch_size": 16,
    "train_crossencoder.gradient_accumulation_steps": 2,
    "train_crossencoder.patience": 2,
}

PRESETS: dict[Preset, dict[str, Any]] = {
    # The values of BLINK's zeshel example, including its quirks that are settings.
    "blink": {
        "train_biencoder.shuffle": False,
        "train_biencoder.mask_duplicate_golds": False,
        "train_crossencoder.learning_rate": 1e-3,
        "fuse.final_score": "crossencoder",
    },
    "recommended": _RECOMMENDED,
    "best": _BEST,
    # Takes minutes on 2 CPU cores, and only shows that everything works and that the models learn.
    "smoke": {
        "precision": "fp32",
        "type_optimization": "all",
        "convert.max_mentions_per_world": 100,
        "max_context_length": 64,
        "max_cand_length": 64,
        "fit_retrieval.hybrid": True,
        "eval_biencoder.top_k": 16,
        "train_biencoder.learning_rate": 2e-4,
        "train_biencoder.train_batch_size": 32,
        "train_biencoder.valid_top_k": 16,
        "train_crossencoder.max_seq_length": 128,
        "train_crossencoder.learning_rate": 2e-4,
        "train_crossencoder.num_train_epochs": 1,
        "train_crossencoder.train_batch_size": 4,
        "train_crossencoder.eval_batch_size": 8,
        "eval_crossencoder.eval_batch_size": 8,
    },
}
