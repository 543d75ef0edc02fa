"""FLOPs are no latency: sampled networks, their FLOPs against their latency on a spec's first device.

Candidates of each spec's space are sampled evenly over the range of FLOPs, measured in random order, and a
pair is looked for in which the network with fewer FLOPs is slower. Both of the pair are then measured again,
in turns, and the pair is shown only if every one of the slower network's medians lies above every one of the
other's.

    python benchmarks/flops_latency.py examples/edge.yaml examples/cells.yaml [--count 60] [--plot OUT.png]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import kendalltau, spearmanr

from ziggurat import choices
from ziggurat import spec as specs
from ziggurat.bench import Bench
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.profilers import AnyDevice
from ziggurat.report import canvas
from ziggurat.report.style import BLUE, INK, ORANGE, VERMILION

FloatArray = npt.NDArray[np.float64]
DRAWN = 20
"""Candidates that are drawn for each one measured, so that the range of FLOPs can be covered evenly."""
TURNS = 7
LEAST_GAP = 1.1
"""How many times the FLOPs, and the latency, of the one network must be those of the other in a pair."""


@dataclass(frozen=True)
class Network:
    """A measured network.

    Attributes:
        space: Kind of the space.
        candidate: Its choices.
        settings: Those of the architecture, as text.
        flops: Floating-point operations of one example.
        p50_ms: Median latency of one batch.
        noise: Half the width of the interval of the median, relative to it.
    """

    space: str
    candidate: Candidate
    settings: str
    flops: float
    p50_ms: float
    noise: float


class Lab:
    """The space and the first device of a spec."""

    def __init__(self, path: Path, seed: int, sets: Sequence[str]) -> None:
        """Read a spec."""
        self.spec, _ = specs.read(path, list(sets))
        self.bench = Bench(self.spec, self.spec.data.signature())
        self.rng = np.random.default_rng(seed)

    def drawn(self, count: int) -> list[tuple[float, Candidate]]:
        """Candidates with their FLOPs, spread evenly over the logarithm of the FLOPs of many samples."""
        declared = self.spec.space.choices()
        pool = {c.key: c for c in (choices.sample(declared, self.rng) for _ in range(DRAWN * count))}
        rows = sorted(((self.flops(c), c) for c in pool.values()), key=lambda row: row[0])
        rows = [row for row in rows if row[0] > 0]
        marks = np.geomspace(rows[0][0], rows[-1][0], count)
        values = np.array([row[0] for row in rows])
        picked = {int(np.abs(np.log(values / mark)).argmin()) for mark in marks}
        # where the range has holes, neighbours make up the number
        spare = [i for i in range(len(rows)) if i not in picked]
        extra = self.rng.permutation(spare)[: max(0, count - len(picked))]
        return [rows[int(i)] for i in sorted({*picked, *extra.tolist()})]

    def flops(self, candidate: Candidate) -> float:
        """FLOPs of one example; NaN for a candidate that cannot be built."""
        return next((m.value for m in self.bench.static(candidate) if m.metric == "flops"), float("nan"))

    def measured(self, candidate: Candidate) -> tuple[float, float]:
        """Median latency in ms and its noise."""
        device = self.spec.devices[0]
        model = self.bench.build(candidate, 0).eval()
        found = device.profile(model, torch.zeros(1, *self.bench.signature.shape), candidate)
        values = {m.metric: m.value for m in found}
        return values["latency_p50_ms"], values["latency_noise"]

    def networks(self, count: int) -> list[Network]:
        """Measured networks, in random order so that a drift of the machine favours none."""
        drawn = self.drawn(count)
        found = []
        for done, place in enumerate(self.rng.permutation(len(drawn)), start=1):
            flops, candidate = drawn[place]
            settings = [
                f"{n}={v}" for n, v in candidate.choices.items() if n not in self.spec.space.hyperparameters
            ]
            measured = self.measured(candidate)
            found.append(Network(self.spec.space.kind, candidate, " ".join(settings), flops, *measured))
            print(f"{self.spec.space.kind} {done}/{len(drawn)}", end="\r", file=sys.stderr, flush=True)
        return found

    def confirmed(self, pair: tuple[Network, Network]) -> tuple[list[float], list[float]]:
        """Medians of both of a pair, measured again in turns."""
        slower: list[float] = []
        faster: list[float] = []
        for _ in range(TURNS):
            slower.append(self.measured(pair[0].candidate)[0])
            faster.append(self.measured(pair[1].candidate)[0])
        return slower, faster


@dataclass(frozen=True)
class Pair:
    """Two networks of which the one with fewer FLOPs is slower, with the medians measured in turns."""

    fewer: Network
    more: Network
    fewer_ms: list[float]
    more_ms: list[float]

    def told(self) -> str:
        """The pair in words."""
        few, more = np.array(self.fewer_ms), np.array(self.more_ms)
        share = 1 - self.fewer.flops / self.more.flops
        slower = float(np.median(few) / np.median(more)) - 1
        return "\n".join(
            [
                f"  {share:.0%} fewer FLOPs, yet {slower:.0%} slower; ranges of {TURNS} medians each, taken "
                "in turns, do not meet:",
                _line(self.fewer, few),
                _line(self.more, more),
            ]
        )


def _line(network: Network, medians: FloatArray) -> str:
    return (
        f"    {network.flops / 1e6:.2f} MFLOPs, p50 {np.median(medians):.4f} ms ({medians.min():.4f} to "
        f"{medians.max():.4f}): {network.settings}"
    )


def pairs(networks: Sequence[Network]) -> list[tuple[Network, Network]]:
    """Pairs (slower, faster) whose first has clearly fewer FLOPs, the most misleading first."""
    found = [
        (slow, fast)
        for slow in networks
        for fast in networks
        if slow.flops * LEAST_GAP <= fast.flops and slow.p50_ms >= LEAST_GAP * fast.p50_ms
    ]
    return sorted(found, key=lambda p: -(p[0].p50_ms / p[1].p50_ms) * (p[1].flops / p[0].flops) ** 0.5)


def misleading(lab: Lab, networks: Sequence[Network], tries: int) -> Pair | None:
    """The first of the most misleading pairs that is confirmed."""
    for slow, fast in pairs(networks)[:tries]:
        slower, faster = lab.confirmed((slow, fast))
        if min(slower) > max(faster):
            return Pair(slow, fast, slower, faster)
    return None


def summary(networks: Sequence[Network], device: AnyDevice) -> str:
    """Ranges and rank correlation in words."""
    flops = np.array([n.flops for n in networks]) / 1e6
    latency = np.array([n.p50_ms for n in networks])
    tau, rho = kendalltau(flops, latency).statistic, spearmanr(flops, latency).statistic
    noisy = sum(n.noise > device.noise_limit for n in networks)
    return (
        f"{networks[0].space}: {len(networks)} networks, {flops.min():.2f} to {flops.max():.2f} MFLOPs, "
        f"{latency.min():.4f} to {latency.max():.4f} ms; Kendall tau {tau:.3f}, Spearman {rho:.3f}; "
        f"{noisy} too noisy"
    )


def draw(path: Path, networks: Sequence[Network], shown: Sequence[Pair], device: str) -> None:
    """FLOPs against latency, both logarithmic, with the pairs joined by lines."""
    figure = canvas.new_figure(7.0, 4.6)
    axes = figure.add_subplot()
    for kind, colour in zip(dict.fromkeys(n.space for n in networks), (BLUE, ORANGE, INK), strict=False):
        mine = [n for n in networks if n.space == kind]
        axes.errorbar(
            [n.flops / 1e6 for n in mine],
            [n.p50_ms for n in mine],
            yerr=[n.noise * n.p50_ms for n in mine],
            fmt="o", ms=4, color=colour, alpha=0.75, lw=0.8, label=kind,
        )  # fmt: skip
    for pair in shown:
        ends = (pair.fewer, pair.more)
        flops, latency = [n.flops / 1e6 for n in ends], [n.p50_ms for n in ends]
        label = "fewer FLOPs, yet slower" if pair is shown[0] else None
        axes.plot(flops, latency, "-s", color=VERMILION, ms=8, mfc="none", lw=1.4, label=label)
    canvas.logarithmic(axes)
    axes.set_title(device, loc="left", fontsize=10)
    canvas.dress(axes, "FLOPs of one example (millions)", "latency p50 (ms)")
    axes.legend(frameon=False)
    path.write_bytes(canvas.to_png(figure))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and draw; 2 if something is wrong with what was given."""
    options = parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        study(options)
    except SpecError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def study(options: argparse.Namespace) -> None:
    """Measure, print and draw."""
    labs = [Lab(Path(path), options.seed, options.set) for path in options.specs]
    everything: list[Network] = []
    shown: list[Pair] = []
    about = ""
    for lab in labs:
        device = lab.spec.devices[0]
        if about != device.describe():
            about = device.describe()
            print(about)
        networks = lab.networks(options.count)
        print(summary(networks, device))
        pair = misleading(lab, networks, options.tries)
        print(pair.told() if pair else "  no pair was confirmed in which fewer FLOPs are slower", flush=True)
        everything += networks
        shown += [pair] if pair else []
    together = kendalltau([n.flops for n in everything], [n.p50_ms for n in everything]).statistic
    print(f"together: Kendall tau {together:.3f}")
    if options.plot:
        draw(Path(options.plot), everything, shown, about)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("specs", nargs="+", help="specs whose spaces and first devices are taken")
    parser.add_argument("--count", type=int, default=60, help="networks of each space")
    parser.add_argument("--tries", type=int, default=5, help="pairs that are measured again at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the specs"
    )
    parser.add_argument("--plot", help="image to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
