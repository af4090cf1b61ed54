"""Joins the gang that the environment describes: checks the settings, connects, and ends together with the others."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from zeshel_tasks.compute.gang import ALONE, Gang
from zeshel_tasks.compute.gang_failure import lost_contact_named
from zeshel_tasks.compute.gang_messages import ConnectedGang
from zeshel_tasks.compute.gang_seat import Seat, seat_in
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.config.stage_config import StageConfig
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.logs import name_process

log = logging.getLogger(__name__)


@contextmanager
def joined_gang(config: StageConfig, *, trains: bool) -> Iterator[Gang]:
    """The gang that the environment describes, from before the first work of a stage to its end.

    Args:
        config: settings of the stage.
        trains: True for a stage that may run in several processes.

    Raises:
        ConfigError: the environment is wrong, or the settings do not suit it.
        TryAgain: another process does not come, is lost or asks for another attempt.
        ZeshelError: another process failed.
    """
    seat = seat_in(os.environ)
    if seat is None:
        yield ALONE
        return
    if not trains:
        raise ConfigError(f"WORLD_SIZE: expected 1 for a stage that does not train, got {seat.size}")
    assert isinstance(config, EncoderConfig)
    _check_settings(config, seat)
    name_process(f"rank {seat.rank} of {seat.size}", progress=seat.rank == 0)
    if not seat.is_node:
        os.environ.update(seat.variables())
    with connected_gang(seat, config.stall_minutes) as gang:
        yield gang


@contextmanager
def connected_gang(seat: Seat, minutes: float) -> Iterator[Gang]:
    """The gang of this process, connected. An error inside ends all of its processes, with one exit code.

    Args:
        seat: the place of this process.
        minutes: time that another process may be silent.
    """
    gang = ConnectedGang(seat, minutes)
    try:
        with lost_contact_named():
            gang.greet()
            yield gang
            gang.part()
    except BaseException as error:
        first = gang.fail(error)
        if first is None:
            raise
        log.info("this process ended by %s", error)
        raise first from error
    finally:
        gang.close()


def check_batch(config: EncoderConfig, processes: int) -> None:
    """Checks that each process has a mention of each step.

    Raises:
        ConfigError: there are more processes than mentions in a step.
    """
    if processes > config.train_batch_size:
        raise ConfigError(
            f"train_batch_size: expected at least {processes}, a mention of each step for every process, got "
            f"{config.train_batch_size}"
        )


def _check_settings(config: EncoderConfig, seat: Seat) -> None:
    if not config.data_parallel:
        raise ConfigError(f"data_parallel: expected true for a training in {seat.size} processes, got false")
    if ":" in config.device:
        raise ConfigError(
            f"device: expected auto, cuda or cpu for a training in {seat.size} processes, which each have a GPU of "
            f"their own, got {config.device}"
        )
    check_batch(config, seat.size)
