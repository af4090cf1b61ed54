"""Loads BLINK's own weights into the comparator."""

from pathlib import Path

import torch


def load_blinks(model: torch.nn.Module, path: Path) -> None:
    """Loads BLINK's weights into a model of the comparator. Older BERTs also store a constant."""
    weights = torch.load(path, weights_only=True)
    model.load_state_dict({name: w for name, w in weights.items() if not name.endswith("position_ids")})
