"""The plans of stages whose trials are known from the start: probing, retraining and measuring."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ziggurat.domain import Decision, JobKind, Trial, TrialStatus
from ziggurat.events import Decided
from ziggurat.history import History
from ziggurat.plan.draft import Draft, Rules, Step, end_failed, other_job, train_job
from ziggurat.protocols import Forecast


def fixed_jobs(
    history: History,
    stage: str,
    free_slots: int,
    *,
    forecast: Callable[[Trial, int], Forecast],
    rules: Rules,
) -> Step:
    """What a stage does next whose trials are all proposed: train each to its top rung, in their order."""
    draft = Draft(history.copy(), rules)
    end_failed(draft, stage)
    for trial in draft.history.with_status(stage, TrialStatus.UNDECIDED):
        seen = draft.history.length
        draft.note(Decided("stopper", Decision.CONTINUE.value, trial.number, trial.rung, seen))
    ready = draft.history.with_status(stage, TrialStatus.READY, TrialStatus.WAITING)
    for trial in ready:
        if len(draft.jobs) >= free_slots or draft.blocked:
            break
        to_rung = trial.rung + 1
        draft.start(train_job(draft.history, trial, to_rung), forecast(trial, to_rung))
    left = [t for t in draft.history.of_stage(stage) if not t.ended]
    done = not draft.history.open_segments and (not left or bool(draft.blocked))
    return Step(tuple(draft.bodies), tuple(draft.jobs), 0, draft.blocked, draft.lacking_usd, done=done)


def measure_jobs(  # noqa: PLR0913 - what a decision may depend on is spelt out
    history: History,
    stage: str,
    free_slots: int,
    *,
    devices: Sequence[str],
    free_devices: Collection[str],
    alone: Collection[str],
    forecast: Callable[[JobKind, str | None], Forecast],
    rules: Rules,
    kinds: Collection[JobKind] = (JobKind.EVALUATE, JobKind.EXPORT),
) -> Step:
    """What is left to do with the completed trials of a stage: the sealed test part, export, every device.

    Args:
        history: What has happened.
        stage: Stage of the trials.
        free_slots: Workers without a job, for evaluating and exporting.
        devices: All devices.
        free_devices: Devices on which a model can be measured now.
        alone: Devices with machines of their own; the others share the run's, one measurement at a time.
        forecast: What a kind of job will take, on a device or on none.
        rules: Limits.
        kinds: What is to be done beside measuring on devices.
    """
    draft = Draft(history.copy(), rules)
    free = set(free_devices)
    left = False
    measured = _measured(history)
    for trial in history.of_stage(stage):
        if trial.rung < trial.top_rung:
            continue
        # the export comes last: it could be made up for from the checkpoint, by hand
        on_devices: list[tuple[JobKind, str | None]] = [(JobKind.PROFILE, d) for d in devices]
        for kind, device in [(JobKind.EVALUATE, None), *on_devices, (JobKind.EXPORT, None)]:
            if device is None and kind not in kinds:
                continue
            job = other_job(history, trial, kind, device)
            if job.key.rsplit("-", 1)[0] in measured or job.attempt > rules.retries:
                continue
            left = True
            slot = free_slots > 0 if device is None else device in free
            idle = draft.history.trials[trial.number].job is None
            if slot and idle and not draft.blocked and draft.start(job, forecast(kind, device)):
                if device is None:
                    free_slots -= 1
                else:
                    free -= {device} if device in alone else free - set(alone)
    done = not draft.history.open_segments and (not left or bool(draft.blocked))
    return Step((), tuple(draft.jobs), 0, draft.blocked, draft.lacking_usd, done=done)


def _measured(history: History) -> set[str]:
    ends = [s for s in history.segments.values() if s.end is not None and s.end.failure is None]
    return {s.job.key.rsplit("-", 1)[0] for s in ends}
