"""The command line: `python run.py` in a checkout, `cd-exp` where installed. It composes, then hands over to main."""

import gc
import json
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cd_exp import config, distributed
from cd_exp.errors import InputError
from cd_exp.invocation import Invocation
from cd_exp.sweep.plan import swept
from cd_exp.sweep.resuming import resumed

MENDABLE = (InputError, HydraException, OmegaConfBaseException)
FAILED = "error.json"
"""Left in the folder of a failed job, so that a sweep can say which failed and why."""


@hydra.main(version_base="1.3", config_path=str(config.directory()), config_name="config")
def job(settings: DictConfig) -> None:
    """One run, in the folder that Hydra made for it."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    for stale in ("metrics.json", FAILED):  # of an earlier job in the same folder
        (folder / stale).unlink(missing_ok=True)
    try:
        if settings.distributed.processes > 1 and distributed.world()[1] == 1:
            overrides = list(HydraConfig.get().overrides.task)
            distributed.launch(settings.distributed.processes, [*overrides, f"hydra.run.dir={folder}"])
            return
        from cd_exp.main import run  # torch comes with it

        run(settings, _invocation(), folder=folder)
    except Exception as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            _record(folder, error)
        elif isinstance(error, MENDABLE):
            _refuse(error)  # here, because Hydra would print a line of its own first
        raise


def main() -> None:
    """Run, and show what a user can mend as one line with exit status 2; everything else keeps its traceback."""
    gc.set_threshold(50_000, 20, 20)  # what imports make stays: going over it at every 700 objects costs a run 0.5 s
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing its own advice
    config.register()
    try:
        if sys.argv[1:2] == ["--resume"]:
            with resumed(Path(*sys.argv[2:3])) as arguments:
                sys.argv[1:] = arguments
                job()
        else:
            job()
    except MENDABLE as error:
        _refuse(error)
    finally:
        for folder in config.SweepFolder.begun:
            from cd_exp.sweep import gather

            gather(folder)


def _invocation() -> Invocation:
    known = HydraConfig.get()
    choices = {group: str(choice) for group, choice in known.runtime.choices.items()}
    overrides = list(known.overrides.task)
    if known.mode != RunMode.MULTIRUN:
        return Invocation(choices, overrides)
    folder = Path(known.sweep.dir)
    return Invocation(choices, overrides, swept(folder, overrides), folder.name)


def _refuse(error: BaseException) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def _record(folder: Path, error: Exception) -> None:
    about = {
        "error": " ".join(str(error).split()),
        "kind": type(error).__name__,
        "overrides": list(HydraConfig.get().overrides.task),
    }
    (folder / FAILED).write_text(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
