"""Measures retrieval with growing numbers of entities and mentions."""
