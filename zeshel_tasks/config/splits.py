"""The splits of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "valid", "test", "heldout_train_seen", "heldout_train_unseen"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
HELDOUT_SPLITS: tuple[Split, ...] = ("heldout_train_seen", "heldout_train_unseen")
"""Mentions of the training worlds that are held out of training. Not every data set has them."""
ALL_SPLITS = SPLITS + HELDOUT_SPLITS

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Shares:
    """The share of each split in the mentions without a split of their own; together 1."""

    of: dict[Split, float]

    @classmethod
    def parse(cls, text: str) -> Shares:
        """Parses ``train=0.8,valid=0.1,test=0.1``.

        Raises:
            ValueError: the text has another form, or the shares are not 1 together. The message is the expected form.
        """
        pairs = dict(part.partition("=")[::2] for part in text.split(","))
        try:
            found = {split: float(pairs[split]) for split in ALL_SPLITS if split in pairs}
        except ValueError:
            found = {}
        is_complete = len(found) == len(pairs) == len(text.split(",")) and all(
            0 < share <= 1 for share in found.values()
        )
        if not is_complete or abs(sum(found.values()) - 1) > _TOLERANCE:
            raise ValueError("expected shares above 0 that are 1 together, such as train=0.8,valid=0.1,test=0.1")
        if "train" not in found and any(split in found for split in HELDOUT_SPLITS):
            raise ValueError("expected a share of train, from which mentions are held out")
        return cls(found)

    def __str__(self) -> str:
        return ",".join(f"{split}={share:g}" for split, share in self.of.items())

    def of_train(self) -> float:
        """The share of train before mentions are held out."""
        return sum(share for split, share in self.of.items() if split not in ("valid", "test"))


DEFAULT_SHARES = Shares({"train": 0.8, "valid": 0.1, "test": 0.1})
