"""Compares rankings from different machines, in which near-ties may be in either order."""

import numpy as np
import numpy.typing as npt

# Relative to a score. The same scores, computed with SSE, AVX and AVX2, differ by up to 5e-7.
TOLERANCE = 1e-5

Positions = npt.NDArray[np.integer]


def assert_same_ranking(
    ours: Positions, theirs: Positions, scores: npt.NDArray[np.floating], tolerance: float = TOLERANCE
) -> None:
    """Checks that both rank the same entities in the same order, except for entities with almost equal scores.

    Args:
        ours: int [mentions, top_k], positions of entities, best first.
        theirs: the other ranking.
        scores: float [mentions, entities], scores of all entities.
        tolerance: relative difference below which scores are a near-tie.
    """
    assert ours.shape == theirs.shape
    for row, (found, expected) in enumerate(zip(ours, theirs, strict=True)):
        assert len(set(found)) == len(found), f"row {row}: an entity twice"
        ranked, wanted = scores[row, found], scores[row, expected]
        wrong = np.flatnonzero((found != expected) & ~np.isclose(ranked, wanted, rtol=tolerance, atol=0))
        assert not len(wrong), (
            f"row {row}, rank {wrong[0]}: expected entity {expected[wrong[0]]} ({wanted[wrong[0]]}), "
            f"got {found[wrong[0]]} ({ranked[wrong[0]]})"
        )
