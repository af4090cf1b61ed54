"""ZESHEL's mention categories (Logeswaran et al. 2019, "Zero-Shot Entity Linking by Reading Entity Descriptions").

category             mention  title             rule
HIGH_OVERLAP         Vask     Vask              mention and title are equal
MULTIPLE_CATEGORIES  Vask     Vask ( ferry )    the title is the mention and a phrase in parentheses
AMBIGUOUS_SUBSTRING  Vask     Orlen Vask        the mention is part of the title
LOW_OVERLAP          guest    Orlen Vask        all others
"""

from __future__ import annotations

import re
from typing import Literal

MentionCategory = Literal["HIGH_OVERLAP", "MULTIPLE_CATEGORIES", "AMBIGUOUS_SUBSTRING", "LOW_OVERLAP"]
_PHRASE = re.compile(r" ?\(.*\)")


def mention_category(mention: str, title: str) -> MentionCategory:
    """Returns the category of a mention of the entity with this title. Ignores case."""
    mention, title = mention.casefold(), title.casefold()
    if mention == title:
        return "HIGH_OVERLAP"
    if title.startswith(mention) and _PHRASE.fullmatch(title, len(mention)):
        return "MULTIPLE_CATEGORIES"
    return "AMBIGUOUS_SUBSTRING" if mention in title else "LOW_OVERLAP"
