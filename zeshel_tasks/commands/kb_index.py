"""``zeshel kb index``: an approximate index of a large knowledge base, with which ``zeshel serve`` searches."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from zeshel_tasks.commands.argument_types import count
from zeshel_tasks.commands.link_setup import Linking
from zeshel_tasks.commands.settings_flags import add_settings_of, given_settings
from zeshel_tasks.config.link import LinkConfig
from zeshel_tasks.text.safe_text import one_line

if TYPE_CHECKING:
    from zeshel_tasks.evaluation.candidates import Candidates

_SETTINGS = ("device", "eval_batch_size", "print_interval")
_MENTIONS, _CANDIDATES = 1000, 64
_LEAST = 1_000_000


def add_index_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``kb index``, except ``--store`` and ``--name``."""
    parser.add_argument(
        "--min_entities",
        type=count,
        default=_LEAST,
        metavar="N",
        help=f"refuse a smaller knowledge base, which is searched exactly (default: {_LEAST:,})",
    )
    add_settings_of(parser, LinkConfig, _SETTINGS)


def index(options: argparse.Namespace) -> None:
    """Make the index of a knowledge base for the champion, and publish it if it finds enough.

    Raises:
        ConfigError: there is no champion or knowledge base, it is small, or faiss is not installed.
        DataError: the index does not find enough.
        TryAgain: the knowledge base has changed in the meantime.
    """
    from zeshel_tasks.knowledge_base.head import KnowledgeBase
    from zeshel_tasks.knowledge_base.indexing import check_size, set_index
    from zeshel_tasks.pipeline.contract import scratch_space
    from zeshel_tasks.store import open_store

    check_size(KnowledgeBase.read(open_store(options.store), options.name).head.entities, options.min_entities)
    with scratch_space() as scratch:
        settings = {**dict(given_settings(options)), "mode": "retrieve"}
        linking = Linking(options.store, None, options.name, settings, scratch / "cache", use_own=False)
        named = set_index(linking.store, linking.name, linking.entities, _exact(linking))
    print(one_line(f"{options.name}: indexed; {named.share:.2%} of the candidates of exact search are found"))


def _exact(linking: Linking) -> Candidates:
    """Searches exactly for mentions of some entities: their titles, each with its own text after it."""
    import numpy as np

    from zeshel_tasks.link_files.contexts import mention_of_text

    documents, width = linking.entities.documents, linking.models.evaluation().context_tokens
    chosen = np.unique(np.linspace(0, len(documents) - 1, min(_MENTIONS, len(documents))).astype(np.int64))
    mentions = []
    for position in chosen.tolist():
        found = documents[position]
        mentions.append(mention_of_text(f"{found.title} {found.text[:2000]}", 0, len(found.title), width))
    return linking.linker.exact(mentions, _CANDIDATES)
