"""How a run ends that is told to: Ctrl-C and SIGTERM give one line and status 130 or 143, and no process stays."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

LAUNCHED = "CD_EXP_LAUNCHED"
"""Set in the processes that one run launches: the launcher speaks for them where they are told to end."""
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
PR_SET_PDEATHSIG = 1


class Stopped(BaseException):
    """The run was told to end; no `except Exception` on the way out holds it up."""

    def __init__(self, number: int) -> None:
        name = NAMES.get(signal.Signals(number), signal.Signals(number).name)
        super().__init__(f"stopped by {name}; the same command goes on from the features stored so far")
        self.status = 128 + number


@contextmanager
def heeded() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Stopped` within the block, in the main thread.

    After it all is put away and the process is at its end, which they do not break off: Python's own way out would end
    without a line, or with many.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in NAMES:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        _ignore()


def _stop(number: int, frame: FrameType | None) -> None:
    _ignore()  # a second Ctrl-C does not break off what is put away
    raise Stopped(number)


def _ignore() -> None:
    for number in NAMES:
        signal.signal(number, signal.SIG_IGN)


def launched() -> bool:
    """Whether another process of this run launched this one."""
    return LAUNCHED in os.environ


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent dies, however it dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def in_worker(worker: int) -> None:
    """For a process that decodes images: Ctrl-C is its parent's business, whose death ends it without a word."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if launched():  # the launcher tells the whole group to end, and a parent complains of a worker that goes first
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = _unless_cut_off
    end_with_parent()


def _unless_cut_off(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The thread that hands tensors to the parent has no more to say than that the parent is gone."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
