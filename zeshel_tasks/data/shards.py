"""Divides the entities of a large world or knowledge base into shards by a hash of their ids.

Where an entity belongs depends on nothing but its id and the number of shards. An entity that is added or changed
changes one shard.
"""

from __future__ import annotations

import hashlib

MOST_SHARDS = 512
"""Airflow maps a task at most 1,024 times."""
_AT_BOUND = 4


def shard_count(entities: int, bound: int) -> int:
    """Returns the number of shards: 1 up to ``bound`` entities.

    Beyond, it is a power of two with which a shard has at most a quarter of ``bound`` entities on average, as far as
    :data:`MOST_SHARDS` allow. It changes, and with it all shards, only when a knowledge base has doubled.
    """
    if entities <= bound:
        return 1
    wanted = -(-_AT_BOUND * entities // bound)
    return min(MOST_SHARDS, 1 << (wanted - 1).bit_length())


def shard_file(shard: int) -> str:
    """Returns the name of the file with the entities of a shard."""
    return f"documents/{shard:03}.jsonl"


def shard_of(document_id: str, shards: int) -> int:
    """Returns the shard of an entity, from 0.

    It is given by the first bits of the id's BLAKE2b: with twice as many shards, each one is divided into two.
    """
    digest = hashlib.blake2b(document_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") * shards >> 64
