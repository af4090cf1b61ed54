"""Knowledge bases: the user's own entities, encoded once, to which mentions are linked.

head.py       the head of a knowledge base, which names its segments and changes by compare-and-swap
keys.py       which rows of the segments are live
segments.py   makes segments: immutable artifacts of some entities, or of the ids of removed ones
segment_reader.py    reads them
changes.py    build, add, remove, refresh, compact and delete
encoding.py   the bi-encoder and its settings, from the champion or a run
calibrating.py  its own calibration, for the scores of some models
opening.py    assembles the live entities in one local folder
follower.py   follows the changes while the entities are in use
"""
