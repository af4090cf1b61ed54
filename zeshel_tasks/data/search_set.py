"""Mentions and the entities of their worlds among which a validation searches: the golds and a sample of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeshel_tasks.data.arrays import Rows, read_array
from zeshel_tasks.data.mention_table import MentionTable
from zeshel_tasks.data.tokens import TokenTable

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EntitySample:
    """Some entities of a world, with all golds among them.

    Attributes:
        tokens: int32 [entities, max_cand_length].
        positions: int64 [entities], ascending positions in the world.
        weights: float32 [entities], the number of the world's entities for which each stands; 1 for a gold.
    """

    tokens: TokenTable
    positions: Rows
    weights: Weights

    @classmethod
    def load(cls, folder: Path) -> EntitySample:
        """Opens the arrays of a folder; the tokens are memory-mapped."""
        return cls(
            tokens=read_array(folder / "tokens.npy", mapped=True),
            positions=read_array(folder / "positions.npy"),
            weights=read_array(folder / "weights.npy"),
        )


@dataclass(frozen=True)
class SearchSet:
    """A split's mentions and the sampled entities of each world."""

    mentions: MentionTable
    entities: Mapping[str, EntitySample]

    @classmethod
    def load(cls, folder: Path) -> SearchSet:
        """Opens the tables below ``folder``."""
        worlds = {path.name: EntitySample.load(path) for path in (folder / "entities").iterdir()}
        return cls(MentionTable.load(folder / "mentions"), worlds)


def draw_entities(
    golds: Mapping[str, Rows], sizes: Mapping[str, int], others: int | None, seed: int
) -> dict[str, tuple[Rows, Weights]]:
    """Draws the positions and weights of the entities of each world.

    Args:
        golds: distinct positions of the golds of each world; all are drawn.
        sizes: number of entities of each world.
        others: number of other entities to draw, from each world in proportion to its size; None draws all.
        seed: seed of the draw.
    """
    there = sum(sizes[world] - len(found) for world, found in golds.items())
    share = 1.0 if others is None else min(1.0, others / max(1, there))
    drawn = {}
    for world, found in golds.items():
        rest = np.setdiff1d(np.arange(sizes[world]), found)
        chosen = np.random.default_rng([seed, *world.encode()]).permutation(rest)[: math.ceil(share * len(rest))]
        positions = np.concatenate([found, chosen])
        weights = np.ones(len(positions), dtype=np.float32)
        weights[len(found) :] = len(rest) / max(1, len(chosen))
        order = np.argsort(positions)
        drawn[world] = positions[order], weights[order]
    return drawn
