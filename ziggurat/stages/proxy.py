"""Does a cheap setting rank candidates as the top rung does, and which is the cheapest that does?

A few candidates climb the ladder to the top. Then every setting listed in `validate.proxies` is held against
the top rung, the cheapest first, and the first that has proved itself takes the place of the lowest rung: the
lower end of the interval of its Kendall's tau reaches the gate. The spec's own lowest rung need not prove
itself: it is refused only if the upper end of its interval lies below the gate.

Settings that are a beginning of what the candidates have been through anyway cost nothing: their values stand
in the curves. Others are trained, with the seed of the same candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ziggurat import proxies
from ziggurat.budget import cost_usd
from ziggurat.contexts import rates_of, rng_for, seed_for
from ziggurat.domain import Fidelity, Trial, TrialStatus
from ziggurat.engine import Engine
from ziggurat.estimate import estimate
from ziggurat.events import Decided
from ziggurat.plan import Step
from ziggurat.segments import climb
from ziggurat.stages import common, verdicts
from ziggurat.stages.agreement import tau_interval
from ziggurat.stages.probing import hopeless, tolerant
from ziggurat.stages.proxy_words import Agreement, explained, rounded
from ziggurat.stages.subset import STAGE

PROXY = "proxy"
FEWEST = 3
NAN = math.nan


def compare(engine: Engine) -> tuple[Step, dict[str, Any]]:
    """Compare cheap settings with the top rung, and journal the gate's verdict and the choice.

    Returns:
        The last step of the trainings, and facts for the stage's summary.
    """
    ladder = engine.run.spec.ladder()
    if not engine.run.spec.validation.proxy or len(ladder) == 1:
        return Step(done=True), {}
    count = _climbers(engine)
    step = _climb(engine, count) if count >= FEWEST else Step(done=True)
    if engine.run.history.decision("gate") is not None:
        return step, {}
    return _Comparison(engine, count, step).judged()


def _affordable(engine: Engine) -> int:
    """How many candidates may be compared within the share of the budget set aside for it."""
    spec, history = engine.run.spec, engine.run.history
    work = climb(spec.ladder(), resumable=spec.resumable) + proxies.compared(spec)
    took = rates_of(spec, history).seconds(work, len(spec.fidelities))
    each = cost_usd(took, spec.launcher.usd_per_hour)
    if engine.run.limit_usd is not None and each > 0:
        budget = engine.run.limit_usd * spec.validation.max_share
        return min(spec.validation.candidates, int(budget / each))
    seconds = sum(row.seconds for row in estimate(spec, history) if row.stage != STAGE)
    share = spec.validation.max_share * seconds / max(took, 1e-9)
    return min(spec.validation.candidates, max(FEWEST, int(share)))


def _climbers(engine: Engine) -> int:
    """How many candidates climb the whole ladder; decided once and replayed afterwards."""
    history = engine.run.history
    decided = history.decision("climbers")
    if decided is None:
        count = _affordable(engine)
        reason = f"{count} candidates fit into the proxy's share of the budget"
        engine.run.record([Decided("climbers", str(count), seen=history.length, reason=reason)])
        return count
    return int(decided.verdict)


def _climb(engine: Engine, count: int) -> Step:
    """Take candidates from the lowest rung to the top."""
    probes: dict[str, Trial] = {}
    for trial in engine.run.history.of_stage(STAGE):
        if trial.status is TrialStatus.COMPLETED:
            probes.setdefault(trial.candidate.key, trial)
    chosen = list(probes.values())[:count]
    seeds = [seed_for(engine.run.spec, PROXY, index) for index in range(len(chosen))]
    return _train(engine, chosen, seeds, engine.run.spec.ladder(), 0)


def _train(
    engine: Engine, trials: Sequence[Trial], seeds: Sequence[int], ladder: tuple[Fidelity, ...], first: int
) -> Step:
    """Train candidates of some trials; those with an index beyond the climbers' only to their lowest rung."""
    count = _climbers(engine)
    common.propose(
        engine,
        (
            common.proposed(
                engine.run.history,
                PROXY,
                first + index,
                trial.candidate,
                offset=index,
                seed=seed,
                ladder=ladder,
                static=common.static_of(trial),
                origin="probe",
            )
            for index, (trial, seed) in enumerate(zip(trials, seeds, strict=True))
        ),
    )
    return engine.drive(tolerant(PROXY, lambda t: t.index >= count), PROXY, reserve=True)


class _Comparison:
    """One comparison of settings, on candidates that have climbed to the top."""

    def __init__(self, engine: Engine, count: int, step: Step) -> None:
        self.engine, self.count, self.step = engine, count, step
        self.spec = engine.run.spec
        self.learned = self.spec.learned()
        climbed = engine.run.history.of_stage(PROXY)[:count]
        self.done = [t for t in climbed if t.rung == t.top_rung]
        self.tried: list[str] = []

    def judged(self) -> tuple[Step, dict[str, Any]]:
        """Write the gate's verdict and the choice into the journal."""
        run = self.engine.run
        if reason := hopeless(self.engine, PROXY):
            verdicts.record(self.engine, "gate", verdicts.STOP, reason, {})
            return self.step, {}
        if len(self.done) < FEWEST:
            reason = (
                "the proxy was not checked: fewer than 3 candidates reached the top rung "
                "within its share of the budget"
            )
            run.record([Decided("proxy", "unchecked", seen=run.history.length, reason=reason)])
            return self.step, {}
        setting, found = self._choose()
        self._tell(setting, found)
        shown = {k: v for k, v in vars(found).items() if not (isinstance(v, float) and math.isnan(v))}
        return self.step, shown

    def _choose(self) -> tuple[Fidelity, Agreement]:
        """The setting to begin with: the cheapest that proves itself, else the spec's own."""
        gate, lowest = self.spec.validation.gate_tau, self.spec.ladder()[0]
        settings = proxies.listed(self.spec)
        cheaper = [f for f in settings if proxies.cost(f) < proxies.cost(lowest)]
        for setting in cheaper:
            found = self._tried(setting)
            if found is not None and found.proves(gate):
                return setting, found
        own = self._against_top(self._losses([t.value(self.learned.metric, 0) for t in self.done]), 0)
        self.tried.append(f"{proxies.words(lowest)}, the lowest rung: {own.text}")
        if own.refutes(gate):
            for setting in (f for f in settings if f not in cheaper):
                found = self._tried(setting)
                if found is not None and found.proves(gate):
                    return setting, found
        return lowest, own

    def _tried(self, setting: Fidelity) -> Agreement | None:
        """How a listed setting ranks; None where it fails or the money for it has run out."""
        values = self._measured(setting)
        if values is None:
            self.tried.append(f"{proxies.words(setting)}: not tried ({self.step.blocked})")
            return None
        number = 1 + proxies.listed(self.spec).index(setting)
        found = self._against_top(self._losses(values), number)
        if missing := len(self.done) - found.candidates:
            self.tried.append(f"{proxies.words(setting)}: fails for {missing} of {len(self.done)} candidates")
            return None
        self.tried.append(f"{proxies.words(setting)}: {found.text}")
        return found

    def _losses(self, values: Sequence[float]) -> list[float]:
        return [self.learned.loss(v) for v in values]

    def _against_top(self, losses: Sequence[float], number: int) -> Agreement:
        top = [self.learned.loss(t.value(self.learned.metric)) for t in self.done]
        return self._agreement(losses, top, number)

    def _agreement(self, first: Sequence[float], second: Sequence[float], number: int) -> Agreement:
        pairs = [(a, b) for a, b in zip(first, second, strict=True) if math.isfinite(a) and math.isfinite(b)]
        if len(pairs) < FEWEST:
            return Agreement(NAN, -1.0, 1.0, len(pairs))
        rng = rng_for(self.spec, "gate", number)
        cheap, dear = zip(*pairs, strict=True)
        tau, low, high = tau_interval(cheap, dear, self.spec.validation.confidence, rng)
        return Agreement(tau, low, high, len(pairs))

    def _measured(self, setting: Fidelity) -> list[float] | None:
        """What every climber reaches with a setting and its own seed."""
        if proxies.on_the_way(self.spec, setting):
            return [self._on_curve(t, setting.epochs) for t in self.done]
        first = self.count * (1 + proxies.listed(self.spec).index(setting))
        return self._trained(setting, first, [t.seed for t in self.done])

    def _on_curve(self, trial: Trial, epochs: int) -> float:
        rows = (ms for step, ms in self.engine.run.history.curves.get(trial.number, ()) if step == epochs)
        return next((m.value for ms in rows for m in ms if m.metric == self.learned.metric), NAN)

    def _trained(self, setting: Fidelity, first: int, seeds: Sequence[int]) -> list[float] | None:
        """Train all climbers anew to a setting; None if that cannot be paid for."""
        if self.step.blocked:
            return None
        ladder = proxies.begun(self.spec.ladder(), setting)
        self.step = _train(self.engine, self.done, seeds, ladder, first)
        if self.step.blocked:
            return None
        mine = {t.index: t for t in self.engine.run.history.of_stage(PROXY)}
        return [mine[first + i].value(self.learned.metric, 0) for i in range(len(self.done))]

    def _seeds(self, setting: Fidelity) -> Agreement | None:
        """How a setting ranks against itself with other seeds: no proxy can be expected to do better."""
        settings = proxies.listed(self.spec)
        if not settings:
            return None
        lowest = setting == self.spec.ladder()[0]
        own = [t.value(self.learned.metric, 0) for t in self.done] if lowest else self._measured(setting)
        seeds = [seed_for(self.spec, f"{PROXY}:again", t.index) for t in self.done]
        other = self._trained(setting, self.count * (1 + len(settings)), seeds)
        if own is None or other is None:
            return None
        return self._agreement(self._losses(own), self._losses(other), 1 + len(settings))

    def _tell(self, setting: Fidelity, found: Agreement) -> None:
        """Write the gate's verdict and, where settings were listed, the choice into the journal."""
        settings, run = self.spec.validation, self.engine.run
        lowest = self.spec.ladder()[0]
        stop = setting == lowest and found.refutes(settings.gate_tau)
        which = "the lowest" if setting == lowest else f"{proxies.words(setting)}, the chosen lowest,"
        tau = "not defined (all equal)" if math.isnan(found.tau) else f"{found.tau:.2f}"
        reason = (
            f"Kendall's tau between {which} and the top rung is {tau}, "
            f"{settings.confidence:.0%} interval {found.low:.2f} to {found.high:.2f}, "
            f"the gate is {settings.gate_tau:g}"
        )
        if stop:
            reason += "; raise the lowest rung in fidelities, or list dearer settings in validate.proxies"
        seeds = None if stop else self._seeds(setting)
        facts = self._facts(setting, found, seeds)
        if not stop and proxies.listed(self.spec):
            verdict = proxies.KEPT if setting == lowest else proxies.CHOSEN
            told = explained(self.spec, setting, found, seeds, self.tried)
            choice = {**facts, **vars(setting)}
            run.record(
                [Decided(proxies.DECISION, verdict, seen=run.history.length, reason=told, facts=choice)]
            )
        verdicts.record(self.engine, "gate", verdicts.STOP if stop else verdicts.GO, reason, facts)

    def _facts(self, setting: Fidelity, found: Agreement, seeds: Agreement | None) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "candidates": found.candidates,
            "gate_tau": self.spec.validation.gate_tau,
            "metric": self.learned.metric,
            "setting": proxies.words(setting),
            **rounded("", found),
        }
        for rung in range(len(self.spec.fidelities) - 1):
            values = [self.learned.loss(t.value(self.learned.metric, rung)) for t in self.done]
            facts |= rounded(f"_{rung}", self._against_top(values, rung))
        if seeds is not None:
            facts |= rounded("_seeds", seeds)
        if self.tried:
            facts["tried"] = list(self.tried)
        return facts
