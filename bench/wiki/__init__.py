"""Compares imports of wikis with others, and measures them."""
