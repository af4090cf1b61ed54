"""``zeshel make-sample-inputs``: creates sample worlds and a small BERT in a store, to try out a deployment."""

from __future__ import annotations

import logging

from zeshel_tasks.compute.termination import scratch_folder
from zeshel_tasks.demo.sample_worlds import write_sample_worlds
from zeshel_tasks.demo.small_bert import build_small_bert
from zeshel_tasks.store import open_store

log = logging.getLogger(__name__)

ARCHIVE = "sample_worlds.tar.bz2"
MODEL = "small_bert"
LAST_FILE = f"{MODEL}/config.json"


def make_sample_inputs(address: str) -> None:
    """Write sample worlds, and a small BERT with their vocabulary, to ``address`` unless they exist.

    Args:
        address: local directory or ``s3://bucket/prefix``.

    Raises:
        ConfigError, StoreUnavailable: the store refuses, or does not answer.
    """
    store = open_store(address)
    if store.get(LAST_FILE) is not None:
        log.info("sample inputs already exist at %s", address)
        return
    with scratch_folder() as folder:
        write_sample_worlds(folder / ARCHIVE)
        build_small_bert(folder / ARCHIVE, folder / MODEL)
        files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
        # Upload the configuration last: if it is missing, the next call completes an interrupted upload.
        for name in [name for name in files if name != LAST_FILE] + [LAST_FILE]:
            store.upload(files[name], name)
    log.info("download.source=%s/%s  bert_model=%s/%s", address, ARCHIVE, address, MODEL)
