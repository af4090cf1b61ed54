"""Writes the models of a run in the formats of other programs."""
