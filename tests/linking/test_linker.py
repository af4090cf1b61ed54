"""Linking the test mentions of a run gives what its evaluation gave."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.linking.linked_worlds import LinkedWorlds, linked_worlds
from zeshel_tasks.config import LinkConfig
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.linking.linker import Linked, Linker
from zeshel_tasks.store import Run


@pytest.fixture(scope="module")
def worlds(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> LinkedWorlds:
    return linked_worlds(finished_run, tmp_path_factory.mktemp("linked"))


def assert_as_evaluated(worlds: LinkedWorlds, rows: Sequence[int], found: Sequence[Linked]) -> None:
    """The same predictions, and the same scores of all candidates within 1e-5."""
    assert [linked.positions[0] for linked in found] == [worlds.predictions[row]["predicted_id"] for row in rows]
    for row, linked in zip(rows, found, strict=True):
        known = worlds.ranked.candidates[row] >= 0
        order = np.argsort(-worlds.final[row][known], kind="stable")
        np.testing.assert_array_equal(linked.positions, worlds.ranked.candidates[row][known][order])
        for ours, evaluated in (
            (linked.retrieval, worlds.ranked.retrieval),
            (linked.crossencoder, worlds.ranked.crossencoder),
            (linked.final, worlds.final),
        ):
            np.testing.assert_allclose(ours, evaluated[row][known][order], atol=1e-5, rtol=0)


def test_mentions_get_the_predictions_and_scores_of_the_evaluation(worlds: LinkedWorlds) -> None:
    assert worlds.models.retriever().hybrid  # the page of a mention counts
    for world, rows in worlds.rows():
        found = list(worlds.linker(world).link(worlds.mentions[row] for row in rows))
        assert_as_evaluated(worlds, rows, found)
        for row, linked in zip(rows, found, strict=True):
            assert linked.share == pytest.approx(worlds.predictions[row]["confidence"], abs=2e-6)
            assert (linked.right, linked.none) == pytest.approx(tuple(worlds.probabilities[row]), abs=1e-5)


def test_other_batches_change_only_last_bits(worlds: LinkedWorlds) -> None:
    """The scores of this small bi-encoder hardly differ, so its standardized scores differ more than by last bits."""
    world, rows = next(iter(worlds.rows()))
    mentions = [worlds.mentions[row] for row in rows]
    together = list(worlds.linker(world).link(mentions))
    alone = worlds.linker(world, {"eval_batch_size": 1, "score_batch_size": 1})
    for mention, expected in zip(mentions, together, strict=True):
        (found,) = alone.link([mention])
        assert found.positions[0] == expected.positions[0]
        order, theirs = (np.argsort(linked.positions) for linked in (found, expected))
        np.testing.assert_allclose(found.crossencoder[order], expected.crossencoder[theirs], atol=1e-5, rtol=0)
        np.testing.assert_allclose(found.retrieval[order], expected.retrieval[theirs], atol=5e-3, rtol=0)


def test_entities_that_were_tokenized_in_another_way_are_tokenized_again(worlds: LinkedWorlds) -> None:
    world, rows = next(iter(worlds.rows()))
    linker = worlds.linker(world, tokens_identity="of another tokenizer")
    assert (linker._has_tokens, worlds.linker(world)._has_tokens) == (False, True)
    assert_as_evaluated(worlds, rows, list(linker.link(worlds.mentions[row] for row in rows)))


def test_entities_of_another_biencoder_are_refused(worlds: LinkedWorlds) -> None:
    with pytest.raises(ConfigError, match=r"--kb: expected .* encoded with the bi-encoder .* got it encoded with 0000"):
        worlds.linker(next(iter(worlds.entities)), biencoder="0" * 64)


def test_models_of_an_earlier_champion_link_with_the_crossencoder_alone(worlds: LinkedWorlds, tmp_path: Path) -> None:
    world, rows = next(iter(worlds.rows()))
    models = replace(worlds.models, fitted=None, fused=None, calibrated=None)
    assert models.fingerprint != worlds.models.fingerprint
    assert models.evaluation().top_k == 64
    linked = next(Linker(models, worlds.entities[world], LinkConfig(top_k=4)).link([worlds.mentions[rows[0]]]))
    np.testing.assert_array_equal(linked.final, linked.crossencoder)
    assert len(linked.positions) == 4
    assert linked.right is linked.none is None
