"""``python -m bench.serve``: speed and memory of the service."""
