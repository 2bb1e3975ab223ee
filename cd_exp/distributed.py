"""More than one process, and how a run ends on a signal.

Shards are split exactly once among the processes of this machine, of torchrun, or of Slurm tasks. Ctrl-C and SIGTERM
give one line and status 130 or 143, and leave no process behind. Importing this costs no torch.
"""

import ctypes
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from cd_exp.errors import EndsWithOther, InputError, Interrupted, KilledProcess

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

LAUNCHED = "CD_EXP_LAUNCHED"
"""Set in the processes that one run launches: on a signal, the launcher reports for them."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1


@contextmanager
def handle_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted` within the block, in the main thread.

    After it all is put away and the process is at its end, which they do not break off: Python's own way out would end
    without a line, or with many.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in SIGNALS:
        signal.signal(number, _raise_interrupted)
    try:
        yield
    finally:
        _ignore_signal()


def _raise_interrupted(number: int, frame: FrameType | None) -> None:
    _ignore_signal()  # a second Ctrl-C does not break off what is put away
    raise Interrupted(number)


def _ignore_signal() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def is_launched() -> bool:
    """Whether another process of this run launched this one."""
    return LAUNCHED in os.environ


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent dies, however it dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def prepare_worker(worker: int) -> None:
    """For a process that decodes images: Ctrl-C is its parent's business, whose death ends it without a word."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if is_launched():  # the launcher tells the whole group to end, and a parent complains of a worker that goes first
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = _ignore_broken_pipe
    end_with_parent()


def _ignore_broken_pipe(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The thread that hands tensors to the parent has no more to say than that the parent is gone."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


Item = TypeVar("Item")

FOLLOWS = 75
"""The exit status of a process that ended only because another one of its run failed."""

CAUSED = (FOLLOWS, -signal.SIGTERM, 128 + signal.SIGTERM)
"""What the launcher's own SIGTERM leaves of the processes beside the one that failed: no cause to name."""

PATIENCE = 2
"""Seconds that a process has to end by itself."""


def get_rank_and_size() -> tuple[int, int]:
    """(rank, number of processes) as torchrun or Slurm set them; (0, 1) in an ordinary run.

    Raises:
        InputError: they were set by hand to what no process of a run can have.
    """
    _adopt_slurm()
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or size is None:  # alone, as some images and schedulers set WORLD_SIZE, it says nothing
        return 0, 1
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise InputError(
            f"RANK={rank} and WORLD_SIZE={size} are set in the environment, and are no rank and number of processes; "
            "unset them, or start the run with torchrun or srun"
        )
    return int(rank), int(size)


def join_others() -> None:
    """Meet the other processes of a run that torchrun or Slurm started, so that none waits for one that has failed."""
    if get_rank_and_size()[1] > 1 and not is_launched():
        _process_state()


def count_local_processes() -> int:
    """Processes of this run on this machine that may use the same processors; Slurm gives each task its own."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if "SLURM_CPUS_PER_TASK" not in os.environ else 1


def is_main() -> bool:
    """Whether this process evaluates, writes and reports; the others only extract features."""
    return get_rank_and_size()[0] == 0


def share_items(items: Sequence[Item]) -> list[Item]:
    """The items of this process: every item goes to exactly one process, without padding."""
    if get_rank_and_size()[1] == 1:
        return list(items)
    with _process_state().split_between_processes(list(items)) as mine:
        return mine


def share_by_size(sizes: Mapping[str, int]) -> list[str]:
    """This process's part of items of different size: each item, the largest first, goes to who has least so far.

    >>> share_by_size({"layer3": 1024, "layer4": 2048})
    ['layer3', 'layer4']
    """
    rank, count = get_rank_and_size()
    loads, owners = [0] * count, {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        owners[name] = loads.index(min(loads))
        loads[owners[name]] += sizes[name]
    return [name for name in sizes if owners[name] == rank]


def gather_from_all(part: Mapping[str, Item]) -> dict[str, Item]:
    """What all processes have, by name, in each of them; ends where one has failed and never comes."""
    if get_rank_and_size()[1] == 1:
        return dict(part)
    from accelerate.utils import gather_object

    _process_state()  # before accelerate's own, which on a machine without GPUs takes each process for the only one
    with _exit_with_others():
        parts = gather_object([dict(part)])
    return {name: value for of_process in parts for name, value in of_process.items()}


def wait_for_all() -> None:
    """Barrier: return when every process has reached this point; exit if one of them has failed."""
    if get_rank_and_size()[1] == 1:
        return
    with _exit_with_others():
        _process_state().wait_for_everyone()


_timeout = timedelta(days=7)


def set_timeout(minutes: float) -> None:
    """How long this process waits for the others of its run: they may have hours of images before them.

    Call it before the first wait.
    """
    global _timeout
    _timeout = timedelta(minutes=minutes)


@contextmanager
def _exit_with_others() -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    except RuntimeError as error:  # the other's connection is closed; the failing process prints its own error
        if time.monotonic() - began >= _timeout.total_seconds():
            rank, minutes = get_rank_and_size()[0], _timeout.total_seconds() / 60
            message = f"process {rank} of this run has waited {minutes:g} minutes for another one, and ends"
            print(f"error: {message}; set distributed.timeout_min higher, or run it again", file=sys.stderr)
            raise EndsWithOther(1) from error
        if not is_launched():  # the launcher shows the error itself
            print("error: another process of this run failed", file=sys.stderr)
        else:
            time.sleep(PATIENCE)  # the process that failed ends first: the launcher takes the first for the cause
        raise EndsWithOther(FOLLOWS) from error


@contextmanager
def first_process_reports() -> Iterator[None]:
    """What all processes of a run refuse alike, the first says: the others end after it, each with its line in its log,
    which is shown where they alone refuse.
    """
    try:
        yield
    except InputError as error:
        if not is_launched() or is_main():
            raise
        time.sleep(PATIENCE)  # the first ends first: the launcher takes the first for the cause
        error.status = FOLLOWS
        raise


def leave_group() -> None:
    """Take the process group down at the end of a run."""
    if get_rank_and_size()[1] > 1:
        _process_state().destroy_process_group()


def local_device(name: str) -> str:
    """The device of this process: `auto` is its own CUDA device where there is one, else the CPU."""
    import torch

    if name != "auto":
        return name
    if not torch.cuda.is_available():
        return "cpu"
    local = int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()
    return f"cuda:{local}"


def launch_processes(processes: int, arguments: Sequence[str], *, command: str) -> None:
    """Run the same command in several processes of this machine, by torch's own launcher.

    The first shows its progress; of the others, only the error of one that fails is shown. A failure ends all.

    Args:
        processes: how many.
        arguments: of `python -m cd_exp.cli.entry`, for each of them.
        command: what a user types to continue after one was killed.

    Raises:
        KilledProcess: a signal ended one of them, as the kernel's does where memory runs out.
        SystemExit: with the status of the first process that failed by itself.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Settings of later torch than 2.8. Ctrl-C and SIGTERM are handled in `signals`, for one process and for several.
    newer: dict[str, Any] = {"signals_to_handle": "SIGHUP", "shutdown_timeout": PATIENCE}
    with tempfile.TemporaryDirectory() as logs, _launch_environment(processes):
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, max_restarts=0, run_id="cd_exp", monitor_interval=0.05,
            rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1",
            logs_specs=DefaultLogsSpecs(logs, redirects=dict.fromkeys(range(1, processes), Std.ALL)),
            **{name: value for name, value in newer.items() if name in LaunchConfig.__dataclass_fields__},
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-m", "cd_exp.cli.entry", *arguments)
        except ChildFailedError as error:
            _fail(error.failures, Path(logs), command)
        except SignalException as error:  # SIGHUP; with torch 2.8 and 2.9 Ctrl-C and SIGTERM too
            raise Interrupted(error.sigval) from None


def _fail(failures: "Mapping[int, ProcessFailure]", logs: Path, command: str) -> None:
    rank, failure = min(failures.items(), key=lambda item: (item[1].exitcode in CAUSED, item[1].timestamp, item[0]))
    if failure.exitcode < 0:
        name = failure.signal_name()
        raise KilledProcess(f"process {rank} of this run was ended by {name}; continue with: {command}") from None
    for log in sorted(logs.glob(f"*/attempt_0/{rank}/stderr.log")):
        sys.stderr.write(log.read_text(errors="replace"))
    sys.exit(failure.exitcode)


@contextmanager
def _launch_environment(processes: int) -> Iterator[None]:
    """The environment that the processes get, and no log of the launcher: what it has to say is our one line."""
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    added = {LAUNCHED: "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    before = {name: os.environ.get(name) for name in added}
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    os.environ.update(added)
    try:
        yield
    finally:
        logging.disable(level)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _adopt_slurm() -> None:
    """The tasks of a Slurm step say who they are in Slurm's words; torch wants RANK, WORLD_SIZE and an address.

    What counts is the step (`srun`, submitit), not the job: a bare python in an allocation of several tasks is one
    process. The address is the first node of the step, the port follows from the job and the step.
    """
    slurm = {name: os.environ.get(f"SLURM_{name}", "") for name in ("STEP_NUM_TASKS", "PROCID", "LOCALID", "JOB_ID")}
    if "RANK" in os.environ or not all(value.isdecimal() for value in slurm.values()):
        return
    if int(slurm["STEP_NUM_TASKS"]) < 2:
        return
    os.environ["RANK"], os.environ["WORLD_SIZE"] = slurm["PROCID"], slurm["STEP_NUM_TASKS"]
    os.environ["LOCAL_RANK"] = slurm["LOCALID"]
    nodes = os.environ.get("SLURM_STEP_NODELIST", "")
    single_node = os.environ.get("SLURM_STEP_NUM_NODES", "1") == "1" or not nodes
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1" if single_node else first_node(nodes))
    step = os.environ.get("SLURM_STEP_ID", "0")
    port = FIRST_PORT + (31 * int(slurm["JOB_ID"]) + int(step if step.isdecimal() else 0)) % PORTS
    os.environ.setdefault("MASTER_PORT", str(port))


FIRST_PORT, PORTS = 20000, 10000
"""Below the ports that systems give to connections (from 32768 on); two steps of a job get two."""


def first_node(nodes: str) -> str:
    """The first host of a list as Slurm writes it.

    >>> first_node("gpu[07-09,12],login"), first_node("r[1-2]n[3,5]"), first_node("a,b")
    ('gpu07', 'r1n3', 'a')
    """
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first.group() if first else nodes)


def _process_state() -> Any:
    import torch
    from accelerate import PartialState

    host, port = (os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT"))
    rank, size = get_rank_and_size()
    if host is None:
        raise InputError(
            f"RANK={rank} and WORLD_SIZE={size} are set in the environment without MASTER_ADDR, where the processes "
            "meet; unset RANK and WORLD_SIZE, or start the run with torchrun or srun"
        )
    try:
        return PartialState(cpu=not torch.cuda.is_available(), timeout=_timeout)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the {size} processes of this run cannot meet at {host}:{port} ({str(error).splitlines()[0][:200]}); set "
            "MASTER_PORT to a free port, the same for all of them"
        ) from error
