"""Fetches, unpacks and merges data sets."""
