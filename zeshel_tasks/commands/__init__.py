"""Subcommands besides the single stages, and their arguments."""
