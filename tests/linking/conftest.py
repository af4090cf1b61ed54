from pathlib import Path

import pytest

from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.linking.lexical import LexicalIndex

DOCUMENTS = [
    Document("a", "Luke Skywalker", "a jedi knight from tatooine", aliases=("Red Five",)),
    Document("b", "Tatooine", "a desert planet of luke"),
    Document("c", "Jedi (order)", "knights with a lightsaber"),
    Document("d", "Jedi (band)", "musicians from a desert"),
    Document("e", "?", ""),
    Document("f", "Tatooine", "a desert planet of luke"),
]


@pytest.fixture
def index(tmp_path: Path) -> LexicalIndex:
    LexicalIndex.write(DOCUMENTS, tmp_path)
    return LexicalIndex(tmp_path)
