"""The budget guard: says before each stage what has been spent, what is expected and what is left."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks import session
from ziggurat.budget import ledger


@task(name="guard the budget", cache_policy=NO_CACHE)
def guard_budget(run_dir: str, stage: str) -> dict[str, float | None]:
    """Raise the alerts that are due and return the account; admission itself is the plan's."""
    here = session.of(run_dir)
    here.raise_alerts()
    account = ledger(here.run.history, here.run.limit_usd)
    left = (
        "no limit"
        if account.limit is None
        else f"{max(account.free, 0.0):.4g} of {account.limit:.4g} USD left"
    )
    get_run_logger().info("before %s: %.4g USD spent, %s", stage, account.spent, left)
    return {"spent_usd": account.spent, "limit_usd": account.limit}
