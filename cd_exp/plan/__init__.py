"""What a run would download, read, compute and store: `plan=true`. Nothing of it is done, and no folder is made."""

from cd_exp.plan.planning import Plan, planned
from cd_exp.plan.table import show

__all__ = ["Plan", "planned", "show"]
