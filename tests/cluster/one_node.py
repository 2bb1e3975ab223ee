"""A Slurm of one node on this machine, for tests: Debian's slurm-wlm and munge, begun as root, ended with the test."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun")

CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
SlurmctldPort={controller}
SlurmdPort={daemon}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


def missing() -> str:
    """Why no Slurm can be started here; empty where one can."""
    if os.geteuid() != 0:
        return "a one-node Slurm is started as root"
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (Debian: slurm-wlm munge)" if lacking else ""


@contextmanager
def one_node(root: Path) -> Iterator[None]:
    """Start munge and Slurm below `root`, and point SLURM_CONF there while the context lasts."""
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (root / name).mkdir(parents=True)
    root.chmod(0o755)
    key = root / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    ports = {"controller": _free_port(), "daemon": _free_port()}
    (root / "slurm.conf").write_text(CONF.format(host=host, root=root, cpus=os.cpu_count(), **ports))
    munge = [f"--socket={root}/munge.socket", f"--key-file={key}", f"--pid-file={root}/munged.pid"]
    munge += [f"--seed-file={root}/munged.seed", f"--log-file={root}/munged.log"]
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(root / "slurm.conf")
    with ExitStack() as running:
        try:
            _start(running, ["munged", "--force", "--foreground", *munge], root)
            _until(lambda: (root / "munge.socket").exists(), "munge", root)
            _start(running, ["slurmctld", "-D", "-i"], root)
            _start(running, ["slurmd", "-D", "-N", host], root)
            _until(_idle, "the node", root)
            yield
        finally:
            os.environ.pop("SLURM_CONF")
            if before is not None:
                os.environ["SLURM_CONF"] = before


def _start(running: ExitStack, command: list[str], root: Path) -> None:
    log = running.enter_context((root / f"{command[0]}.out").open("w"))
    process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    running.callback(stop)


def _idle() -> bool:
    shown = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False)
    return shown.stdout.strip() in ("idle", "mixed", "allocated")


def _until(ready, what: str, root: Path, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > ends:
            logs = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-800:]}" for path in root.glob("*.*"))
            raise RuntimeError(f"{what} of the one-node Slurm did not come up in {seconds:.0f} s\n{logs}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
