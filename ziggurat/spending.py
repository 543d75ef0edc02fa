"""What a run spends while it runs: limits in force, what machines cost now, and what no event tells of yet.

It reads clocks, launchers and history, and hands plain numbers to the plan, which decides. What no segment
accounts for goes into the journal as charges: a machine that is held and has nothing to do, or that waited in
vain for more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ziggurat import plan, prices
from ziggurat.answers import waited_s
from ziggurat.budget import Ledger, cost_usd, group, spent_by_stage, stage_limit_usd
from ziggurat.contexts import reserve_usd
from ziggurat.domain import Job, JobKind
from ziggurat.errors import ZigguratError
from ziggurat.events import Body, Charged, Decided
from ziggurat.machines import Machines
from ziggurat.outlook import forecast_usd, later_rounds_usd
from ziggurat.plan import Limit, Meter, Rules, Step
from ziggurat.runs import Interrupted, Run
from ziggurat.sharing import Share

LOOK_S = 0.2
"""Seconds between two looks at running jobs, at least."""
AHEAD_S = 15.0
"""Seconds for which running jobs should always find money of a shared account."""
LONGEST_LAG_S = 30.0
BATCH_S = 10.0
"""Idle seconds of a machine that are charged at a time."""
CLOSING_S = 30.0
"""Seconds that held machines are paid for after the last job: selecting, publishing, writing the report."""
PAID = frozenset({JobKind.TRAIN, JobKind.EVALUATE, JobKind.EXPORT, JobKind.PROFILE})
"""Jobs that machines do; the rest is done beside the controller."""
LEAST_S = 0.05
"""By how much an imagined clock is moved on at least."""


@dataclass
class Held:
    """Machines of one launcher that are paid whether they work or not."""

    since: float
    worked_s: float = 0.0
    charged_s: float = 0.0


class Spending:
    """The money side of an engine."""

    def __init__(self, run: Run, pool: Machines) -> None:
        """Nothing is asked of anybody yet."""
        self._run, self._pool = run, pool
        self._held: dict[str, Held] = {}
        self._looked: float | None = None
        self._lag_s = LEAST_S if pool.clock.virtual else LOOK_S
        self._forecast: tuple[int, float] = (-1, 0.0)
        self._later: tuple[str, int, float] = ("", -1, 0.0)
        self.share = Share.of(run)

    # ---- what machines cost

    def price(self, job: Job, seconds: float) -> float:
        """Cost of some seconds of a job."""
        return cost_usd(seconds, prices.usd_per_hour(self._run.spec, job))

    def stop_s(self, job: Job) -> float:
        """Seconds that a job may be paid for after it was decided to stop it, and before it is looked at."""
        launcher = prices.job_launcher(self._run.spec, job)
        return launcher.stop_s(job, self._run.spec.budget.stop_margin_s) + self._lag_s

    def held(self, job: Job) -> bool:
        """Whether the machine of a job is paid whether it works or not."""
        return prices.job_launcher(self._run.spec, job).charge == "held"

    def meter(self) -> Meter:
        """What machines cost, and what running jobs have taken so far."""
        spec, history = self._run.spec, self._run.history
        rates = self._held_rates()
        idle = sum(seconds * rates[role] / 3600.0 for role, seconds in self._idle().items())
        closing = 0.0 if self._pool.clock.virtual else CLOSING_S * sum(rates.values()) / 3600.0
        return Meter(
            usd_per_hour=partial(prices.usd_per_hour, spec),
            stop_s=self.stop_s,
            elapsed_s={key: self._pool.elapsed(key) for key in history.open_segments},
            held=self.held,
            held_usd_per_hour=sum(rates[role] * self._machines(role) for role in rates),
            unpaid_usd=idle + closing,
        )

    def _machines(self, role: str) -> int:
        return prices.workers_of(self._run.spec, role) or 1

    def _held_rates(self) -> dict[str, float]:
        """Price of an hour of one machine of each launcher whose machines are held now."""
        spec = self._run.spec
        return {
            role: launcher.usd_per_hour
            for role in self._pool.since
            if (launcher := prices.launcher_of(spec, role)).charge == "held"
        }

    # ---- limits

    def rules(self, stage: str, *, reserve: bool) -> Rules:
        """The money part of the rules of a stage, as it is now."""
        return Rules(
            limit_usd=self._run.limit_usd,
            reserve_usd=self._reserve_usd(stage) if reserve else 0.0,
            others=tuple(self._others(stage)),
            meter=self.meter(),
            closed=self._closed(stage),
        )

    def _reserve_usd(self, stage: str) -> float:
        """What is kept from a stage for those behind it."""
        spec, history = self._run.spec, self._run.history
        kept = reserve_usd(spec, history)
        if stage not in spec.searching[:-1]:
            return kept
        if self._later[:2] != (stage, history.ends):  # it takes a while to make
            self._later = (stage, history.ends, later_rounds_usd(spec, history, stage, kept))
        return kept + self._later[2]

    def _others(self, stage: str) -> list[Limit]:
        found = []
        own = self.stage_limit(stage)
        if own is not None:
            spent = spent_by_stage(self._run.history).get(group(stage), 0.0)
            found.append(Limit(own, spent, name=f"budget.stages.{group(stage)}"))
        if self.share is not None:
            found.append(self.share.limit(self._run.history))
        return found

    def stage_limit(self, stage: str) -> float | None:
        """The limit of a stage in force, if it has one of its own."""
        return stage_limit_usd(self._run.spec.budget, self._run.history, stage)

    def in_force(self, stage: str) -> dict[str, Any]:
        """The limits of a stage as facts, by which it is known later whether one has been raised since."""
        own = self.stage_limit(stage)
        facts: dict[str, Any] = {"limit_usd": self._run.limit_usd}
        if own is not None:
            facts["stage_limit_usd"] = own
        if self.share is not None and self.share.refused:
            facts["account"] = self.share.name
        return facts

    def raised(self, stage: str, facts: Mapping[str, Any]) -> bool:
        """Whether there may be money again for a stage that the budget has ended under some limits."""
        if facts.get("limit_usd") != self._run.limit_usd or "account" in facts:
            return True
        return facts.get("stage_limit_usd") != self.stage_limit(stage)

    def _closed(self, stage: str) -> str:
        hours = self._run.spec.budget.limit_hours
        history = self._run.history
        took_s = self._run.clock() - history.started_utc - waited_s(history)
        if hours is not None and took_s > hours * 3600:
            return f"the run has taken longer than budget.limit_hours = {hours:g}"
        stop = self._run.history.decision("budget")
        if stop is None or stop.facts.get("stage") != stage or self.raised(stage, stop.facts):
            return ""
        return stop.reason

    def ledger(self, *, reserve: bool = False) -> Ledger:
        """The account of the run at this moment."""
        run, meter = self._run, self.meter()
        history = run.history
        committed = meter.committed_usd(history.open_segments.values())
        if self._forecast[0] != history.ends:  # it changes with every end, and takes a while to make
            self._forecast = (history.ends, forecast_usd(run.spec, history))
        last = next(reversed(history.segments.values()), None)
        return Ledger(
            spent=history.spent_usd,
            committed=committed,
            reserved=reserve_usd(run.spec, history) if reserve else 0.0,
            limit=run.limit_usd,
            forecast=max(self._forecast[1], committed),
            next=0.0 if last is None else last.forecast_usd + meter.stop_usd(last.job),
        )

    # ---- watching

    def begin(self) -> None:
        """A stage begins: what went before says nothing about how often its jobs are looked at."""
        self._looked = None

    def looked(self) -> None:
        """Running jobs are looked at now; how long ago that was before is added to what stopping takes."""
        now = self._pool.clock.monotonic()
        if self._looked is not None and not self._pool.clock.virtual:
            self._lag_s = min(LONGEST_LAG_S, max(0.9 * self._lag_s, now - self._looked, LOOK_S))
        self._looked = now

    def patience_s(self, rules: Rules) -> float:
        """How long the next look may wait: with an imagined clock, until a limit could come near."""
        return max(LEAST_S, plan.quiet_s(self._run.history, rules)) if self._pool.clock.virtual else LOOK_S

    def funded(self, step: Step) -> Step:
        """A plan, held back while more of the shared account is on its way, or with why there is none.

        Raises:
            Interrupted: The account cannot be asked, and nothing runs any more.
        """
        if step.lacking_usd <= 0 or self.share is None:
            return step
        waits = self.share.ask(self._run, step.lacking_usd)
        if waits and self._pool.clock.virtual:
            self.share.settle()
            waits = self.share.ask(self._run, step.lacking_usd)
        if waits:
            return replace(step, blocked="", done=False)
        if self.share.fault:
            if step.done and not self._run.history.open_segments:
                raise Interrupted(f"the account {self.share.name} cannot be asked: {self.share.fault}")
            return replace(step, done=False)
        return replace(step, blocked=f"{step.blocked}: the account has no more")

    def tend(self, rules: Rules | None = None) -> bool:
        """Look after the share of an account, so that running jobs find more before it is used up.

        Returns:
            Whether something has been granted.
        """
        share, history = self.share, self._run.history
        if share is None:
            return False
        rules = rules or self.rules("", reserve=False)
        running = list(history.open_segments.values())
        near = history.spent_usd + rules.meter.committed_usd(running)
        if not self._pool.clock.virtual:
            return share.tend(self._run, near, AHEAD_S * rules.meter.rate_usd_per_s(running))
        share.tend(self._run, near, LEAST_S * rules.meter.rate_usd_per_s(running))
        share.settle()
        return share.tend(self._run, near, 0.0)

    def close(self, *, leave: bool = False) -> None:
        """Give back what is reserved and not spent."""
        if self.share is not None:
            self.share.close(self._run, leave=leave)

    def stop(self, stage: str, rules: Rules, overdue: list[str]) -> list[Body]:
        """What is written down before jobs are stopped for want of money, or nothing more may start."""
        near = plan.passing(self._run.history, rules)
        if near is None or rules.closed or not (overdue or rules.meter.held_usd_per_hour > 0):
            return []
        why = (
            "a segment outran its forecast" if overdue else "machines are paid though they have nothing to do"
        )
        name = f" for {near.name}" if near.name else ""
        reason = f"{why} and the limit of {near.usd:.4g} USD{name} was near"
        facts = {"stage": stage, **self.in_force(stage), **({"job": overdue[0]} if overdue else {})}
        return [Decided("budget", "stop", seen=self._run.history.length, reason=reason, facts=facts)]

    # ---- what no segment accounts for

    def worked(self, job: Job, seconds: float) -> None:
        """Take note of a job's end: its machine was not idle for so long."""
        role = prices.role_of(self._run.spec, job)
        if (held := self._held.get(role)) is not None:
            held.worked_s += seconds

    def _idle(self) -> dict[str, float]:
        """Seconds that held machines have had nothing to do and are not charged for yet, by role."""
        now, spec = self._pool.clock.monotonic(), self._run.spec
        running: dict[str, float] = {}
        for key, segment in self._run.history.open_segments.items():
            role = prices.role_of(spec, segment.job)
            running[role] = running.get(role, 0.0) + self._pool.elapsed(key)
        found = {}
        for role in self._held_rates():
            since = self._pool.since[role]
            held = self._held.get(role)
            if held is None or held.since != since:
                held = self._held[role] = Held(since)
            paid = (now - since) * self._machines(role)
            found[role] = max(0.0, paid - held.worked_s - running.get(role, 0.0) - held.charged_s)
        return found

    def called(self, job: Job, seconds: float) -> list[Body]:
        """What a job has cost that is no segment, such as trying a device, where a machine did it."""
        if job.kind not in PAID:
            return []
        if self.held(job):
            self.worked(job, seconds)
            return []
        usd = self.price(job, seconds)
        return [Charged("trial", round(seconds, 6), usd, job.stage, job.key)] if usd > 0 else []

    def lasts_s(self, job: Job) -> float:
        """Seconds of a job that is no segment for which the money lasts; infinite where it costs nothing.

        Raises:
            ZigguratError: There is no money for it.
        """
        price = prices.usd_per_hour(self._run.spec, job) / 3600.0
        rules = self.rules(job.stage, reserve=False)
        limits = rules.limits(self._run.history) if job.kind in PAID and price > 0 else []
        free = min((m.free for m in limits if not m.grows), default=float("inf")) - rules.meter.unpaid_usd
        lasts = free / price - self.stop_s(job) if free < float("inf") else free
        if lasts <= 0:
            raise ZigguratError(
                f"{job.kind.value} costs {3600 * price:.4g} USD an hour, of the limit only "
                f"{max(free, 0):.4g} USD are left; raise budget.limit_usd"
            )
        return lasts

    def grace_s(self, job: Job) -> float:
        """Seconds for a job's checkpoint when the run is interrupted: no more than can be paid."""
        spec = self._run.spec
        grace = float(prices.job_launcher(spec, job).grace_s)
        quiet = plan.quiet_s(self._run.history, self.rules(job.stage, reserve=False))
        return min(grace, spec.budget.stop_margin_s + quiet)

    def charges(self, stage: str, *, all_: bool = False) -> list[Body]:
        """What is to be charged now beside segments: idle machines in batches, waiting in vain at once.

        Args:
            stage: The stage that goes on now; empty between stages.
            all_: Charge what is less than a batch, too.
        """
        bodies: list[Body] = []
        rates = self._held_rates()
        for role, seconds in self._idle().items():
            if seconds >= (1e-3 if all_ else BATCH_S * self._machines(role)):
                self._held[role].charged_s += seconds
                bodies.append(Charged("idle", round(seconds, 6), cost_usd(seconds, rates[role]), stage))
        return bodies + self.vain(stage)

    def vain(self, stage: str) -> list[Body]:
        """What machines were paid for beside jobs, since this was asked last."""
        spec = self._run.spec
        found: list[Body] = []
        for role, vain in self._pool.vain():
            launcher = prices.launcher_of(spec, role)
            usd = 0.0 if launcher.charge == "held" else cost_usd(vain.seconds, launcher.usd_per_hour)
            if usd > 0:
                found.append(Charged(vain.reason, round(vain.seconds, 6), usd, stage, vain.job))
        return found
