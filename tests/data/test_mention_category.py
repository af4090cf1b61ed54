"""ZESHEL's mention categories."""

import pytest

from zeshel_tasks.data.mention_category import mention_category


@pytest.mark.parametrize(
    ("mention", "title", "category"),
    [
        ("Vask", "Vask", "HIGH_OVERLAP"),
        ("vask", "VASK", "HIGH_OVERLAP"),
        ("Vask ( ferry )", "Vask ( ferry )", "HIGH_OVERLAP"),
        ("vask", "Vask ( ferry )", "MULTIPLE_CATEGORIES"),
        ("Vask", "Vask (ferry)", "MULTIPLE_CATEGORIES"),
        ("Vask", "Vask ( ferry ) bay", "AMBIGUOUS_SUBSTRING"),
        ("Vask", "Orlen Vask ( smith )", "AMBIGUOUS_SUBSTRING"),
        ("Vask", "Orlen Vask", "AMBIGUOUS_SUBSTRING"),
        ("a.c", "abc ( ferry )", "LOW_OVERLAP"),
        ("Proud Guest", "Orlen Vask", "LOW_OVERLAP"),
    ],
)
def test_category_follows_from_mention_and_title(mention: str, title: str, category: str) -> None:
    assert mention_category(mention, title) == category
