"""Compares ingredients of the recipe. Each row of a table has the same base model, data and training time."""
