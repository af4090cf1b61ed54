"""Entities in one folder: documents, tokens, vectors and index with the same positions."""

from pathlib import Path

import numpy as np
from accelerate import Accelerator

from tests.linking.conftest import DOCUMENTS
from zeshel_tasks.config.retrieval import EvalBiencoderConfig
from zeshel_tasks.evaluation.entity_encoding import EntityEncoder
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.linking.mention_texts import MentionText
from zeshel_tasks.models.bert import load_bert
from zeshel_tasks.models.encoder import Encoder
from zeshel_tasks.models.tokenizer import load_tokens


def test_all_files_have_the_same_positions(golden: Path, tmp_path: Path) -> None:
    tokens = load_tokens(golden / "bert", lowercase=True)
    model = Encoder(load_bert(golden / "bert")).eval()
    encoder = EntityEncoder(model, tokens, 16, Accelerator(cpu=True), EvalBiencoderConfig(encode_batch_size=2))
    EntitySet.write(DOCUMENTS, encoder, "b" * 64, tmp_path / "set", "jedi")
    entities = EntitySet.open(tmp_path / "set", "jedi")
    assert (len(entities), entities.name, entities.biencoder) == (len(DOCUMENTS), "jedi", "b" * 64)
    assert list(entities.documents) == DOCUMENTS
    assert entities.tokens_identity == tokens.identity(16)
    pairs = [(document.title, document.text) for document in DOCUMENTS]
    np.testing.assert_array_equal(entities.tokens, tokens.candidates(pairs, 16))
    assert (len(entities.vectors), len(entities.index)) == (len(DOCUMENTS), len(DOCUMENTS))
    same = entities.vectors.rows(np.array([1, 5]))  # the same text
    np.testing.assert_allclose(same[0], same[1], atol=1e-6)
    np.testing.assert_array_equal(entities.index.named("alias", MentionText("red five", "", "")), [0])
