"""Two hosts on one machine: network namespaces with a cable between them. They share the file system, as by a store."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from uuid import uuid4

from torch.distributed.run import main as torchrun

from tests.support.fork_server import fork_server
from zeshel_tasks import cli

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_CABLE = "cable"
PORT = "29500"


class Hosts:
    """Two hosts, 0 and 1.

    Args:
        name: prefix of their namespaces.
    """

    def __init__(self, name: str) -> None:
        self.names = [f"{name}{number}" for number in range(2)]
        self.addresses = ["10.213.7.1", "10.213.7.2"]

    def cut(self) -> None:
        """Cuts the cable: what one sends never arrives, and no connection is reset."""
        _ip("-n", self.names[1], "link", "set", _CABLE, "down")

    def mend(self) -> None:
        _ip("-n", self.names[1], "link", "set", _CABLE, "up")

    def start(
        self,
        host: int,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        step_file: Path | None = None,
    ) -> BaseProcess:
        """Starts ``zeshel`` on a host, with its output in a file.

        Args:
            host: 0 or 1.
            arguments: of ``zeshel``, or "torchrun" and its arguments.
            environment: further variables.
            log: the file.
            step_file: becomes longer by a byte after each optimizer step.
        """
        variables = {"GLOO_SOCKET_IFNAME": _CABLE, "OMP_NUM_THREADS": "1", **environment}
        started = fork_server().Process(target=_run, args=(self.names[host], arguments, variables, log, step_file))
        started.start()
        return started

    def variables(self, host: int) -> dict[str, str]:
        """Returns what a launcher tells the one process of a host."""
        return {"RANK": str(host), "WORLD_SIZE": "2", "MASTER_ADDR": self.addresses[0], "MASTER_PORT": PORT}

    def torchrun(self, host: int) -> list[str]:
        """Returns the beginning of a command that starts one process on a host, as torchrun does."""
        place = [f"--node-rank={host}", f"--master-addr={self.addresses[0]}", f"--master-port={PORT}"]
        return ["torchrun", "--nnodes=2", "--nproc-per-node=1", *place, "--module", "--", "zeshel_tasks"]

    def train_job(self, host: int) -> dict[str, str]:
        """Returns what Kubeflow's TrainJob tells a host."""
        return {
            "PET_NNODES": "2",
            "PET_NODE_RANK": str(host),
            "PET_NPROC_PER_NODE": "1",
            "PET_MASTER_ADDR": self.addresses[0],
            "PET_MASTER_PORT": PORT,
        }


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Two hosts, until the end of the context. Only root can make them."""
    hosts = Hosts(f"z{uuid4().hex[:8]}-")
    try:
        for name in hosts.names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip(
            "-n", hosts.names[0], "link", "add", _CABLE, "type", "veth", "peer", "name", _CABLE, "netns", hosts.names[1]
        )
        for name, address in zip(hosts.names, hosts.addresses, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", _CABLE)
            _ip("-n", name, "link", "set", _CABLE, "up")
        yield hosts
    finally:
        for name in hosts.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def can_make_hosts() -> bool:
    """True if this process may make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"z{uuid4().hex[:8]}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode != 0:
        return False
    _ip("netns", "delete", name)
    return True


def wait_for_steps(step_file: Path, steps: int, process: BaseProcess) -> None:
    """Waits until a training has done a number of steps."""
    while not step_file.exists() or step_file.stat().st_size < steps:
        assert process.is_alive(), "ended before"
        time.sleep(0.02)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _run(host: str, arguments: Sequence[str], variables: Mapping[str, str], log: Path, step_file: Path | None) -> None:
    _move_to(host)
    os.environ.update(variables)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    if step_file is not None:
        _count_steps(step_file)
    if arguments[0] == "torchrun":
        torchrun(list(arguments[1:]))
        os._exit(0)
    os._exit(cli.main(list(arguments)))


def _move_to(host: str) -> None:
    with Path(f"/run/netns/{host}").open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), f"cannot enter {host}")


def _count_steps(step_file: Path) -> None:
    from zeshel_tasks.training import loop

    train_step = loop.Trainer._train_step

    def counted(self: loop.Trainer, rows: object) -> None:
        train_step(self, rows)  # type: ignore[arg-type]
        with step_file.open("ab") as file:
            file.write(b".")

    loop.Trainer._train_step = counted  # type: ignore[method-assign]
