"""One run: build, dissect, collect, report, track."""

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cd_exp import distributed, report
from cd_exp.config.compose import Invocation
from cd_exp.io.text import terminal_text
from cd_exp.manifest import commit
from cd_exp.parts import Parts
from cd_exp.results import collected, dissected, publish
from cd_exp.tracking import About, Record


def run(parts: Parts, invocation: Invocation, *, folder: Path) -> None:
    """Do what the parts are for, and leave the results in the run folder.

    Args:
        parts: as `Parts.build` built and checked them.
        invocation: how the run was asked for.
        folder: where the results go.

    Raises:
        InputError: for whatever the user can mend.
    """
    began = time.perf_counter()
    with parts.logger.begin(folder, about(parts, invocation)) if distributed.is_main() else nullcontext() as logged:
        _run(parts, invocation, folder=folder, began=began, logged=logged)
    distributed.leave()


def _run(
    parts: Parts,
    invocation: Invocation,
    *,
    folder: Path,
    began: float,
    logged: Record | None,
) -> None:
    data = dissected(parts)
    if logged is not None:
        outcome = collected(parts, data)
        outcome = replace(outcome, seconds={**outcome.seconds, "total": time.perf_counter() - began})
        publish(parts, data, outcome, invocation, folder=folder)
        where = logged.finish(outcome, folder=folder)
        report.show(Console(), outcome, folder)
        if where:
            Console().print(terminal_text(f"W&B: {where}"), soft_wrap=True)


def about(parts: Parts, invocation: Invocation) -> About:
    """How the tracker files the run: settings, choices and commit, under a name that tells it from others."""
    return About(
        config={**parts.options.settings, "choices": dict(invocation.choices), "commit": commit()},
        name=invocation.name,
        group=invocation.sweep,
        job_type="sweep" if invocation.sweep else "run",
    )
