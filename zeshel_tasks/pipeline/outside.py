"""Identities of everything that stages read besides their inputs: addresses in the settings, and the champion."""

from __future__ import annotations

from zeshel_tasks.champion.champions import Champions, read_champions
from zeshel_tasks.config.biencoder import TrainBiencoderConfig
from zeshel_tasks.config.crossencoder import TrainCrossencoderConfig
from zeshel_tasks.config.data import DownloadConfig
from zeshel_tasks.config.results import CompareConfig, PromoteConfig
from zeshel_tasks.location import located, model_location, store_location
from zeshel_tasks.store import Run
from zeshel_tasks.store.identity import file_identity


def data_sets(config: DownloadConfig, _: Run) -> dict[str, str]:
    """Returns the identities of the archives and folders that ``download`` fetches."""
    from zeshel_tasks.download.sources import identities

    return identities(config)


def biencoder_start(config: TrainBiencoderConfig, run: Run) -> dict[str, str]:
    """Returns the identities of the weights from which the bi-encoder's training starts."""
    return _start(config.bert_model, config.biencoder_weights, run)


def crossencoder_start(config: TrainCrossencoderConfig, run: Run) -> dict[str, str]:
    """Returns the identities of the weights from which the cross-encoder's training starts."""
    return _start(None if config.from_biencoder else config.bert_model, config.crossencoder_weights, run)


def rival(_: CompareConfig, run: Run) -> dict[str, str]:
    """Returns the champion with which the run's model is compared."""
    return _rival(read_champions(run.store), run)


def standing(_: PromoteConfig, run: Run) -> dict[str, str]:
    """Returns the champion that the run's model must beat, and the time at which the model itself was rolled back."""
    champions = read_champions(run.store)
    rolled_back = champions.rolled_back(_folder(run, "train-crossencoder"))
    return _rival(champions, run) | ({} if rolled_back is None else {"rolled_back": rolled_back.at})


def _bert_identity(bert_model: str, run: Run) -> str:
    from zeshel_tasks.download.model_files import model_identity

    return model_identity(located("bert_model", bert_model, model_location), run.store)


def _start(bert_model: str | None, weights: str | None, run: Run) -> dict[str, str]:
    identities = {} if bert_model is None else {"bert_model": _bert_identity(bert_model, run)}
    return identities if weights is None else identities | {"weights": file_identity(store_location(weights))}


def _rival(champions: Champions, run: Run) -> dict[str, str]:
    found = champions.rival_of(_folder(run, "fuse"))
    return {"champion": "none" if found is None else found.identity}


def _folder(run: Run, stage: str) -> str:
    record = run.record(stage)
    assert record is not None  # it is an input
    return record.artifact
