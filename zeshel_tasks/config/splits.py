"""The splits of a data set."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "valid", "test", "heldout_train_seen", "heldout_train_unseen"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
HELDOUT_SPLITS: tuple[Split, ...] = ("heldout_train_seen", "heldout_train_unseen")
"""Mentions of the training worlds that are held out of training. Not every data set has them."""
ALL_SPLITS = SPLITS + HELDOUT_SPLITS
