"""Measures how work in shards scales with processes that stand in for pods."""
