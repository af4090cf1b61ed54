"""Retrieval as entities and mentions grow."""
