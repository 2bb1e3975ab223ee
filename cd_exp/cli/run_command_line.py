"""What a command line asks for, done: a run, a sweep, or a look at the configuration."""

import json
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.callbacks import Callbacks  # run_job wants them; a user's hydra.callbacks go on working
from hydra._internal.hydra import Hydra  # as `cd_exp.config.compose` makes it
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from cd_exp import distributed
from cd_exp.config.compose import (
    RunRequest,
    check_jobs,
    compose_config,
    make_composer,
    parse_arguments,
    parse_overrides,
    program_name,
    with_file,
)
from cd_exp.config.validate import check_folder, check_values, setting_value
from cd_exp.distributed import is_launched
from cd_exp.errors import InputError
from cd_exp.io.command import print_json
from cd_exp.io.digests import write_digests, write_sweep_digests

if TYPE_CHECKING:
    from cd_exp.experiment import Experiment

FAILED = "error.json"
"""Left in the folder of a failed job, so that a sweep can say which failed and why."""


def run_command_line(words: Sequence[str]) -> None:
    """Do what was typed.

    Raises:
        InputError: whatever the user can mend. Then no folder is new and none changed.
    """
    if words[:1] == ["--resume"]:
        from cd_exp.sweep.multirun import check_code, resume_arguments

        check_code(Path(*words[1:2]), trust="--trust" in words)
        with resume_arguments(Path(*words[1:2])) as again:
            run_command_line(again)
        return
    flags, parser = parse_arguments(words)
    hydra = make_composer(flags)
    name = flags.config_name or "config"
    try:
        if flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion:
            _show_help_or_config(hydra, name, flags, parser)
        elif flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides:
            _run_sweep(hydra, name, flags.overrides)
        else:
            config = compose_config(hydra, name, flags.overrides, RunMode.RUN)
            if config.hydra.mode == RunMode.MULTIRUN:
                _run_sweep(hydra, name, flags.overrides)
            else:
                _run_once(hydra, config, as_json=flags.json)
    except InputError as error:
        raise with_file(error, flags) from error
    finally:
        GlobalHydra.instance().clear()


def _show_help_or_config(hydra: Hydra, name: str, flags: Namespace, parser: ArgumentParser) -> None:
    """Help, or the configuration, which has to compose but may lack settings that a run needs."""
    if flags.help:
        with redirect_stdout(StringIO()) as text:
            hydra.app_help(config_name=name, args_parser=parser, args=flags)
        print(text.getvalue().replace("python run.py", program_name()), end="")
    elif flags.hydra_help:
        hydra.hydra_help(config_name=name, args_parser=parser, args=flags)
    elif flags.shell_completion:
        hydra.shell_completion(config_name=name, overrides=flags.overrides)
    else:
        compose_config(hydra, name, flags.overrides, RunMode.RUN)
        if flags.cfg:
            show = partial(hydra.show_cfg, cfg_type=flags.cfg, package=flags.package, resolve=flags.resolve)
            show(config_name=name, overrides=flags.overrides)
        else:
            hydra.show_info(flags.info, config_name=name, overrides=flags.overrides)


def _run_once(hydra: Hydra, config: DictConfig, *, as_json: bool) -> None:
    """One run: everything is checked and built before its folder is made."""
    check_values(config)
    check_folder("hydra.run.dir", setting_value(config, "hydra.run.dir"))
    invocation = read_run_request()
    if config.plan:
        _show_plan(config, invocation, as_json=as_json)
        return
    if as_json:
        raise InputError(
            "--json goes with plan=true; after a run, python -m cd_exp.report FOLDER --json prints what it holds"
        )
    distributed.set_timeout(config.distributed.timeout_min)
    distributed.join_others()
    parts = _build_experiment(config, invocation)
    folder = Path(config.hydra.run.dir).expanduser()
    if is_launched() or not distributed.is_main():  # the folder is made by the process that leads
        settings = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        _run_or_launch(settings, invocation, parts, folder=folder)
        if distributed.is_main():
            write_digests(folder)
        return
    timed = "${now:" in str(OmegaConf.to_container(config.hydra.run, resolve=False))
    from cd_exp.results.run_folder import open_run_folder  # torch comes with it

    with open_run_folder(folder, setting="hydra.run.dir", timed=timed) as run_path:
        with read_write(config.hydra):
            config.hydra.run.dir, config.hydra.mode = str(run_path), RunMode.RUN
        _run_hydra_job(hydra, config, invocation, parts)
        write_digests(run_path)  # now that Hydra has written the last of `.hydra/` and `run.log`


def _build_experiment(config: DictConfig, invocation: RunRequest) -> "Experiment | None":
    """The experiment; None where other processes do the run, each of which builds and checks it itself."""
    if _launches(config):
        return None
    from cd_exp.experiment import Experiment  # torch comes with it
    from cd_exp.plugins import explain_errors

    with explain_errors(), distributed.first_process_reports():
        return Experiment.build(config, invocation.choices, typed=invocation.overrides)


def _launches(config: DictConfig) -> bool:
    return config.distributed.processes > 1 and distributed.get_rank_and_size()[1] == 1


def _show_plan(config: DictConfig, invocation: RunRequest, *, as_json: bool) -> None:
    """Print what the run would need, instead of the run."""
    from rich.console import Console

    from cd_exp import plan

    run_plan = plan.plan_run(config, invocation.choices)
    if distributed.is_main() and as_json:
        print_json(plan.describe_plan(run_plan))
    elif distributed.is_main():
        plan.show_plan(Console(), run_plan)


def _run_hydra_job(hydra: Hydra, config: DictConfig, invocation: RunRequest, parts: "Experiment | None") -> None:
    """Hydra's own way from a configuration to a job: its callbacks, `.hydra/`, the log."""
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=config.hydra.job.config_name)
    raised: list[Exception] = []

    def task(settings: DictConfig) -> None:
        try:
            _run_or_launch(settings, invocation, parts, folder=Path(HydraConfig.get().runtime.output_dir))
        except Exception as error:
            raised.append(error)
            raise

    done = run_job(task, config, "hydra.run.dir", None, HydraContext(hydra.config_loader, callbacks))
    callbacks.on_run_end(config=config, config_name=config.hydra.job.config_name, job_return=done)
    if raised:
        raise raised[0]


def _run_or_launch(settings: DictConfig, invocation: RunRequest, parts: "Experiment | None", *, folder: Path) -> None:
    if parts is None:
        again = [*_command_line_again(), f"hydra.run.dir={_quote_override(str(folder))}"]
        distributed.launch_processes(settings.distributed.processes, again, command=shlex.join(["python", *sys.argv]))
    else:
        from cd_exp.experiment import run_experiment
        from cd_exp.plugins import explain_errors

        distributed.set_timeout(settings.distributed.timeout_min)
        with explain_errors():
            run_experiment(parts, invocation, folder=folder)
    if distributed.is_main() and not (folder / "labels.csv").is_file():
        raise InputError(f"{folder} has no labels.csv at the end of the run: something removed it; run it again")


def _run_sweep(hydra: Hydra, name: str, overrides: Sequence[str]) -> None:
    """A run for each combination of values; what finished is gathered, however the sweep ends."""
    config = compose_config(hydra, name, [*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    if config.plan:
        raise InputError("plan=true is the plan of one run; leave -m and its several values out")
    if (size := distributed.get_rank_and_size()[1]) > 1:
        raise InputError(
            f"a sweep is started once, and this is one of {size} processes of torchrun or srun; start it alone, with "
            "distributed.processes=N for several processes a job, or with hydra/launcher=slurm "
            "hydra.launcher.tasks_per_node=N"
        )
    _check_search(config)
    check_jobs(hydra, name, config)
    check_folder("hydra.sweep.dir", setting_value(config, "hydra.sweep.dir"))
    timed = "${now:" in str(OmegaConf.to_container(config.hydra.sweep, resolve=False))
    folder = Path(config.hydra.sweep.dir).expanduser()
    from cd_exp.results.run_folder import open_run_folder  # torch comes with it

    with open_run_folder(folder, setting="hydra.sweep.dir", timed=timed) as sweep_path:
        placed = [*overrides, "hydra.mode=MULTIRUN", f"hydra.sweep.dir={_quote_override(str(sweep_path))}"]
        from cd_exp.experiment import defer_pages

        try:
            with defer_pages():
                hydra.multirun(name, run_sweep_job, placed)
        finally:
            from cd_exp.sweep import gather_sweep

            if gather_sweep(sweep_path, draw=config.report.when != "never"):
                write_sweep_digests(sweep_path)


def run_sweep_job(settings: DictConfig) -> float | None:
    """One job of a sweep, in the folder that Hydra made for it; how it fails is left there.

    Returns:
        What a sweeper that searches goes by: `objective` of the job's metrics.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / FAILED).unlink(missing_ok=True)  # left by an earlier job in the same folder
    try:
        check_values(settings)
        invocation = read_run_request()
        parts = _build_experiment(settings, invocation)
        _run_or_launch(settings, invocation, parts, folder=folder)
        if distributed.is_main():
            write_digests(folder)
        return objective(folder)
    except Exception as error:
        about = {
            "error": " ".join(str(error).split()),
            "kind": type(error).__name__,
            "overrides": parse_overrides(HydraConfig.get().overrides.task),
        }
        (folder / FAILED).write_text(json.dumps(about, indent=1))
        raise


def objective(folder: Path) -> float | None:
    """The mean top-1 accuracy of a run's layers of known truth, in %; without one, their mean stability in %."""
    path = folder / "metrics.json"
    layers = json.loads(path.read_text())["layers"].values() if path.is_file() else ()
    for metric, percent in (("top1", 1.0), ("stability_mean", 100.0)):
        values = [layer[metric] * percent for layer in layers if metric in layer]
        if values:
            return float(sum(values) / len(values))
    return None


def _check_search(config: DictConfig) -> None:
    """Refuse a sweeper that searches for the lowest value: a job's is its accuracy."""
    direction = config.hydra.sweeper.get("direction")
    if direction is not None and str(getattr(direction, "name", direction)).lower() != "maximize":
        raise InputError(
            f"hydra.sweeper.direction={getattr(direction, 'name', direction)} would search for the worst labels: the "
            "value of a job is its top-1 accuracy, or without a truth its mean stability; add "
            "hydra.sweeper.direction=maximize"
        )


def read_run_request() -> RunRequest:
    """How this run was asked for, as Hydra has recorded it."""
    hydra_config = HydraConfig.get()
    choices = {group: str(choice) for group, choice in hydra_config.runtime.choices.items()}
    overrides = parse_overrides(hydra_config.overrides.task)
    if hydra_config.mode != RunMode.MULTIRUN:
        return RunRequest(choices, overrides)
    from cd_exp.sweep.multirun import swept_settings  # numpy comes with it, which neither help nor a refusal waits for

    folder = Path(hydra_config.sweep.dir)
    return RunRequest(choices, overrides, swept_settings(folder, overrides), folder.name)


def _command_line_again() -> list[str]:
    """The command line of this run, for its other processes."""
    hydra_config = HydraConfig.get()
    folders = [source.path for source in hydra_config.runtime.config_sources if source.provider == "command-line"]
    config_path = next(source.path for source in hydra_config.runtime.config_sources if source.provider == "main")
    flags = [f"--config-dir={path}" for path in folders]
    flags += [f"--config-path={config_path}", f"--config-name={hydra_config.job.config_name}"]
    parts = ("hydra.mode", "hydra.sweep", "hydra.run.dir", "hydra/launcher", "hydra.launcher", "hydra.callbacks")
    hydras = [text for text in parse_overrides(hydra_config.overrides.hydra) if not text.lstrip("+~").startswith(parts)]
    return [*flags, *hydras, *parse_overrides(hydra_config.overrides.task)]


def _quote_override(text: str) -> str:
    """As a value of the command line that means the text as it stands."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
