from collections import Counter

import numpy as np
import pytest

from zeshel_tasks.linking.calibration import FEATURES
from zeshel_tasks.linking.fit_calibration import RankedScores, fit_calibration
from zeshel_tasks.linking.listwise import Flags
from zeshel_tasks.linking.logistic import Line, Values, fit_logistic, probability
from zeshel_tasks.linking.reliability import calibration_error, reliability

K = 8


def example(mentions: int = 3000, worlds: int = 4, seed: int = 0, sharpness: float = 3.0) -> RankedScores:
    """Scores whose softmax is too sure: it is right as often as the softmax of a ``sharpness``-th of the scores says.

    A tenth of the golds is not retrieved. The cross-encoder's scores are high where a gold is among the candidates.
    """
    random = np.random.default_rng(seed)
    scores = np.sort(random.gumbel(size=(mentions, K)), axis=1)[:, ::-1]
    likely = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    gold = (random.random((mentions, 1)) > likely.cumsum(axis=1)).sum(axis=1).clip(max=K - 1)
    gold[random.random(mentions) < 0.1] = -1
    crossencoder = random.normal(size=(mentions, K))
    known = np.flatnonzero(gold >= 0)
    crossencoder[known, gold[known]] += 2
    return RankedScores(
        final=(sharpness * scores).astype(np.float32),
        retrieval=scores.astype(np.float32),
        crossencoder=crossencoder.astype(np.float32),
        gold_rank=gold.astype(np.int32),
        world=np.arange(mentions, dtype=np.int32) % worlds,
    )


def test_new_mentions_are_right_as_often_as_their_probabilities_say() -> None:
    fitted, new = fit_calibration(example()).calibration, example(seed=1)
    found = fitted.probabilities(*new[:3])
    softmax = probability(new.features[:, 0])
    assert calibration_error(reliability(found.right, new.correct)) < 0.03
    assert calibration_error(reliability(softmax, new.correct)) > 0.2
    masked = fitted.probabilities(*new.masked()[:3])
    both = np.concatenate([found.none, masked.none])
    lacks = np.repeat([False, True], [len(found.none), len(masked.none)])
    assert calibration_error(reliability(both, lacks)) < 0.07


def test_threshold_has_its_precision_on_new_mentions() -> None:
    fitted, new = fit_calibration(example()).calibration, example(seed=1)
    linked = fitted.probabilities(*new[:3]).right >= fitted.reference.threshold(0.9)
    assert new.correct[linked].mean() == pytest.approx(0.9, abs=0.03)
    assert linked.mean() > 0.1


def test_probabilities_rise_and_fall_with_every_score() -> None:
    fitted = fit_calibration(example()).calibration
    assert min(fitted.right.weights.values()) > 0
    assert max(fitted.none.weights.values()) < 0


def test_gold_is_masked_in_all_scores() -> None:
    scores = example(mentions=20)
    masked = scores.masked()
    assert (masked.gold_rank == -1).all()
    for row, gold in enumerate(scores.gold_rank):
        for part, before in zip(masked[:3], scores[:3], strict=True):
            missing = np.flatnonzero(np.isneginf(part[row])).tolist()
            assert missing == ([gold] if gold >= 0 else [])
            assert np.isfinite(before).all()


def test_mention_whose_gold_is_its_only_candidate_is_not_masked() -> None:
    scores = example(mentions=3)
    for part in scores[:3]:
        part[1, 1:] = -np.inf
    scores.gold_rank[:] = 0
    masked = scores.masked()
    assert masked.world.tolist() == [0, 2]


def test_worlds_are_left_out_whole() -> None:
    """One world is always right and has higher scores, so mentions of both would predict one another perfectly."""
    scores = example(mentions=400, worlds=2)
    always = scores.world == 1
    scores.final[always] += 10
    fitted = fit_calibration(scores._replace(gold_rank=np.where(always, 0, 1).astype(np.int32)))
    assert fitted.valid.right == pytest.approx(0.5)
    only = fit_calibration(scores._replace(gold_rank=np.where(always, 0, 1).astype(np.int32), world=0 * scores.world))
    assert only.valid.right[always].mean() > only.valid.right[~always].mean() + 0.5


@pytest.mark.parametrize("mentions", [1, 2, 30])
def test_single_world_or_few_mentions_suffice(mentions: int) -> None:
    fitted = fit_calibration(example(mentions=mentions, worlds=1))
    assert np.isfinite(np.concatenate([*fitted.valid, *fitted.masked])).all()


def test_all_right_and_none_right_are_no_problem() -> None:
    scores = example(mentions=60)
    for rank in (0, -1):
        found = fit_calibration(scores._replace(gold_rank=np.full(60, rank, dtype=np.int32))).calibration
        right = found.probabilities(*scores[:3]).right
        assert (right > 0.9).all() if rank == 0 else (right < 0.1).all()


def test_candidates_of_one_score_have_a_calibration() -> None:
    scores = example(mentions=50)
    same = np.zeros((50, K), dtype=np.float32)
    found = fit_calibration(scores._replace(final=same, retrieval=same, crossencoder=same)).calibration
    assert set(found.ranges) == set(FEATURES)
    assert np.ptp(found.probabilities(same, same, same).right) == 0


def test_reference_of_many_mentions_is_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeshel_tasks.linking.fit_calibration._REFERENCE", 7)
    reference = fit_calibration(example(mentions=30)).calibration.reference
    assert len(reference.right) == len(reference.none) == len(reference.correct) == 6


def lines(*numbers: int) -> RankedScores:
    """Three mentions of each line. All final scores of a line are its number."""
    found = example(mentions=3 * len(numbers))
    line = np.repeat(np.array(numbers, dtype=np.int32), 3)
    return found._replace(world=line, final=np.repeat(line[:, None], K, axis=1).astype(np.float32))


def without_entity(scores: RankedScores) -> RankedScores:
    return scores._replace(gold_rank=np.full_like(scores.gold_rank, -1))


def test_mentions_of_a_line_are_left_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[Values] = []

    def noted(features: Values, event: Flags, penalty: float = 1e-3) -> Line:
        fits.append(features)
        return fit_logistic(features, event, penalty)

    monkeypatch.setattr("zeshel_tasks.linking.fit_calibration.fit_logistic", noted)
    fit_calibration(lines(2, 3, 7), without_entity(lines(*range(1, 13))))
    # The signs differ: the features of a missing entity are negative.
    numbers = [part[:, FEATURES.index("final")].astype(int).tolist() for part in fits if part.shape[1] == len(FEATURES)]
    right, none = ([Counter(part) for part in numbers if (part[0] > 0) == sign] for sign in (True, False))
    for everything, *others in (right, none):
        assert all(part[line] in (0, count) for part in others for line, count in everything.items())
        assert all(any(not part[line] for part in others) for line in everything)


def test_line_without_known_mentions_has_the_model_of_all_known_ones() -> None:
    nil = without_entity(example(mentions=120, worlds=12, seed=1))
    fitted = fit_calibration(example(mentions=50, worlds=5), nil)
    of_nil = fitted.masked.right[-len(nil.world) :]
    only_nil = (nil.world >= 5) & (nil.world < 10)  # 10 and 11 are in the folds of 0 and 1
    expected = fitted.calibration.probabilities(*nil[:3]).right
    assert of_nil[only_nil] == pytest.approx(expected[only_nil], abs=1e-6)
    assert of_nil[~only_nil] != pytest.approx(expected[~only_nil], abs=1e-6)
