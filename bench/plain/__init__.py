"""A plain implementation of BLINK's zeshel scripts with torch and transformers: the comparator of ``bench/stages``.

Nothing here is meant to be fast. Every sequence is padded to the maximum length, attention is written out, mentions are
processed one by one, and results are Python lists or whole tensors in memory. The numbers are the same as those of
``zeshel_tasks`` (``tests/bench`` compares them), so only the speed differs.

Source: facebookresearch/BLINK with the command lines of its ``examples/zeshel/README.md``. Module names are BLINK's, so
its weights and ours load unchanged.
"""
