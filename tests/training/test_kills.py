"""A training that is killed several times ends with the same bits as one that was never killed."""

import random
import shutil
import signal
from pathlib import Path

import pytest
from torch.multiprocessing.spawn import ProcessRaisedException

from tests.support.faults import Fault
from tests.support.rounds import NIGHTLY, rounds
from tests.training.conftest import MakeFit
from tests.training.mortal import MOMENTS, Mishap, start, train, train_in_two_processes
from tests.training.results import assert_bit_identical
from zeshel_tasks.errors import TryAgain
from zeshel_tasks.training.fit import Fit

# A checkpoint is being written at nearly every step.
OFTEN = {"checkpoint_minutes": 1e-6}
KILLS = rounds(usual=3, nightly=6)  # one or two at each of the moments
TRAININGS = [("biencoder", 3), ("crossencoder", 1), *([("biencoder", 1), ("crossencoder", 3)] if NIGHTLY else [])]


def steps(task: Fit) -> int:
    """Returns the step of the newest checkpoint."""
    return max((int(path.parent.name) for path in Path(task.store).glob("checkpoints/*/checkpoint.json")), default=0)


@pytest.mark.parametrize(("trainer", "accumulation"), TRAININGS)
def test_repeatedly_killed_training_ends_bit_identical(
    request: pytest.FixtureRequest, trainer: str, accumulation: int, fault: Fault
) -> None:
    make: MakeFit = request.getfixturevalue(f"{trainer}_fit")
    settings = {"gradient_accumulation_steps": accumulation, "eval_interval": 3, **OFTEN}
    undisturbed, killed = make("undisturbed", **settings), make("killed", **settings)
    assert train(undisturbed) == 0
    generator = random.Random(f"{trainer} {accumulation}")
    deaths = 0
    while deaths < KILLS:
        moment = list(MOMENTS)[deaths % len(MOMENTS)]
        mishap = Mishap(moment, generator.randint(1, 5), before=generator.random() < 0.5)
        exit_code = train(killed, mishap)
        assert exit_code in (-signal.SIGKILL, 0), mishap
        if exit_code == 0:
            break  # fewer steps were left
        deaths += 1
        shutil.rmtree(killed.out)  # the next attempt is another pod
        killed.out.mkdir()
    fault("training: killed by SIGKILL", deaths)
    assert deaths >= 3
    assert train(killed) == 0
    assert_bit_identical(killed, undisturbed)


def test_kill_after_the_last_step_repeats_no_step(biencoder_fit: MakeFit, fault: Fault) -> None:
    undisturbed, killed = biencoder_fit("undisturbed"), biencoder_fit("killed")
    assert train(undisturbed) == 0
    assert train(killed) == 0
    fault("training: killed by SIGKILL")  # as if before the artifact was committed: the checkpoints are still there
    killed.result.unlink()
    assert train(killed, Mishap("an optimizer step", 1, before=True)) == 0, "not a single step is done again"
    assert_bit_identical(killed, undisturbed)


def test_still_running_attempt_does_not_disturb_its_retry(biencoder_fit: MakeFit, fault: Fault) -> None:
    undisturbed = biencoder_fit("undisturbed", **OFTEN)
    zombie = biencoder_fit("zombie", **OFTEN)
    retry = Fit(**{**vars(biencoder_fit("retry", **OFTEN)), "store": zombie.store})
    assert train(undisturbed) == 0
    attempts = [start(task) for task in (zombie, retry)]
    fault("training: a zombie beside its retry")
    for attempt in attempts:
        attempt.join(300)
    assert [attempt.exitcode for attempt in attempts] == [0, 0]
    for task in (zombie, retry):
        assert_bit_identical(task, undisturbed)


def test_training_in_two_processes_survives_the_death_of_either(biencoder_fit: MakeFit, fault: Fault) -> None:
    """The checkpoint has the random states of both, so dropout continues where it was."""
    undisturbed, killed = biencoder_fit("undisturbed", **OFTEN), biencoder_fit("killed", **OFTEN)
    train_in_two_processes(undisturbed)
    for mishap in (Mishap("an optimizer step", 4, rank=1), Mishap("an optimizer step", 5, rank=0)):
        with pytest.raises((TryAgain, ProcessRaisedException)):
            train_in_two_processes(killed, mishap)
        fault("training: one process of two is killed")
    assert steps(killed) > 0
    train_in_two_processes(killed)
    assert_bit_identical(killed, undisturbed)
