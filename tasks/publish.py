"""Tables for the Prefect pages: the front, and the stages with what they cost."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from tasks import session
from ziggurat.report import summarize

NAME = "ziggurat"


@task(name="publish tables", cache_policy=NO_CACHE)
def publish_tables(run_dir: str) -> None:
    """Publish the front as a table and the outcome as text."""
    here = session.of(run_dir)
    goals = here.run.spec.goals()
    summary = summarize(goals, here.run.history, workers=here.run.spec.search.workers)
    rows = [
        {"trial": row.trial, **{k: f"{row.metrics[k]:.5g}" for k in (o.metric for o in goals)},
         **{k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in row.candidate.choices.items()}}
        for row in summary.front
    ]  # fmt: skip
    create_table_artifact(key=f"{NAME}-front", table=rows, description=f"Front of {summary.run_id}")
    counts = summary.counts
    create_markdown_artifact(
        key=f"{NAME}-outcome",
        markdown=(
            f"**{summary.run_id}**: {counts.total} trials, {counts.completed} at the top rung, "
            f"{counts.stopped} stopped early, {counts.failed} failed. "
            f"Hypervolume {summary.hypervolume:.5g}, cost {summary.cost_usd:.4g} USD.\n\n"
            f"Report: `{here.run.folder}/report/index.html`"
        ),
    )
    get_run_logger().info("%d points on the front", len(rows))
