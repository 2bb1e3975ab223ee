"""More than one process: a launch on this machine, torchrun, or several Slurm tasks; shards are split exactly once."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import IO, Any, TypeVar

from cd_exp import signals

Item = TypeVar("Item")

FOLLOWS = 75
"""The exit status of a process that ended only because another one of its run failed."""

PATIENCE = 2.0
"""Seconds that a process has to end by itself."""


def world() -> tuple[int, int]:
    """(rank, number of processes) as the launcher set them; (0, 1) in an ordinary run."""
    _adopt_slurm()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this process evaluates, writes and reports; the others only extract features."""
    return world()[0] == 0


def share(items: Sequence[Item]) -> list[Item]:
    """The items of this process: every item goes to exactly one process, without padding."""
    if world()[1] == 1:
        return list(items)
    with _state().split_between_processes(list(items)) as mine:
        return mine


def share_by_size(sizes: Mapping[str, int]) -> list[str]:
    """This process's part of items of different size: each item, the largest first, goes to who has least so far.

    >>> share_by_size({"layer3": 1024, "layer4": 2048})
    ['layer3', 'layer4']
    """
    rank, count = world()
    loads, owners = [0] * count, {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        owners[name] = loads.index(min(loads))
        loads[owners[name]] += sizes[name]
    return [name for name in sizes if owners[name] == rank]


def gathered(part: Mapping[str, Item]) -> dict[str, Item]:
    """What all processes have, by name, in each of them; ends where one has failed and never comes."""
    if world()[1] == 1:
        return dict(part)
    from accelerate.utils import gather_object

    with _ending_with_the_others():
        parts = gather_object([dict(part)])
    return {name: value for one in parts for name, value in one.items()}


def wait() -> None:
    """Barrier: return when every process has reached this point; exit if one of them has failed."""
    if world()[1] == 1:
        return
    with _ending_with_the_others():
        _state().wait_for_everyone()


@contextmanager
def _ending_with_the_others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the other's connection is closed; the failing process prints its own error
        if not signals.launched():  # the launcher shows the error itself
            print("error: another process of this run failed", file=sys.stderr)
        raise SystemExit(FOLLOWS) from error


def leave() -> None:
    """Take the process group down at the end of a run."""
    if world()[1] > 1:
        _state().destroy_process_group()


def device(name: str) -> str:
    """The device of this process: `auto` is its own CUDA device where there is one, else the CPU."""
    import torch

    if name != "auto":
        return name
    if not torch.cuda.is_available():
        return "cpu"
    local = int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()
    return f"cuda:{local}"


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run the same command in several processes of this machine.

    The first shows its progress; of the others, only the error of one that fails is shown. A failure ends all.

    Raises:
        SystemExit: with the status of the first process that failed.
    """
    threads = max(1, (os.cpu_count() or 1) // processes)
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    shared[signals.LAUNCHED] = "1"
    with ExitStack() as stack:
        running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        stack.callback(_end, running)
        for rank in range(processes):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            log = stack.enter_context(tempfile.TemporaryFile())
            started = subprocess.Popen(
                [sys.executable, "-m", "cd_exp.cli", *arguments],
                env={"OMP_NUM_THREADS": str(threads), **os.environ, **shared, **ranks},
                stdout=None if rank == 0 else log,
                stderr=None if rank == 0 else log,
                start_new_session=True,  # the terminal's Ctrl-C reaches this process, which then ends those it launched
                preexec_fn=signals.end_with_parent,
            )
            running.append((started, log))
        _wait_for(running)


def _end(running: list[tuple[subprocess.Popen[bytes], IO[bytes]]]) -> None:
    """End the processes and all they started: each is asked first, and puts away what it has, then all are made to."""
    for process, _ in running:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)  # not its decoding workers, of whose end it would complain
    until = time.monotonic() + PATIENCE
    for process, _ in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
    for process, _ in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(running: list[tuple[subprocess.Popen[bytes], IO[bytes]]]) -> None:
    failed: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
    while not failed and any(process.poll() is None for process, _ in running):
        time.sleep(0.05)
        failed = [(process, log) for process, log in running if process.poll() not in (None, 0, FOLLOWS)]
    for process, log in failed:
        log.seek(0)
        sys.stderr.buffer.write(log.read())
        sys.exit(process.returncode)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _adopt_slurm() -> None:
    """Slurm tasks say who they are in their own words; torch wants RANK and WORLD_SIZE."""
    if "RANK" not in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ:
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export()


def _state() -> Any:
    import torch
    from accelerate import PartialState

    # One process may wait hours for the others' shards, or for another job that makes the same features.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
