"""Measures the recipe on one GPU: share of the peak rates, agreement of the numbers, and hours for all of ZESHEL."""
