"""Retrain a zero-shot entity linker: every stage of the BLINK recipe as one command, on any ZESHEL-shaped data set."""

__version__ = "0.4.0"
