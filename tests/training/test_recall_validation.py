"""The validation of the bi-encoder measures recall, in any number of processes and with a sample of the entities."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.training.conftest import MakeFit
from tests.training.results import result
from tests.training.test_objectives import candidate_sets
from zeshel_tasks.data.arrays import Rows
from zeshel_tasks.data.mention_table import GoldPairs
from zeshel_tasks.data.search_set import EntitySample, SearchSet
from zeshel_tasks.models.biencoder import Biencoder, new_biencoder
from zeshel_tasks.models.crossencoder import new_crossencoder
from zeshel_tasks.models.tokenizer import load_tokenizer
from zeshel_tasks.recipe import build_recipe
from zeshel_tasks.training.crossencoder_objective import CrossencoderObjective
from zeshel_tasks.training.fit import fit
from zeshel_tasks.training.launch import run_in_processes
from zeshel_tasks.training.recall_validation import RecallValidation


@pytest.fixture
def searched(pair_tables: Path) -> SearchSet:
    return SearchSet.load(pair_tables / "valid")


@pytest.fixture
def model(golden: Path) -> Biencoder:
    torch.manual_seed(0)
    return new_biencoder(golden / "bert", build_recipe("smoke").train_biencoder)[0].eval()


def recall(searched: SearchSet, model: Biencoder, top_k: int, batch: int = 7) -> tuple[float, float]:
    validation = RecallValidation(searched, top_k, batch, 0, Accelerator(cpu=True), "")
    figures = validation.measure(model, lambda: None)
    return figures["valid_recall"], figures["valid_recall_at_1"]


def ranks(searched: SearchSet, model: Biencoder) -> np.ndarray:
    """The ranks of the golds among all entities, one mention at a time."""
    found = np.zeros(len(searched.mentions))

    def vectors(encoder: torch.nn.Module, table: np.ndarray) -> torch.Tensor:
        ids = torch.from_numpy(np.array(table)).long()
        return encoder.bert_model(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state[:, 0]

    with torch.no_grad():
        for world, rows in searched.mentions.rows_of_world().items():
            entities = vectors(model.cand_encoder, searched.entities[world].tokens)
            for row in rows:
                scores = (vectors(model.context_encoder, searched.mentions.contexts[[row]]) @ entities.T)[0]
                found[row] = (scores > scores[searched.mentions.label[row]]).sum()
    return found


def test_recall_is_over_all_entities_of_the_world(searched: SearchSet, model: Biencoder) -> None:
    expected = ranks(searched, model)
    assert 0 < (expected < 5).mean() < 1
    for batch in (7, 64):
        assert recall(searched, model, 5, batch) == ((expected < 5).mean(), (expected < 1).mean())


def test_entity_of_a_sample_counts_as_those_for_which_it_stands(searched: SearchSet, model: Biencoder) -> None:
    """Every second entity, with the weight 2 but for golds, has about the recall of all at the same rank."""
    sampled = {}
    for world, rows in searched.mentions.rows_of_world().items():
        everything, golds = searched.entities[world], np.unique(searched.mentions.label[rows])
        kept = np.isin(everything.positions, golds) | (everything.positions % 2 == 0)
        stands_for = np.where(np.isin(everything.positions[kept], golds), 1, 2).astype(np.float32)
        sampled[world] = EntitySample(everything.tokens[kept], everything.positions[kept], stands_for)
    halves = SearchSet(searched.mentions, sampled)
    alike = {world: replace(sample, weights=np.ones_like(sample.weights)) for world, sample in sampled.items()}
    exact, estimated = recall(searched, model, 20)[0], recall(halves, model, 20)[0]
    assert estimated == pytest.approx(exact, abs=0.05)
    assert recall(SearchSet(searched.mentions, alike), model, 20)[0] > exact + 0.05


def test_one_vector_for_all_entities_finds_nothing(searched: SearchSet, model: Biencoder) -> None:
    for parameter in model.cand_encoder.parameters():
        parameter.data.fill_(0.5)
    assert recall(searched, model, 5) == (0, 0)


@pytest.mark.parametrize("kind", ["biencoder", "crossencoder"])
def test_processes_share_the_validation(
    biencoder_fit: MakeFit, crossencoder_fit: MakeFit, golden: Path, kind: str
) -> None:
    """The last batch of entities leaves a process without any."""
    make = {"biencoder": biencoder_fit, "crossencoder": crossencoder_fit}[kind]
    one, three = (replace(make(name, num_train_epochs=0, eval_batch_size=2), bert=golden / "bert") for name in "ab")
    fit(one)
    run_in_processes(fit, three, 3, three.out)
    assert result(three)["metrics"]["epochs"] == result(one)["metrics"]["epochs"]


def accelerator(process: int, count: int) -> Accelerator:
    """One of several processes, which adds up nothing."""
    fake = SimpleNamespace(
        process_index=process,
        num_processes=count,
        device=torch.device("cpu"),
        autocast=Accelerator(cpu=True).autocast,
        reduce=lambda tensor, reduction: tensor,
    )
    return cast("Accelerator", fake)


def test_processes_encode_each_entity_once(
    searched: SearchSet, model: Biencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def gather(mine: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        encoded.append(len(mine))
        return mine.new_zeros(sum(sizes), mine.shape[1])

    monkeypatch.setattr("zeshel_tasks.training.recall_validation.gather", gather)
    for process in range(2):
        validation = RecallValidation(searched, 5, 7, 0, accelerator(process, 2), "")
        for sample in searched.entities.values():
            validation._encoded(model.cand_encoder, sample.tokens, lambda: None)
    assert sum(encoded) == sum(len(sample.positions) for sample in searched.entities.values())


def test_processes_count_each_mention_once(
    searched: SearchSet, model: Biencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch of 22 mentions has one, which the processes without any compute, too."""
    world, rows = next(iter(searched.mentions.rows_of_world().items()))
    names = ("contexts", "world", "label", "category")
    few = {name: np.array(getattr(searched.mentions, name)[rows[:22]]) for name in names}
    few["world"][:] = 0
    some = SearchSet(replace(searched.mentions, **few, worlds=[world]), searched.entities)
    expected = recall(some, model, 30)
    vectors = RecallValidation(some, 30, 7, 0, Accelerator(cpu=True), "")._encoded
    monkeypatch.setattr(RecallValidation, "_encoded", lambda _, *arguments: vectors(*arguments))
    found = [RecallValidation(some, 30, 7, 0, accelerator(p, 3), "").measure(model, lambda: None) for p in range(3)]
    assert sum(figures["valid_recall"] for figures in found) == pytest.approx(expected[0])
    assert expected[0] > 0.2


def test_processes_count_each_mention_of_the_crossencoder_once(
    pair_tables: Path, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = candidate_sets(GoldPairs.load(pair_tables / "train"), top_k=8)
    sets = replace(sets, gold_rank=np.where(np.arange(len(sets.gold_rank)) < 13, 2, -1))  # 13 are 12 and 1
    config = build_recipe("smoke", {"train_crossencoder.eval_batch_size": 4}).train_crossencoder
    torch.manual_seed(0)
    model, settings = new_crossencoder(golden / "bert", config)
    tokenizer = load_tokenizer(golden / "bert", lowercase=True)

    def correct(process: int, count: int) -> float:
        one = accelerator(process, count)
        objective = CrossencoderObjective(sets, sets, settings, tokenizer, one, config)
        with torch.no_grad():
            return objective.validate(model.eval(), lambda: None)["valid_accuracy"]

    def right(_self: object, _model: object, _sets: object, rows: Rows) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.from_numpy(sets.gold_rank[rows].astype(np.int64)), 8).float()

    monkeypatch.setattr(CrossencoderObjective, "_scores", right)
    assert sum(correct(process, 3) for process in range(3)) == pytest.approx(correct(0, 1)) == 1
