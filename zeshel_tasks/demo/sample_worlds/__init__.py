"""Sample worlds: a generated data set in ZESHEL's format, for demos and tests."""

from zeshel_tasks.demo.sample_worlds.writer import write_sample_worlds

__all__ = ["write_sample_worlds"]
