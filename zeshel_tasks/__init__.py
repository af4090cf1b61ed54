"""Retrain a zero-shot entity linker: every stage of the BLINK recipe as one command, on any ZESHEL-shaped data set."""

__version__ = "0.4.0"

RESULTS_VERSION = f"{__version__.rpartition('.')[0]}.0"
"""The version in each fingerprint. A patch keeps the results of its minor version, so their artifacts are reused."""
