import numpy as np
import pytest

from zeshel_tasks.linking.listwise import combined, fit_weights


def choices(weights: list[float], mentions: int = 4000, candidates: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Candidates with random features, and golds drawn with the probabilities that these weights give them."""
    random = np.random.default_rng(0)
    features = random.normal(size=(mentions, candidates, len(weights)))
    scores = features @ np.array(weights) + random.gumbel(size=(mentions, candidates))
    return features, scores.argmax(1)


def test_weights_that_made_the_choices_are_found() -> None:
    features, gold = choices([2.0, -1.0, 0.0])
    assert fit_weights(features, gold, penalty=0) == pytest.approx([2.0, -1.0, 0.0], abs=0.1)


def test_weights_follow_the_scale_of_their_features() -> None:
    features, gold = choices([2.0, -1.0])
    rescaled = fit_weights(features * [1000, 0.001], gold)
    assert rescaled * [1000, 0.001] == pytest.approx(fit_weights(features, gold), rel=1e-4)


def test_padding_does_not_matter() -> None:
    features, gold = choices([2.0, -1.0])
    padded = np.concatenate([features, np.full((len(gold), 3, 2), np.nan)], 1)
    present = np.arange(11) < np.full((len(gold), 1), 8)
    assert fit_weights(padded, gold, present) == pytest.approx(fit_weights(features, gold), rel=1e-6)
    scores = combined(padded, np.array([2.0, -1.0]), present)
    assert scores[:, :8] == pytest.approx(2 * features[..., 0] - features[..., 1], rel=1e-5, abs=1e-5)
    assert np.isneginf(scores[:, 8:]).all()


def test_equal_candidates_have_equal_scores() -> None:
    features = np.repeat(np.random.default_rng(0).normal(size=(50, 1, 7)), 37, axis=1).astype(np.float32)
    scores = combined(features, np.random.default_rng(1).normal(size=7), np.ones((50, 37), dtype=bool))
    assert (scores == scores[:, :1]).all()


def test_mentions_without_gold_or_choice_do_not_matter() -> None:
    features, gold = choices([2.0, -1.0])
    present = np.ones(features.shape[:2], dtype=bool)
    gold[1000:2000], present[2000:3000] = -1, False
    present[np.arange(2000, 3000), gold[2000:3000]] = True
    others = np.r_[0:1000, 3000:4000]
    assert fit_weights(features, gold, present) == pytest.approx(fit_weights(features[others], gold[others]), rel=1e-6)


def test_a_mention_of_twice_the_importance_counts_as_two() -> None:
    features, gold = choices([2.0, -1.0], mentions=300)
    importance = np.where(np.arange(300) < 100, 6.0, 3.0)
    weights = fit_weights(features, gold, importance=importance)
    twice = np.r_[0:100, 0:300]
    expected = fit_weights(features[twice], gold[twice])  # its standard deviations, which scale the penalty, differ
    assert weights == pytest.approx(expected, rel=1e-2)
    assert weights != pytest.approx(fit_weights(features, gold), rel=1e-4)


def test_preferred_weights_win_over_few_mentions_and_lose_against_many() -> None:
    features, gold = choices([2.0, -1.0])
    few = fit_weights(features[:3] * [10, 1], gold[:3], penalty=10.0, center=[0.1, 3.0])
    assert few == pytest.approx([0.1, 3.0], abs=0.1)
    many = fit_weights(features, gold, penalty=10.0 / len(gold), center=[0.1, 3.0])
    assert many == pytest.approx([2.0, -1.0], abs=0.2)
    assert fit_weights(features, np.full(len(gold), -1), center=[0.1, 3.0]).tolist() == [0.1, 3.0]


def test_feature_that_always_marks_the_gold_gets_a_bounded_weight() -> None:
    features, gold = choices([1.0, 0.0])
    features[..., 1] = np.arange(8) == gold[:, None]
    weights = fit_weights(features, gold)
    assert 5 < weights[1] < 100


def test_feature_that_does_not_vary_gets_no_weight() -> None:
    features, gold = choices([1.0, 0.0])
    features[..., 1] = 3
    assert fit_weights(features, gold)[1] == pytest.approx(0, abs=1e-9)


def test_nothing_to_fit_on_gives_no_weight() -> None:
    features, gold = choices([1.0, 1.0], mentions=3)
    assert (fit_weights(features, np.full_like(gold, -1)) == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    features, gold = choices([1.0], mentions=3)
    features[1, 2, 0] = value
    with pytest.raises(ValueError, match="expected finite features"):
        fit_weights(features, gold)


def test_gold_in_padding_is_refused() -> None:
    features, gold = choices([1.0], mentions=3)
    present = np.ones(features.shape[:2], dtype=bool)
    present[0, gold[0]] = False
    with pytest.raises(ValueError, match="expected golds among"):
        fit_weights(features, gold, present)
