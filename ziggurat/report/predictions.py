"""The image of a validated latency table: what was predicted against what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ziggurat.report import canvas
from ziggurat.report.style import BLUE, GREY

if TYPE_CHECKING:
    from ziggurat.latency.validate import Validation


def predictions(found: Validation, device: str) -> bytes:
    """Predicted against measured latency as a PNG."""
    figure = canvas.new_figure(6, 5.6)
    axes = figure.subplots()
    canvas.dress(axes, f"measured p50 on {device} (ms)", "predicted p50 (ms)")
    both = [*found.predicted_ms, *found.measured_ms]
    ends = [min(both) / 1.1, max(both) * 1.1]
    axes.plot(ends, ends, color=GREY, linewidth=1, label="equal", zorder=1)
    label = f"{len(found.candidates)} models not used in fitting"
    axes.scatter(found.measured_ms, found.predicted_ms, s=22, color=BLUE, alpha=0.85, label=label, zorder=2)
    canvas.logarithmic(axes)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    said = found.summary()
    title = f"median error {said['median_error']:.1%}, Kendall's tau {said['kendall_tau']:.3f}"
    axes.set_title(canvas.plain(title), loc="left", fontsize=11)
    axes.legend(frameon=False, loc="upper left")
    return canvas.to_png(figure)
