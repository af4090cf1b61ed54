"""BLINK's own weights, for the comparator."""

from pathlib import Path

import torch


def load_blinks(model: torch.nn.Module, path: Path) -> None:
    """Puts BLINK's weights into a model of the comparator; older BERTs have a constant among theirs."""
    weights = torch.load(path, weights_only=True)
    model.load_state_dict({name: w for name, w in weights.items() if not name.endswith("position_ids")})
