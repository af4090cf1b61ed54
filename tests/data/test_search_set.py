import numpy as np
import pytest

from zeshel_tasks.data.search_set import draw_entities

GOLDS = {"a": np.array([3, 9]), "b": np.array([0])}
SIZES = {"a": 100, "b": 11}


def test_all_entities_are_drawn_and_stand_for_themselves() -> None:
    for others in (None, 108, 1000):
        drawn = draw_entities(GOLDS, SIZES, others, seed=1)
        for world, (positions, weights) in drawn.items():
            np.testing.assert_array_equal(positions, np.arange(SIZES[world]))
            assert (weights == 1).all()


@pytest.mark.parametrize("others", [1, 20, 54])
def test_sample_has_all_golds_and_stands_for_each_world(others: int) -> None:
    drawn = draw_entities(GOLDS, SIZES, others, seed=1)
    for world, (positions, weights) in drawn.items():
        assert (np.diff(positions) > 0).all()
        assert np.isin(GOLDS[world], positions).all()
        assert (weights[np.isin(positions, GOLDS[world])] == 1).all()
        assert weights.sum() == pytest.approx(SIZES[world])
        assert len(positions) - len(GOLDS[world]) == pytest.approx(
            others * (SIZES[world] - len(GOLDS[world])) / 108, abs=1
        )


def test_sample_depends_on_the_seed_alone() -> None:
    first, again, other = (draw_entities(GOLDS, SIZES, 30, seed)["a"][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()


def test_world_of_golds_alone_has_no_others() -> None:
    positions, weights = draw_entities({"a": np.arange(4)}, {"a": 4}, 10, seed=1)["a"]
    assert (positions.tolist(), weights.tolist()) == ([0, 1, 2, 3], [1.0] * 4)
