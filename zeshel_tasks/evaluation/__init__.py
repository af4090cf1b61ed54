"""Encoding, exact search, re-ranking and metrics."""
