"""Linking the test mentions of a run gives what its evaluation gave."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.linking.linked_worlds import NIL_SHARE, LinkedWorlds, linked_worlds
from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.data.blink_format import CASED_FIELDS
from zeshel_tasks.data.json_lines import read_json_lines
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.link_files.lines import LineReader, all_mentions
from zeshel_tasks.linking.calibration import Logistic
from zeshel_tasks.linking.cascade import Calibrations
from zeshel_tasks.linking.linker import Linked, Linker
from zeshel_tasks.linking.loaded_models import LoadedModels
from zeshel_tasks.linking.mention_texts import MentionText, mention_text
from zeshel_tasks.store import Run


@pytest.fixture(scope="module")
def worlds(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> LinkedWorlds:
    return linked_worlds(finished_run, tmp_path_factory.mktemp("linked"))


def assert_as_evaluated(worlds: LinkedWorlds, rows: Sequence[int], found: Sequence[Linked]) -> None:
    """The same predictions, and the same scores of all candidates within 1e-5."""
    assert [linked.positions[0] for linked in found] == [worlds.predictions[row]["predicted_id"] for row in rows]
    for row, linked in zip(rows, found, strict=True):
        assert linked.crossencoder is not None
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


def tokens_and_offsets(worlds: LinkedWorlds, row: int) -> tuple[list[str], int, int]:
    """The tokens of a mention's page, and which of them are the mention."""
    path = worlds.download.path("mentions/test.json")
    known = {mention["mention_id"]: mention for mention in read_json_lines(path)}
    mention, place = worlds.mentions[row], known[worlds.mentions[row].mention_id]
    (page,) = worlds.entities[mention.world].index.named("page", mention_text(mention, 0))
    text = worlds.entities[mention.world].documents[int(page)].text
    return text.split(" "), place["start_index"], place["end_index"]


def with_offsets(tokens: list[str], start: int, end: int, *, plain: bool) -> dict[str, Any]:
    """A text and its mention by offsets: the tokens, or the plain text that they may come from."""
    text, starts = "", []
    for number, token in enumerate(tokens):
        glued = number == 0 or (plain and (token in ".,;:!?)'" or tokens[number - 1] in "('"))
        text += ("" if glued else "\n" if plain and number % 7 == 0 else " ") + token
        starts.append(len(text) - len(token))
    return {"text": text, "mentions": [{"start": starts[start], "end": starts[end] + len(tokens[end])}]}


def in_form(worlds: LinkedWorlds, row: int, form: str) -> dict[str, Any]:
    """A test mention as an input line."""
    mention = worlds.mentions[row]
    page = mention.context_document_id
    if form == "blink":
        cased = {name: getattr(mention, name) for name in CASED_FIELDS}
        return {name: text.lower() for name, text in cased.items()} | {"context_document_id": page}
    tokens, start, end = tokens_and_offsets(worlds, row)
    if form == "zeshel":
        return {"context_document_id": page, "start_index": start, "end_index": end}
    return {"id": page} | with_offsets(tokens, start, end, plain=form == "plain")


def linked_in_form(worlds: LinkedWorlds, world: str, rows: Sequence[int], form: str) -> list[Linked]:
    entities, context_tokens = worlds.entities[world], worlds.models.evaluation().context_tokens

    def find_page(name: str) -> Document | None:
        return entities.documents[int(entities.index.named("page", MentionText("", "", name))[0])]

    reader = LineReader("in", context_tokens, "code_points", tokenized=form == "tokens", find_page=find_page)
    lines = [reader.read(json.dumps(in_form(worlds, row, form)).encode(), row) for row in rows]
    return list(worlds.linker(world).link(all_mentions(lines)))


@pytest.mark.parametrize("form", ["blink", "zeshel", "tokens"])
def test_each_form_of_a_line_gives_the_numbers_of_the_evaluation(worlds: LinkedWorlds, form: str) -> None:
    for world, rows in worlds.rows():
        assert_as_evaluated(worlds, rows, linked_in_form(worlds, world, rows, form))


def test_plain_text_gives_the_predictions_of_the_evaluation_and_the_scores_of_both_models(worlds: LinkedWorlds) -> None:
    """BM25 sees a few words less or more, because these documents have tokens such as 2% and three dots."""
    for world, rows in worlds.rows():
        for row, found in zip(rows, linked_in_form(worlds, world, rows, "plain"), strict=True):
            assert found.positions[0] == worlds.predictions[row]["predicted_id"]
            columns = {position: column for column, position in enumerate(worlds.ranked.candidates[row])}
            expected = worlds.ranked.crossencoder[row][[columns[position] for position in found.positions]]
            assert found.crossencoder is not None
            np.testing.assert_allclose(found.crossencoder, expected, atol=1e-5, rtol=0)


def test_other_batches_change_only_last_bits(worlds: LinkedWorlds) -> None:
    """The scores of this small bi-encoder hardly differ, so its standardized scores differ more than by last bits."""
    world, rows = next(iter(worlds.rows()))
    mentions = [worlds.mentions[row] for row in rows]
    together = list(worlds.linker(world).link(mentions))
    alone = worlds.linker(world, {"eval_batch_size": 1, "score_batch_size": 1})
    for mention, expected in zip(mentions, together, strict=True):
        (found,) = alone.link([mention])
        assert found.positions[0] == expected.positions[0]
        assert found.crossencoder is not None
        assert expected.crossencoder is not None
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


def test_retriever_alone_links_with_its_own_scores_and_probabilities(worlds: LinkedWorlds) -> None:
    cascade = worlds.models.calibrations().cascade
    assert cascade is not None
    for world, rows in worlds.rows():
        linker = worlds.linker(world, {"mode": "retrieve"})
        found = list(linker.link(worlds.mentions[row] for row in rows))
        with pytest.raises(ConfigError, match="mode: expected retrieve, for which the models were loaded, got cascade"):
            linker.link([], "cascade")
        right, none = cascade.probabilities(worlds.ranked.retrieval[rows], NIL_SHARE)
        for place, (row, linked) in enumerate(zip(rows, found, strict=True)):
            known = worlds.ranked.candidates[row] >= 0
            np.testing.assert_array_equal(linked.positions, worlds.ranked.candidates[row][known])
            np.testing.assert_allclose(linked.final, worlds.ranked.retrieval[row][known], atol=1e-5, rtol=0)
            assert linked.crossencoder is None
            assert (linked.right, linked.none) == pytest.approx((right[place], none[place]), abs=1e-5)


def clear_by_margin(calibrations: Calibrations, clear_from: float) -> Calibrations:
    """The retriever of this run is always right on valid, so that no probability of its own tells mentions apart."""
    cascade = calibrations.cascade
    assert cascade is not None
    by_margin = {"right": Logistic(weights={"margin": 0.1}, intercept=0.0)}
    changed = {"clear_from": clear_from, "retriever": cascade.retriever.model_copy(update=by_margin)}
    return replace(calibrations, cascade=cascade.model_copy(update=changed))


def test_cascade_reranks_the_mentions_that_are_not_clear(worlds: LinkedWorlds) -> None:
    world, rows = next(iter(worlds.rows()))
    mentions = [worlds.mentions[row] for row in rows]
    linker = worlds.linker(world, {"mode": "cascade"})
    by_margin = clear_by_margin(linker.calibrations, 0.5).cascade
    assert by_margin is not None
    right = by_margin.probabilities(worlds.ranked.retrieval[rows]).right
    different = np.unique(right)
    middle = float(different[len(different) // 2 - 1 :][:2].mean())
    linker.calibrations = clear_by_margin(linker.calibrations, middle)
    alone = list(linker.link(mentions, "retrieve"))
    found = list(linker.link(mentions))
    clear = [place for place, linked in enumerate(found) if linked.crossencoder is None]
    assert clear == np.flatnonzero(right >= middle).tolist()
    assert 0 < len(clear) < len(found)
    assert all(found[place].right == alone[place].right for place in clear)
    rest = [place for place in range(len(found)) if place not in clear]
    assert_as_evaluated(worlds, [rows[place] for place in rest], [found[place] for place in rest])
    for place in rest:
        known = tuple(worlds.probabilities[rows[place]])
        assert (found[place].right, found[place].none) == pytest.approx(known, abs=1e-5)


def test_models_of_an_earlier_champion_link_with_the_crossencoder_alone(worlds: LinkedWorlds, tmp_path: Path) -> None:
    world, rows = next(iter(worlds.rows()))
    models = replace(worlds.models, fitted=None, fused=None, calibrated=None)
    assert models.fingerprint != worlds.models.fingerprint
    assert models.evaluation().top_k == 64
    linker = Linker(LoadedModels.load(models, LinkConfig(candidates=4)), worlds.entities[world])
    linked = next(linker.link([worlds.mentions[rows[0]]]))
    np.testing.assert_array_equal(linked.final, linked.crossencoder)
    assert len(linked.positions) == 4
    assert linked.right is linked.none is None
    with pytest.raises(ConfigError, match="mode: expected rerank, because these models are of an earlier version"):
        LoadedModels.load(models, LinkConfig(mode="cascade"))
