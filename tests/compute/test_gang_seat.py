import pytest

from zeshel_tasks.compute.gang_seat import Seat, leads_in, processes_a_node, seat_in
from zeshel_tasks.errors import ConfigError

MASTER = {"MASTER_ADDR": "node-0", "MASTER_PORT": "29500"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", **MASTER}
TRAIN_JOB = {
    "PET_NNODES": "2",
    "PET_NODE_RANK": "1",
    "PET_NPROC_PER_NODE": "gpu",
    "PET_MASTER_ADDR": "job-node-0-0.job",
    "PET_MASTER_PORT": "29400",
}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0", **MASTER}


@pytest.mark.parametrize(
    ("environment", "seat"),
    [
        ({}, None),
        (TORCHRUN, Seat(3, 4, 1, "node-0", 29500)),
        ({**TRAIN_JOB, **TORCHRUN}, Seat(3, 4, 1, "node-0", 29500)),  # torchrun in a TrainJob
        ({"RANK": "1", "WORLD_SIZE": "2", **MASTER}, Seat(1, 2, 0, "node-0", 29500)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        (OPEN_MPI, Seat(2, 4, 0, "node-0", 29500)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", **MASTER}, Seat(1, 2, 1, "node-0", 29500)),
        (TRAIN_JOB, Seat(1, 2, 0, "job-node-0-0.job", 29400, is_node=True)),
        ({**TRAIN_JOB, "PET_NNODES": "1", "PET_NODE_RANK": "0"}, None),
        ({"PET_NNODES": "1"}, None),
    ],
    ids=["none", "torchrun", "both", "job", "one", "ompi", "pmi", "trainjob", "one-node", "defaults"],
)
def test_environment_of_a_launcher_says_which_process_this_is(environment: dict[str, str], seat: Seat | None) -> None:
    assert seat_in(environment) == seat
    assert leads_in(environment) == (seat is None or seat.rank == 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"WORLD_SIZE": ""}, "WORLD_SIZE: expected a number from 1 to 1048576, because RANK is set, got nothing"),
        ({"RANK": ""}, "RANK: expected a number from 0 to 3, because WORLD_SIZE is 4, got nothing"),
        ({"RANK": "4"}, "RANK: expected a number from 0 to 3, because WORLD_SIZE is 4, got '4'"),
        ({"RANK": "-1"}, "RANK: expected a number from 0 to 3, because WORLD_SIZE is 4, got '-1'"),
        ({"RANK": "²"}, "RANK: expected a number from 0 to 3, because WORLD_SIZE is 4, got '²'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE: expected a number from 1 to 1048576, because RANK is set, got '0'"),
        ({"LOCAL_RANK": "9"}, "LOCAL_RANK: expected a number from 0 to 3, got '9'"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: expected the host of the process with rank 0, got nothing"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT: expected a number from 1 to 65535, got 'http'"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT: expected a number from 1 to 65535, got '65536'"),
    ],
)
def test_wrong_environment_is_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        seat_in(TORCHRUN | changes)
    assert str(error.value) == message


def test_elastic_number_of_nodes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"PET_NNODES: expected a number .* got '1:4'"):
        seat_in({**TRAIN_JOB, "PET_NNODES": "1:4"})


@pytest.mark.parametrize(
    ("told", "gpus", "processes"), [(None, 8, 8), ("gpu", 4, 4), ("auto", 0, 1), ("cpu", 0, 1), ("2", 8, 2)]
)
def test_node_starts_a_process_for_each_gpu_unless_told(told: str | None, gpus: int, processes: int) -> None:
    environment = {} if told is None else {"PET_NPROC_PER_NODE": told}
    assert processes_a_node(environment, gpus) == processes


def test_wrong_number_of_processes_is_named() -> None:
    with pytest.raises(ConfigError, match="PET_NPROC_PER_NODE: expected a number from 1 to 1024, got 'all'"):
        processes_a_node({"PET_NPROC_PER_NODE": "all"}, 8)
