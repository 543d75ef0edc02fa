"""What to do next: pure functions of a history, tested without processes, threads or a clock.

`next_jobs` serves the search, `fixed_jobs` and `measure_jobs` stages whose trials are known from the start.
All return a `Step`: what to write into the journal, which jobs to start, and whether the stage is over.
"""

from ziggurat.plan.draft import Rules, Step
from ziggurat.plan.fixed import fixed_jobs, measure_jobs
from ziggurat.plan.meter import Limit, Meter
from ziggurat.plan.overrun import lost, overdue, passing, quiet_s
from ziggurat.plan.search import next_jobs

__all__ = [
    "Limit",
    "Meter",
    "Rules",
    "Step",
    "fixed_jobs",
    "lost",
    "measure_jobs",
    "next_jobs",
    "overdue",
    "passing",
    "quiet_s",
]
