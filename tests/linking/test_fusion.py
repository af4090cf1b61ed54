import logging

import numpy as np
import pytest
from pydantic import ValidationError

from zeshel_tasks.linking.fit_fusion import fit_fusion
from zeshel_tasks.linking.fusion import CROSSENCODER_ALONE, RETRIEVER_ALONE, Fusion, Scores, best_candidates

MISSING = -np.inf


def scores(*rows: list[float]) -> Scores:
    return np.array(rows, dtype=np.float32)


def right(found: Scores, gold: np.ndarray) -> int:
    return int((found.argmax(1) == gold).sum())


def two_judges(
    seed: int, crossencoder: float, retrieval: float, mentions: int = 400, candidates: int = 8, scale: float = 1.0
) -> tuple[Scores, Scores, np.ndarray]:
    """Scores that are noise, plus the given signal for the gold; retrieval's are sorted, best first."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, candidates, mentions)
    first, second = random.normal(size=(2, mentions, candidates))
    first[np.arange(mentions), gold] += crossencoder
    second[np.arange(mentions), gold] += retrieval
    order = np.argsort(-second, axis=1, kind="stable")
    found = [np.take_along_axis(values, order, 1).astype(np.float32) for values in (first, scale * second)]
    return found[0], found[1], np.argmax(order == gold[:, None], axis=1).astype(np.int32)


def test_best_candidate_has_the_highest_score_and_its_softmax_probability() -> None:
    columns, confidence = best_candidates(scores([1, 3, 2], [0, -1, -2]))
    assert columns.tolist() == [1, 0]
    assert confidence[0] == pytest.approx(np.exp(3) / np.exp([1, 3, 2]).sum())


def test_missing_candidate_has_no_probability() -> None:
    columns, confidence = best_candidates(scores([MISSING, -5], [2, MISSING]))
    assert columns.tolist() == [1, 0]
    assert confidence.tolist() == [1.0, 1.0]


def test_first_of_equal_scores_is_the_best() -> None:
    columns, confidence = best_candidates(scores([1, 4, 4, 4]))
    assert columns.tolist() == [1]
    assert confidence[0] < 1 / 3


def test_final_score_is_the_weighted_sum_of_both_scores() -> None:
    final = Fusion(crossencoder=2, retrieval=0.5).final_scores(scores([1, -3], [0, 4]), scores([80, 78], [-2, -2.5]))
    assert final.tolist() == [[42, 33], [-1, 6.75]]
    assert final.dtype == np.float32


def test_score_alone_is_unchanged_and_a_missing_candidate_stays_missing() -> None:
    crossencoder, retrieval = (
        scores([0.1, 7e-8, MISSING], [3, MISSING, MISSING]),
        scores([9, 8, MISSING], [1] + [MISSING] * 2),
    )
    np.testing.assert_array_equal(CROSSENCODER_ALONE.final_scores(crossencoder, retrieval), crossencoder)
    np.testing.assert_array_equal(RETRIEVER_ALONE.final_scores(crossencoder, retrieval), retrieval)


def test_scores_of_different_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two scores of each candidate, got \(1, 2\) and \(1, 1\)"):
        CROSSENCODER_ALONE.final_scores(scores([1, 2]), scores([1]))
    with pytest.raises(ValueError, match="both scores of each candidate, got only one of some"):
        CROSSENCODER_ALONE.final_scores(scores([1, MISSING]), scores([1, 2]))


def test_mentions_have_the_same_final_scores_together_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    crossencoder, retrieval, _ = two_judges(1, 1, 1, mentions=50)
    fusion = Fusion(crossencoder=1.1, retrieval=0.3)
    together = fusion.final_scores(crossencoder, retrieval)
    monkeypatch.setattr("zeshel_tasks.linking.fusion._BLOCK", 3 * crossencoder.shape[1])
    np.testing.assert_array_equal(fusion.final_scores(crossencoder, retrieval), together)
    assert all(
        (fusion.final_scores(crossencoder[n : n + 1], retrieval[n : n + 1]) == together[n]).all() for n in (0, 49)
    )


@pytest.mark.parametrize("scale", [0.01, 1, 80], ids=["cosine", "alike", "dot-products"])
def test_two_judges_together_are_better_than_each(scale: float) -> None:
    crossencoder, retrieval, gold = two_judges(2, 1.5, 1.5, scale=scale)
    fusion = fit_fusion(crossencoder, retrieval, gold)
    assert fusion.combines == "both"
    unseen, retrieved, labels = two_judges(3, 1.5, 1.5, scale=scale)
    linked = right(fusion.final_scores(unseen, retrieved), labels)
    assert linked > 1.1 * max(right(unseen, labels), right(retrieved, labels))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("mentions", [1, 5, 40])
def test_fitted_score_is_never_worse_than_either_alone(seed: int, mentions: int) -> None:
    crossencoder, retrieval, gold = two_judges(seed, 0.4 * (seed % 4), 0.3 * (seed % 3), mentions)
    gold[:: 3 + seed] = -1
    fusion = fit_fusion(crossencoder, retrieval, gold)
    assert min(fusion.crossencoder, fusion.retrieval) >= 0
    linked = right(fusion.final_scores(crossencoder, retrieval), gold)
    assert linked >= max(right(crossencoder, gold), right(retrieval, gold))


def test_few_mentions_do_not_outweigh_the_retriever() -> None:
    """With 20 valid mentions, the most likely weights alone would fall below it on other mentions for some seeds."""
    for seed in range(20):
        fusion = fit_fusion(*two_judges(seed, 0.5, 1.5, mentions=20))
        unseen, retrieved, labels = two_judges(1000, 0.5, 1.5, mentions=2000)
        linked = right(fusion.final_scores(unseen, retrieved), labels)
        assert linked >= right(retrieved, labels) - 10, (seed, fusion)


@pytest.mark.parametrize(
    ("crossencoder", "retrieval", "alone"), [(3, -3, "crossencoder"), (-3, 3, "retriever")], ids=["first", "second"]
)
def test_judge_that_prefers_wrong_candidates_is_left_out(
    crossencoder: float, retrieval: float, alone: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert fit_fusion(*two_judges(4, crossencoder, retrieval)).combines == alone
    assert f"has a weight that is not positive, so the {alone} decides alone" in caplog.text


def test_fit_that_links_fewer_mentions_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    """The likelihood also counts how wrong the wrong ones are: one gold far down outweighs several that just win."""
    crossencoder = scores(*[[1.0, 1.01]] * 9, [0, 40], *[[1.0, 1.01]] * 10)
    retrieval = scores(*[[2.0, 1.0]] * 20)
    gold = np.array([1] * 9 + [0] + [1] * 10, dtype=np.int32)
    with caplog.at_level(logging.WARNING):
        fusion = fit_fusion(crossencoder, retrieval, gold)
    assert fusion == CROSSENCODER_ALONE
    assert "so the crossencoder decides alone" in caplog.text


def test_nothing_retrieved_leaves_the_crossencoder_alone() -> None:
    crossencoder, retrieval, gold = two_judges(5, 1, 1, mentions=10)
    assert fit_fusion(crossencoder, retrieval, np.full_like(gold, -1)) == CROSSENCODER_ALONE


def test_single_candidates_leave_the_crossencoder_alone() -> None:
    alone, padded = scores([3.0, MISSING], [-2.0, MISSING]), scores([1.0, MISSING], [0.5, MISSING])
    assert fit_fusion(alone, padded, np.array([0, 0], dtype=np.int32)) == CROSSENCODER_ALONE


def test_part_of_very_many_mentions_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    given = two_judges(6, 1.5, 1.5)
    whole = fit_fusion(*given)
    monkeypatch.setattr("zeshel_tasks.linking.fit_fusion._MOST_SCORES", 8 * 200)
    part = fit_fusion(*given)
    assert part != whole
    assert part.combines == "both"
    assert part.retrieval / part.crossencoder == pytest.approx(whole.retrieval / whole.crossencoder, rel=0.5)


def test_broken_weights_are_refused() -> None:
    with pytest.raises(ValidationError):
        Fusion.model_validate_json('{"crossencoder": 1.0}')
    with pytest.raises(ValidationError):
        Fusion.model_validate_json('{"crossencoder": NaN, "retrieval": 1}')
