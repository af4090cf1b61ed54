"""Encoding, exact search, re-ranking, and the field's measures."""
