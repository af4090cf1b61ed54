"""How BLINK's zeshel scripts compute, said again on torch and transformers: the comparator of ``bench/stages``.

Nothing here is meant to be fast. Every sequence is padded to its longest, attention is written out, a mention is
handled by itself, results are Python lists or whole tensors in memory. The numbers are those of ``zeshel_tasks``
(``tests/bench`` holds both to each other), so that what differs is the speed and nothing else.

Source: facebookresearch/BLINK with the command lines of its ``examples/zeshel/README.md``. Module names are BLINK's, so
its weights and ours load as they are.
"""
