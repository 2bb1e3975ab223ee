"""The time that a process of its own takes, and the memory of this one."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python(*arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process and its children."""
    began = time.perf_counter(), sum(os.times()[2:4])
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - began[0], sum(os.times()[2:4]) - began[1]


def resident(line: str) -> int:
    """Bytes, now (`VmRSS`) or at the peak (`VmHWM`), on Linux; `ru_maxrss` would begin at the peak of the parent."""
    status_line = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith(line))
    return 1024 * int(status_line.split()[1])


def processes_of(session: int) -> list[int]:
    """The processes of a session that are still there and no zombies, on Linux."""
    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:  # ended meanwhile
            continue
        if int(of) == session and state not in "ZX":
            processes.append(int(folder.name))
    return processes
