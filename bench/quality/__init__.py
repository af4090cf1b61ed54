"""Compares retrievers and linkers on the same mentions, with intervals. ``docs/quality.md`` holds its tables."""
