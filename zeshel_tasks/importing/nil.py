"""The labels of mentions that have no entity in the knowledge base."""

from __future__ import annotations

NIL_LABELS = frozenset({"--NME--", "-1", "NIL", "NIL_otherLink", "NIL_ambiguous"})
"""Of AIDA-CoNLL, BLINK, most others, and spaCy's recipe for Prodigy. A label of ``null`` means the same."""


def is_nil(label: str | None) -> bool:
    """Returns True if an annotation says that the mention has no entity."""
    return label is None or label in NIL_LABELS
