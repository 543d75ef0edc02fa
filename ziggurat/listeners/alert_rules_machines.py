"""Rules of alerts about machines: slow and queued jobs, idle workers and processors, servers away."""

from __future__ import annotations

from pydantic import Field

from ziggurat.listeners.alert_load import NAMES
from ziggurat.listeners.alert_shapes import CLEAR, MATTERS, Case, Cases, Lasting, Rule, Scene, Severity

GPU, CPU = NAMES
SILENT_JOBS = 3
"""Trainings that tell nothing of their use of machines, after which nothing is expected any more."""


class SlowTrial(Lasting):
    """A segment of a trial takes much longer than expected."""

    factor: float = Field(default=2.0, gt=1, description="Multiple of the expected time.")
    at_least_s: float = Field(
        default=60.0, ge=0, description="Seconds up to which no segment is slow, whatever was expected."
    )

    def cases(self, scene: Scene) -> Cases:
        """One for each trial, until its segment ends."""
        for key, segment in scene.history.open_segments.items():
            if segment.job.trial < 0 or segment.started_utc is None:
                continue
            age_s = scene.watch.elapsed.get(key, scene.now_utc - segment.started_utc)
            if age_s > max(self.factor * segment.forecast_s, self.at_least_s):
                yield Case(
                    f"slow_trial/{segment.job.trial}",
                    f"Trial {segment.job.trial} is slow",
                    f"It has run for {age_s:.0f} s; {segment.forecast_s:.1f} s were expected.",
                )


class QueuedJob(Lasting):
    """A job has waited in the queue of its scheduler for long."""

    minutes: float = Field(default=30.0, gt=0, description="Minutes after which it is raised.")

    def cases(self, scene: Scene) -> Cases:
        """One for all that wait so long."""
        waits = [
            (scene.now_utc - s.started_utc, key)
            for key, s in scene.history.open_segments.items()
            if s.started_utc is not None and scene.watch.elapsed.get(key) == 0
        ]
        long = [pair for pair in waits if pair[0] >= self.minutes * 60]
        if long:
            longest_s, key = max(long)
            title = f"{len(long)} job{'s wait' if len(long) > 1 else ' waits'} in the queue"
            text = f"Job {key} for {longest_s / 60:.0f} min; look at the queue, or ask for other machines."
            yield Case("queued_job", title, text)


class LowUtilisation(Lasting):
    """Trainings use little of their GPUs, or of their processors where they have no GPU."""

    floor: float = Field(default=0.5, gt=0, lt=1, description="Mean use below which it is raised.")
    window_s: float = Field(default=600.0, ge=10, description="Seconds over which the mean is taken.")

    def cases(self, scene: Scene) -> Cases:
        """One, while that is so."""
        use, now = scene.digest.use, scene.now_utc
        found = {name: use.mean(name, now) for name in NAMES}
        name = GPU if scene.watch.gpus or found[GPU][0] else CPU
        known_s, mean = found[name]
        if scene.digest.over or not known_s:
            return
        young = now - scene.watch.since_utc < self.window_s
        if known_s < self.window_s / 2 or young or self.floor <= mean < CLEAR * self.floor:
            yield Case("low_utilisation", sure=False)
        elif mean < self.floor:
            what = "GPUs" if name == GPU else "processors"
            yield Case(
                "low_utilisation",
                f"Trainings used {mean:.0%} of their {what} in the last {self.window_s:.0f} s",
                "Look for slow reading of data, small batches, or too many workers on one machine.",
            )


class UnknownUtilisation(Rule):
    """What trainings use of their machines cannot be read, so nobody watches it."""

    severity: Severity = Field(default="info", description=MATTERS)

    def cases(self, scene: Scene) -> Cases:
        """One, when that has turned out."""
        use = scene.digest.use
        if scene.watch.imagined:
            return
        known = any(use.mean(name, scene.now_utc)[0] for name in ((GPU,) if scene.watch.gpus else NAMES))
        blind = use.silent >= SILENT_JOBS or (scene.watch.gpus and use.without_gpu >= SILENT_JOBS)
        if blind and not known and "unknown_utilisation" not in scene.history.alerts:
            what = "GPUs" if scene.watch.gpus else "processors"
            text = "No training has told it; low use of machines raises no alert in this run."
            title = f"The use of {what} cannot be read"
            yield Case("unknown_utilisation", title, text, scene.now_utc)


class IdleWorkers(Lasting):
    """Workers have nothing to do while the search goes on."""

    floor: float = Field(default=0.5, gt=0, le=1, description="Busy share below which it is raised.")
    window_s: float = Field(default=600.0, ge=10, description="Seconds over which the share is taken.")

    def cases(self, scene: Scene) -> Cases:
        """One, while that is so."""
        stage = scene.digest.searching
        if stage is None:
            return
        begun = max(scene.digest.begun_utc(stage), scene.watch.since_utc)
        busy = scene.digest.busy(scene.now_utc, self.window_s, scene.watch.workers)
        if scene.now_utc - begun < self.window_s or self.floor <= busy < min(CLEAR * self.floor, 1.0):
            yield Case("idle_workers", sure=False)
        elif busy < self.floor:
            yield Case(
                "idle_workers",
                f"Workers were busy for {busy:.0%} of the last {self.window_s:.0f} s",
                "Use fewer workers, or a searcher that proposes faster.",
            )


class StoreDown(Lasting):
    """The run's store cannot be written, so the run has stopped."""

    severity: Severity = Field(default="critical", description=MATTERS)

    def cases(self, scene: Scene) -> Cases:
        """One, until a controller can write it again."""
        if scene.watch.store_down:
            text = "The run has stopped, and its directory has what its store lacks; resume it from there."
            yield Case("store_down", "The store cannot be written", text)


class TrackingDown(Lasting):
    """The tracking server takes nothing; the run goes on, and what it missed is replayed."""

    minutes: float = Field(default=5.0, gt=0, description="Minutes after which it is raised.")

    def cases(self, scene: Scene) -> Cases:
        """One, until it takes something again."""
        down_s = scene.watch.tracking_down_s
        if down_s is None or 0 < down_s < self.minutes * 60:
            yield Case("tracking_down", sure=False)
        elif down_s:
            title = f"MLflow has taken nothing for {down_s / 60:.0f} min"
            yield Case("tracking_down", title, "The run goes on; what is missing is written later.")
