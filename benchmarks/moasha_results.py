"""What the searches of moasha.py found and took: a record of each, and their comparison as table and plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plot_tabular import label_ends, looks

from ziggurat import pareto
from ziggurat.answers import eligible
from ziggurat.domain import JobKind, Objective, Trial
from ziggurat.history import History
from ziggurat.report import canvas
from ziggurat.segments import Segment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASE = "fifo"
"""Strategy that the others are compared with."""


@dataclass
class Result:
    """One search.

    Attributes:
        strategy: Name of the strategy.
        objectives: How many.
        seed: Seed of the spec.
        wall_s: Seconds of the search stage, workers up.
        busy_s: Worker seconds of training.
        idle: Share of the workers' time in which they trained nothing.
        epochs: Epochs trained, those of failed segments included.
        trials: Trials that were started.
        top: Trials trained to the top rung.
        failed: Trials that failed, by divergence mostly.
        front: Trials on the front of those.
        hypervolume: Of those, against the spec's references.
        ended: Hypervolume of all trials as they ended, stopped ones included.
        best: Best validation accuracy at the top.
        curve: Epochs trained and hypervolume, whenever a trial came to the top.
        relative: Hypervolume as a share of FIFO's of the same seed and objectives.
        ended_relative: `ended` as a share of FIFO's `ended`.
        fifo_then: Share of its hypervolume that FIFO had after as many epochs as this search trained in all.
    """

    strategy: str
    objectives: int
    seed: int
    wall_s: float
    busy_s: float
    idle: float
    epochs: int
    trials: int
    top: int
    failed: int
    front: int
    hypervolume: float
    ended: float
    best: float
    curve: list[tuple[int, float]] = field(default_factory=list)
    relative: float | None = None
    ended_relative: float | None = None
    fifo_then: float | None = None


def judge(
    history: History, goals: tuple[Objective, ...], name: str, *, seed: int, wall_s: float, workers: int
) -> Result:
    """What a search found, and what it took."""
    trials = history.of_stage("search")
    done = eligible(history, goals)
    segments = sorted(trained(history), key=lambda s: s.finished_utc or 0.0)
    by_number = {t.number: t for t in done}
    epochs, risen, curve = 0, [], []
    for segment in segments:
        epochs += epochs_of(segment, history)
        if segment.job.trial in by_number and segment.job.to_rung == len(segment.job.ladder) - 1:
            risen.append(by_number[segment.job.trial])
            curve.append((epochs, volume(risen, goals)))
    losses = [t.losses(goals) for t in done]
    busy_s = sum(s.end.seconds for s in segments if s.end)
    return Result(
        strategy=name,
        objectives=len(goals),
        seed=seed,
        wall_s=round(wall_s, 2),
        busy_s=round(busy_s, 2),
        idle=round(1 - busy_s / (workers * wall_s), 4),
        epochs=epochs,
        trials=len(trials),
        top=len(done),
        failed=sum(t.failure is not None for t in trials),
        front=int(pareto.is_front(losses).sum()) if done else 0,
        hypervolume=volume(done, goals),
        ended=volume([t for t in trials if t.rung >= 0], goals),
        best=max((t.value("val_accuracy") for t in done), default=0.0),
        curve=curve,
    )


def trained(history: History) -> list[Segment]:
    """Training segments of the search that have ended, well or not."""
    return [
        s
        for s in history.segments.values()
        if s.end is not None and s.job.kind is JobKind.TRAIN and s.job.stage == "search"
    ]


def epochs_of(segment: Segment, history: History) -> int:
    """Epochs that a segment trained; those that a failed one reported."""
    ladder, job = segment.job.ladder, segment.job
    start = ladder[job.from_rung].epochs if job.from_rung >= 0 else 0
    if segment.end is not None and segment.end.failure is None:
        return ladder[job.to_rung].epochs - start
    return len({step for step, _ in history.curves.get(job.trial, []) if step > start})


def volume(trials: Sequence[Trial], goals: tuple[Objective, ...]) -> float:
    """Hypervolume of some trials, each at the highest rung it has reached, against the references."""
    return pareto.hypervolume([t.losses(goals) for t in trials], [o.loss(o.reference) for o in goals])


def compare(results: Sequence[Result]) -> None:
    """Fill in what is relative to FIFO's run of the same seed and objectives."""
    base = {(r.objectives, r.seed): r for r in results if r.strategy == BASE}
    for result in results:
        fifo = base.get((result.objectives, result.seed))
        if fifo is not None and fifo.hypervolume > 0:
            result.relative = result.hypervolume / fifo.hypervolume
            result.ended_relative = result.ended / fifo.ended
            risen = [v for epochs, v in fifo.curve if epochs <= result.epochs]
            result.fifo_then = (risen[-1] if risen else 0.0) / fifo.hypervolume


def table(results: Sequence[Result]) -> list[str]:
    """The comparison in Markdown, medians over the seeds."""
    lines = [
        "| objectives | strategy | wall time | idle | epochs | at the top | front | hypervolume, of FIFO's | "
        "FIFO after as many epochs | best accuracy |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups: dict[tuple[int, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.objectives, result.strategy), []).append(result)
    for (objectives, strategy), group in groups.items():
        base = groups.get((objectives, BASE)) if strategy != BASE else None
        wall, epochs = _median(group, "wall_s"), _median(group, "epochs")
        saved, fewer = (_change(base, group, name) for name in ("wall_s", "epochs"))
        share, then = (_share(group, name) for name in ("relative", "fifo_then"))
        top, trials, front = (_median(group, name) for name in ("top", "trials", "front"))
        lines.append(
            f"| {objectives} | {strategy} | {wall:.1f} s{saved} | {_median(group, 'idle'):.0%} | "
            f"{epochs:g}{fewer} | {top:g} of {trials:g} | {front:g} | {share} | {then} | "
            f"{_median(group, 'best'):.1%} |"
        )
    return lines


def _median(group: Sequence[Result], name: str) -> float:
    return float(statistics.median(getattr(r, name) for r in group))


def _change(base: Sequence[Result] | None, group: Sequence[Result], name: str) -> str:
    """How much more a strategy takes than FIFO, in brackets; nothing for FIFO itself or without it."""
    before = _median(base, name) if base else 0.0
    return f" ({_median(group, name) / before - 1:+.0%})" if before else ""


def _share(group: Sequence[Result], name: str) -> str:
    known = [getattr(r, name) for r in group if getattr(r, name) is not None]
    return f"{statistics.median(known):.2f}" if known else "-"


def plot(results: Sequence[Result]) -> bytes:
    """Hypervolume against epochs trained as PNG, a panel for each number of objectives.

    A dot is the end of a search; with several seeds it is at the medians.
    """
    styles = looks([r.strategy for r in results])
    counts = list(dict.fromkeys(r.objectives for r in results))
    figure = canvas.new_figure(6.6 * len(counts), 4.8)
    panels = figure.subplots(1, len(counts), squeeze=False)[0]
    for axes, objectives in zip(panels, counts, strict=True):
        _draw(axes, [r for r in results if r.objectives == objectives], styles)
    return canvas.to_png(figure)


def _draw(axes: Axes, results: Sequence[Result], styles: dict[str, dict[str, Any]]) -> None:
    """One panel."""
    scaled = all(r.relative is not None for r in results)
    unit = "of FIFO's" if scaled else "raw"
    canvas.dress(axes, "epochs trained", f"hypervolume of trials at the top, {unit}")
    axes.set_title(f"{results[0].objectives} objectives", loc="left", fontsize=11)
    names = list(dict.fromkeys(r.strategy for r in results))
    last = 1.02 * max(1, *(r.epochs for r in results))
    ends, values = [], [0.0]
    for name in names:
        lines = [staircase(r, scaled=scaled) for r in results if r.strategy == name]
        style = {k: v for k, v in styles[name].items() if k != "linewidth"}
        for x, y in lines:
            axes.plot(x, y, drawstyle="steps-post", linewidth=1.8 if len(lines) == 1 else 1.0, **style)
            values += [v for v in y if v > 0]
        across, up = (statistics.median(line[i][-1] for line in lines) for i in (0, 1))
        axes.plot([across, last], [up, up], color=style["color"], linestyle=":", linewidth=1)
        axes.plot(across, up, "o", color=style["color"], markersize=5)
        ends.append((last, up))
    axes.set_xlim(0, last)
    # the first trial at the top gives most of the volume; what follows is what is to be seen
    axes.set_ylim(0.9 * min(values[1:], default=0.0), 1.02 * max(values) or 1.0)
    label_ends(axes, names, ends, styles)


def staircase(result: Result, *, scaled: bool) -> tuple[list[float], list[float]]:
    """Epochs and hypervolume of one search, from nothing to its end."""
    full = result.hypervolume / result.relative if scaled and result.relative else 1.0
    x = [0.0, *(float(e) for e, _ in result.curve), float(result.epochs)]
    y = [0.0, *(v / full for _, v in result.curve)]
    return x, [*y, y[-1]]
