"""Measures memory while large files pass through a store."""
