from pathlib import Path

import numpy as np

from tests.linking.mentions import blink_mention
from zeshel_tasks.linking.mention_texts import MentionText, MentionTexts, mention_text


def test_the_context_has_the_words_next_to_the_mention() -> None:
    found = mention_text(blink_mention("a b c", "Red Five", "d e f"), 2)
    assert found == MentionText("Red Five", "b c d e", "page")
    assert mention_text(blink_mention("", "Red Five", "d"), 2).context == " d"


def test_texts_are_read_by_row(tmp_path: Path) -> None:
    texts = [MentionText(f"é\n{n}" * n, "\u2028", "p") for n in range(5)]
    stored = MentionTexts(tmp_path / "texts", iter(texts))
    assert len(stored) == 5
    assert stored.of(np.array([4, 0, 4])) == [texts[4], texts[0], texts[4]]
