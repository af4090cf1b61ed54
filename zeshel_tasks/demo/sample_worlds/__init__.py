"""Sample worlds: a made-up data set in ZESHEL's format, for demos and tests without the real one."""

from zeshel_tasks.demo.sample_worlds.writer import write_sample_worlds

__all__ = ["write_sample_worlds"]
