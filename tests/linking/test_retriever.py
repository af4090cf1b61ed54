import json
from pathlib import Path

import numpy as np
import pytest

from tests.linking.conftest import DOCUMENTS
from zeshel_tasks.data.vector_file import VectorFile
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import DataError
from zeshel_tasks.evaluation.candidates import Candidates
from zeshel_tasks.linking.features import FEATURES, Pool, pool_of, search_words
from zeshel_tasks.linking.lexical import LEAD_WORDS, LexicalIndex
from zeshel_tasks.linking.mention_texts import MentionText, MentionTexts
from zeshel_tasks.linking.retriever import Retriever
from zeshel_tasks.linking.search import GoldRanks, retrieve_candidates, search_all

TEXTS = [
    MentionText("Tatooine", "they land on the desert planet", ""),
    MentionText("Jedi", "musicians of a", "c"),
    MentionText("nobody", "", ""),
]
K = 2


@pytest.fixture
def texts(tmp_path: Path) -> MentionTexts:
    return MentionTexts(tmp_path / "texts", TEXTS)


@pytest.fixture
def vectors(tmp_path: Path) -> VectorFile:
    random = np.random.default_rng(0)
    rows = random.normal(size=(len(DOCUMENTS), 5)).astype(np.float32)
    rows[5] = rows[1]  # the same page twice
    np.save(tmp_path / "vectors.npy", rows)
    return VectorFile(tmp_path / "vectors.npy")


@pytest.fixture
def dense(vectors: VectorFile) -> Candidates:
    queries = np.random.default_rng(2).normal(size=(len(TEXTS), 5)).astype(np.float32)
    scores = queries @ vectors.rows(np.arange(len(DOCUMENTS))).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return Candidates(np.arange(len(TEXTS)), np.take_along_axis(scores, order, 1), order, queries)


def of_pool(pool: Pool, row: int) -> dict[int, dict[str, float]]:
    """The features of a mention's candidates by position."""
    return {
        int(position): dict(zip(FEATURES, features.tolist(), strict=True))
        for position, features in zip(pool.positions[row], pool.features[row], strict=True)
        if position >= 0
    }


def test_the_pool_is_the_union_of_what_each_method_retrieves(
    index: LexicalIndex, texts: MentionTexts, dense: Candidates, vectors: VectorFile
) -> None:
    pool = pool_of(search_all(index, texts, dense, K), dense, vectors)
    tatooine, jedi, nobody = (of_pool(pool, row) for row in range(3))
    assert set(tatooine) == {0, 1, 5, *dense.positions[0].tolist()}, "0 by its first words"
    assert set(jedi) >= {2, 3}
    assert set(nobody) == set(dense.positions[2].tolist())
    assert [tatooine[n]["title"] for n in (1, 5)] == [1, 1]
    assert [jedi[n]["title_without_parenthesis"] for n in (2, 3)] == [1, 1]
    assert [jedi[n]["own_page"] for n in (2, 3)] == [1, 0]
    assert all(found["title"] == found["alias"] == found["own_page"] == 0 for found in nobody.values())


def test_every_candidate_has_its_score_of_the_biencoder(
    index: LexicalIndex, texts: MentionTexts, dense: Candidates, vectors: VectorFile
) -> None:
    pool = pool_of(search_all(index, texts, dense, K), dense, vectors)
    products = dense.queries @ vectors.rows(np.arange(len(DOCUMENTS))).T
    for row in range(len(TEXTS)):
        positions = pool.positions[row][pool.present[row]]
        expected = products[row, positions]
        expected = (expected - expected.mean()) / expected.std()
        assert pool.features[row, : len(positions), 0] == pytest.approx(expected, abs=1e-4)


def test_the_page_of_the_mention_counts_as_without_words(
    index: LexicalIndex, texts: MentionTexts, dense: Candidates
) -> None:
    found = search_all(index, texts, dense, K)[1]
    own, other = (found.features[found.pool == position][0] for position in (2, 3))
    assert own[1:5].tolist() == [0, 0, 0, 0]
    assert (other[1:3] > 0).all()


def test_the_first_words_names_and_length_of_a_page_are_features(
    tmp_path: Path, vectors: VectorFile, dense: Candidates
) -> None:
    padding = "word " * LEAD_WORDS
    documents = [
        Document("a", "on conflict", f"int vtab ( ) {padding}"),
        Document("b", "virtual tables", f"{padding} vtab vtab"),
        *DOCUMENTS[2:],
    ]
    LexicalIndex.write(documents, tmp_path / "index")
    texts = MentionTexts(tmp_path / "text", [MentionText("vtab", "what to do on a conflict", "")])
    alone = Candidates(*(part[:1] for part in dense))
    pool = of_pool(pool_of(search_all(LexicalIndex(tmp_path / "index"), texts, alone, K), alone, vectors), 0)
    assert pool[0]["bm25_mention_in_lead"] > 0 > pool[1]["bm25_mention_in_lead"]
    assert pool[0]["bm25_context_in_names"] > 0 > pool[1]["bm25_context_in_names"]
    assert pool[0]["log_length"] == pytest.approx(np.log1p(2 + LEAD_WORDS))
    assert pool[1]["log_length"] == pytest.approx(np.log1p(2 + LEAD_WORDS))


def test_each_query_of_bm25_adds_to_the_pool(tmp_path: Path, dense: Candidates, vectors: VectorFile) -> None:
    """With one entity by each query, the best by its lead alone and the best by its names alone are candidates."""
    documents = [
        Document("a", "x", "vtab vtab vtab " * LEAD_WORDS),
        Document("b", "y", "int vtab"),
        Document("c", "conflict", "conflict"),
        Document("d", "z", "conflict " * 100),
        *DOCUMENTS[4:],
    ]
    LexicalIndex.write(documents, tmp_path / "index")
    index, text = LexicalIndex(tmp_path / "index"), MentionText("vtab", "a conflict", "")
    best_of_each = [
        int(scores.argmax()) for scores in (index.mention_scores(text, "lead"), index.context_scores(text, "names"))
    ]
    found = search_words(index, text, np.array([4]), 1)
    assert {*best_of_each, 4} <= set(found.pool.tolist())


def test_a_retriever_of_an_earlier_version_ranks_by_the_features_it_has(
    index: LexicalIndex, texts: MentionTexts, dense: Candidates, vectors: VectorFile, tmp_path: Path
) -> None:
    path = tmp_path / "retriever.json"
    path.write_text(json.dumps({"hybrid": True, "context_words": 8, "weights": {"dense": 0.5, "title": 2.0}}))
    found = search_all(index, texts, dense, K)
    old, new = (
        Retriever.read(path).fuse(found, dense, vectors),
        hybrid(dense=0.5, title=2.0).fuse(found, dense, vectors),
    )
    assert old.positions.tolist() == new.positions.tolist()
    assert old.scores.tolist() == new.scores.tolist()


def test_scores_without_spread_are_zero(vectors: VectorFile, index: LexicalIndex, texts: MentionTexts) -> None:
    rows = np.array([2])
    alone = Candidates(rows, np.ones((1, 1), np.float32), np.array([[4]]), np.ones((1, 5), np.float32))
    pool = pool_of(search_all(index, texts, alone, K), alone, vectors)
    assert pool.features[0].tolist() == [[0.0] * len(FEATURES)], "its text is empty, too"


def hybrid(**weights: float) -> Retriever:
    return Retriever(hybrid=True, context_words=8, weights={name: weights.get(name, 0.0) for name in FEATURES})


def test_the_fused_list_is_the_best_of_the_pool_and_as_long_as_the_biencoders(
    index: LexicalIndex, texts: MentionTexts, dense: Candidates, vectors: VectorFile
) -> None:
    fused = hybrid(title=1.0).fuse(search_all(index, texts, dense, K), dense, vectors)
    assert fused.positions.shape == fused.scores.shape == (3, K)
    assert fused.positions[0].tolist() == [1, 5], "equal scores in the order of positions"
    assert fused.scores[0].tolist() == [1, 1]
    by_dense = hybrid(dense=1.0).fuse(search_all(index, texts, dense, K), dense, vectors)
    assert by_dense.positions.tolist() == dense.positions.tolist()


def test_equal_entities_get_equal_scores(
    index: LexicalIndex, texts: MentionTexts, dense: Candidates, vectors: VectorFile
) -> None:
    """A matrix product may differ between its columns, so that one of two equal entities wins by its last bit."""
    pool = of_pool(pool_of(search_all(index, texts, dense, K), dense, vectors), 0)
    assert pool[1] == pool[5]


def test_a_retriever_that_is_not_hybrid_returns_the_biencoders_list(
    index: LexicalIndex, texts: MentionTexts, dense: Candidates, vectors: VectorFile
) -> None:
    (found,) = retrieve_candidates(Retriever(), index, texts, [dense], vectors, K)
    assert found.candidates.positions.tolist() == dense.positions.tolist()
    assert found.candidates.scores.tolist() == dense.scores.tolist()
    assert found.baselines[0].bm25.tolist() == [1, 5]
    assert found.baselines[1].bm25.tolist() == [2, 3]
    assert found.baselines[0].exact_title.tolist() == [1, 5]


def test_parts_give_the_same_candidates_as_the_whole(
    index: LexicalIndex,
    texts: MentionTexts,
    dense: Candidates,
    vectors: VectorFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    retriever = hybrid(dense=1.0, bm25_mention=0.5, bm25_context=0.2)
    (whole,) = retrieve_candidates(retriever, index, texts, [dense], vectors, K)
    monkeypatch.setattr("zeshel_tasks.linking.search._FUSED_AT_ONCE", 1)
    monkeypatch.setattr("zeshel_tasks.linking.features._SCORED_AT_ONCE", 1)
    parts = list(retrieve_candidates(retriever, index, texts, [dense], vectors, K))
    assert len(parts) == 3
    assert np.concatenate([part.candidates.positions for part in parts]).tolist() == whole.candidates.positions.tolist()
    assert np.concatenate([part.candidates.scores for part in parts]).tolist() == whole.candidates.scores.tolist()


def test_ranks_are_of_each_method_alone(
    index: LexicalIndex, texts: MentionTexts, dense: Candidates, vectors: VectorFile, tmp_path: Path
) -> None:
    ranks = GoldRanks(3)
    (found,) = retrieve_candidates(hybrid(title=1.0), index, texts, [dense], vectors, K)
    label = np.array([5, 3, dense.positions[2, 1]], dtype=np.int32)
    ranks.put(found, label)
    assert ranks.by_method["exact_title"].tolist() == [1, -1, -1]
    assert ranks.by_method["bm25"].tolist() == [1, 1, -1]
    assert ranks.by_method["biencoder"][2] == 1
    ranks.save(tmp_path)
    for method, of_method in ranks.by_method.items():
        assert np.load(tmp_path / f"gold_rank_{method}.npy").tolist() == of_method.tolist()


def test_pools_of_different_width_are_joined_with_padding() -> None:
    narrow, wide = Pool.empty(1, 2), Pool.empty(2, 3)
    narrow.positions[:], wide.positions[:] = 7, 8
    joined = Pool.joined([narrow, wide])
    assert joined.positions.tolist() == [[7, 7, -1], [8, 8, 8], [8, 8, 8]]
    assert joined.present.tolist() == [[True, True, False], [True] * 3, [True] * 3]


WEIGHTS = dict.fromkeys(FEATURES, 1.0)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"hybrid": true, "context_words": 8, "weights": {}}',
        '{"hybrid": true, "context_words": 8, "weights": {"sparse": 1}}',
        json.dumps({"hybrid": False, "context_words": 8, "weights": WEIGHTS}),
        json.dumps({"hybrid": True, "context_words": 8, "weights": WEIGHTS | {"dense": None}}),
    ],
)
def test_a_file_that_is_no_retriever_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "retriever.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"retriever\.json"):
        Retriever.read(path)


def test_a_retriever_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, retriever = tmp_path / "retriever.json", hybrid(dense=0.1 + 0.2, own_page=-3.0)
    path.write_text(retriever.model_dump_json())
    assert Retriever.read(path) == retriever
