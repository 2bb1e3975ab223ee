"""What a run would download, read, compute and store: `plan=true`. Nothing of it is done, and no folder is made."""

from cd_exp.plan.planning import RunPlan, describe_plan, plan_run, show_plan

__all__ = ["RunPlan", "describe_plan", "plan_run", "show_plan"]
