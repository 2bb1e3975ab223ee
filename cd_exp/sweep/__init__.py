"""A sweep gathered: one table of its jobs, figures, what explains the accuracy, and what the configurations agree on.

    gather(folder)                    # a multirun's; again whenever jobs were added
    python -m cd_exp.sweep DIR        # the same from a shell

Importing this costs no torch, matplotlib, scipy or wandb.
"""

from cd_exp.sweep.gather import gather_sweep, write_sweep_page
from cd_exp.sweep.load import Job, Sweep, read_sweep

__all__ = ["Job", "Sweep", "gather_sweep", "read_sweep", "write_sweep_page"]
