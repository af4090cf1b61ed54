"""The labels of mentions that have no entity in the knowledge base."""

from __future__ import annotations

NIL_LABELS = frozenset({"--NME--", "-1", "NIL"})
"""AIDA-CoNLL, BLINK, and most others. A label of ``null`` means the same."""


def is_nil(label: object) -> bool:
    """Returns True if an annotation says that the mention has no entity."""
    return label is None or str(label) in NIL_LABELS
