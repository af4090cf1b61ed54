import numpy as np
import pytest

from tests.linking.test_cascade import fitted, two_models
from tests.linking.test_fit_calibration import example
from zeshel_tasks.linking.cascade import Calibrations, OwnCalibration
from zeshel_tasks.linking.fit_calibration import RankedScores, fit_calibration
from zeshel_tasks.linking.own_calibration import LabelledScores, error_of, fit_own


def other_world(mentions: int, seed: int = 3) -> RankedScores:
    """Mentions with scores as elsewhere, of which half of the right links are wrong."""
    found = two_models(seed=seed, mentions=mentions, worlds=mentions)
    wrong = np.random.default_rng(seed).random(mentions) < 0.5
    return found._replace(gold_rank=np.where(wrong, -1, found.gold_rank).astype(np.int32))


def labelled(mentions: int, nil: int = 0) -> LabelledScores:
    lacking = two_models(seed=9, mentions=max(nil, 1), worlds=max(nil, 1))
    lacking = lacking._replace(gold_rank=np.full_like(lacking.gold_rank, -1))
    return LabelledScores(other_world(mentions), lacking.of(np.arange(len(lacking.final)) < nil))


@pytest.fixture(scope="module")
def models() -> Calibrations:
    scores = two_models()
    return Calibrations(fit_calibration(scores).calibration, fitted(scores).cascade)


def own(models: Calibrations, scores: LabelledScores) -> OwnCalibration:
    assert models.reranked is not None
    assert models.cascade is not None
    return fit_own(scores, models.reranked, models.cascade).calibration


def test_probabilities_are_those_of_the_knowledge_base(models: Calibrations) -> None:
    found, new = own(models, labelled(300)), other_world(2000, seed=4)
    assert models.reranked is not None
    before = models.reranked.probabilities(*new[:3]).right.astype(np.float64)
    after = found.reranked.probabilities(*new[:3]).right.astype(np.float64)
    assert error_of(before, new.correct) > 0.15
    assert error_of(after, new.correct) < 0.08
    alone = new.retrieved()
    assert error_of(found.retriever.probabilities(*alone[:3]).right.astype(np.float64), alone.correct) < 0.08


def test_figures_of_the_cross_validation_are_those_on_new_mentions(models: Calibrations) -> None:
    assert models.reranked is not None
    assert models.cascade is not None
    scores = labelled(1000)
    found = fit_own(scores, models.reranked, models.cascade)
    assert found.before == pytest.approx(models.reranked.probabilities(*scores.known[:3]).right)
    assert error_of(found.before, scores.known.correct) > 0.15
    assert error_of(found.after, scores.known.correct) < 0.06


def test_few_mentions_change_little(models: Calibrations) -> None:
    """The log odds are between the models' and those of a fit without them, nearer to the latter with more mentions."""
    assert models.reranked is not None
    for mentions, share in ((5, 0.2), (180, 0.9)):
        scores = labelled(mentions)
        alone = fit_calibration(scores.known, scores.nil).calibration.right
        mixed = own(models, scores).reranked.right
        expected = share * alone.intercept + (1 - share) * models.reranked.right.intercept
        assert mixed.intercept == pytest.approx(expected)


def test_mentions_without_an_entity_count_as_half_of_all(models: Calibrations) -> None:
    """They have scores as those with their golds removed, so that more of them change little."""
    few, many = (own(models, labelled(300, nil)).reranked for nil in (0, 600))
    new = other_world(500, seed=5)
    shares = [found.probabilities(*new[:3]).none.mean() for found in (few, many)]
    assert shares[0] == pytest.approx(shares[1], abs=0.1)
    assert len(many.reference.masked_none) == 900


@pytest.mark.parametrize("shift", [-20, 0, 20])
def test_reference_is_what_the_calibration_says_of_the_mentions(
    models: Calibrations, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    """Also of scores beyond those of valid. The prior is so strong that the fits without a mention change nothing."""
    monkeypatch.setattr("zeshel_tasks.linking.own_calibration._PRIOR", 1e12)
    known, nil = labelled(200, nil=50)
    known, nil = (part._replace(final=part.final + shift, retrieval=part.retrieval + shift) for part in (known, nil))
    found = own(models, LabelledScores(known, nil))
    for calibration, scores in ((found.reranked, known), (found.retriever, known.retrieved())):
        said, missing = (calibration.probabilities(*part[:3]) for part in (scores, scores.masked()))
        assert calibration.reference.right == pytest.approx(said.right, abs=1e-4)
        assert calibration.reference.none == pytest.approx(said.none, abs=1e-4)
        assert calibration.reference.masked_none[:200] == pytest.approx(missing.none, abs=1e-4)


def test_values_that_the_models_know_count_as_they_are(models: Calibrations) -> None:
    scores = labelled(60)
    assert models.reranked is not None
    features = np.concatenate([scores.known.features, scores.known.masked().features])
    for (low, high), known, given in zip(
        own(models, scores).reranked.ranges.values(), models.reranked.ranges.values(), features.T, strict=True
    ):
        assert (low, high) == (min(known[0], given.min()), max(known[1], given.max()))


def test_own_probabilities_and_thresholds_replace_those_of_the_models(models: Calibrations) -> None:
    found = own(models, labelled(300))
    with_own = Calibrations(models.reranked, models.cascade, found)
    assert (with_own.of_reranked, with_own.of_clear) == (found.reranked, found.retriever)
    references = [with_own.reference(mode) for mode in ("rerank", "cascade", "retrieve")]
    assert references == [found.reranked.reference, found.reference, found.retriever.reference]
    retrieval = example(mentions=50, seed=7).retrieval
    np.testing.assert_array_equal(
        with_own.is_clear("cascade", retrieval), models.is_clear("cascade", retrieval)
    )  # the models still choose
