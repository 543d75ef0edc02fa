"""The list of rules of alerts: each is a setting whose fields are its YAML and whose method finds what is so.

A new rule is a class beside the others and a line here.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from ziggurat.listeners.alert_rules_course import (
    ApprovalWanted,
    ControllerCrashed,
    RunFailed,
    RunFinishedRule,
    StageFailedRule,
    StageFinishedRule,
)
from ziggurat.listeners.alert_rules_machines import (
    IdleWorkers,
    LowUtilisation,
    QueuedJob,
    SlowTrial,
    StoreDown,
    TrackingDown,
    UnknownUtilisation,
)
from ziggurat.listeners.alert_rules_money import BudgetStop, BudgetWarning, OverBudget
from ziggurat.listeners.alert_rules_search import (
    GateStopped,
    LowDiversity,
    ManyFailures,
    NoImprovement,
    WeakProxy,
)
from ziggurat.listeners.alert_shapes import Lasting, Rule
from ziggurat.setting import Setting

AnyRule = (
    ControllerCrashed | OverBudget | BudgetWarning | BudgetStop | NoImprovement | LowDiversity | ManyFailures
    | WeakProxy | GateStopped | SlowTrial | QueuedJob | LowUtilisation | UnknownUtilisation | IdleWorkers
    | StoreDown | TrackingDown | ApprovalWanted | StageFailedRule | StageFinishedRule | RunFailed
    | RunFinishedRule
)  # fmt: skip


class Rules(Setting):
    """What is worth an alert."""

    controller_crashed: ControllerCrashed = Field(default_factory=ControllerCrashed)
    over_budget: OverBudget = Field(default_factory=OverBudget)
    budget_warning: BudgetWarning = Field(default_factory=BudgetWarning)
    budget_stop: BudgetStop = Field(default_factory=BudgetStop)
    no_improvement: NoImprovement = Field(default_factory=NoImprovement)
    low_diversity: LowDiversity = Field(default_factory=LowDiversity)
    many_failures: ManyFailures = Field(default_factory=ManyFailures)
    weak_proxy: WeakProxy = Field(default_factory=WeakProxy)
    gate_stopped: GateStopped = Field(default_factory=GateStopped)
    slow_trial: SlowTrial = Field(default_factory=SlowTrial)
    queued_job: QueuedJob = Field(default_factory=QueuedJob)
    low_utilisation: LowUtilisation = Field(default_factory=LowUtilisation)
    unknown_utilisation: UnknownUtilisation = Field(default_factory=UnknownUtilisation)
    idle_workers: IdleWorkers = Field(default_factory=IdleWorkers)
    store_down: StoreDown = Field(default_factory=StoreDown)
    tracking_down: TrackingDown = Field(default_factory=TrackingDown)
    approval_wanted: ApprovalWanted = Field(default_factory=ApprovalWanted)
    stage_failed: StageFailedRule = Field(default_factory=StageFailedRule)
    stage_finished: StageFinishedRule = Field(default_factory=StageFinishedRule)
    run_failed: RunFailed = Field(default_factory=RunFailed)
    run_finished: RunFinishedRule = Field(default_factory=RunFinishedRule)

    def each(self) -> Iterator[tuple[str, AnyRule]]:
        """All rules by name."""
        for name in type(self).model_fields:
            yield name, getattr(self, name)


OVER = {
    "over_budget": "The limit or the plan was raised.",
    "budget_warning": "There is enough again.",
    "budget_stop": "The budget was raised; the run can go on.",
    "no_improvement": "The front has grown, or the search is over.",
    "low_diversity": "Candidates differ more again, or the search is over.",
    "many_failures": "Trials come through again, or the run is over.",
    "slow_trial": "Its segment has ended.",
    "queued_job": "No job waits that long any more.",
    "low_utilisation": "They are busy again, or nothing is trained any more.",
    "idle_workers": "They are busy again, or the search is over.",
    "store_down": "It can be written again.",
    "tracking_down": "It has taken what was missing.",
    "approval_wanted": "It has been answered, or its time is over.",
}
"""What is said when what a rule raised is over."""

__all__ = ["OVER", "AnyRule", "Lasting", "Rule", "Rules"]
