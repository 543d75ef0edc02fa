"""Does the interval of Kendall's tau from few candidates hold the tau of the whole table?

From a table with results at several lengths of training, a few candidates are drawn many times; each time tau
between a cheap and the dearest setting is estimated with its interval, as the stage `validate` does. Told is
how often an interval holds the tau over all candidates, beside the two intervals that it is made of, and how
often a setting would prove itself at the gate.

    python benchmarks/proxy_interval.py --curves FILE.npz:val_acc --at 3 --at 12 --count 6 --count 12
    python benchmarks/proxy_interval.py --curves FILE.npz:val_loss --minimize --at 1 --at 5
    python benchmarks/proxy_interval.py --fidelities FILE.npz:val_acc --at 0 --at 1 --at 2

`--curves` names an array (candidates, epochs), `--fidelities` one of a column for each separate training;
`--at` is an epoch from 1, or a column from 0. The last column is the dear setting.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from ziggurat.protocols import FloatArray
from ziggurat.stages.agreement import bootstrap, inverted, kendall, tau_interval

Interval = Callable[[FloatArray, FloatArray, float, np.random.Generator], tuple[float, float]]
SLACK = 1e-9


def main() -> None:
    """Print a table."""
    args = arguments()
    curves = args.curves is not None
    path, _, name = (args.curves or args.fidelities).rpartition(":")
    with np.load(path, allow_pickle=False) as archive:
        values = np.array(archive[name], dtype=float)
    values = values[np.isfinite(values).all(axis=1)] * (-1 if args.minimize else 1)
    print(f"{name} of {Path(path).name}: {len(values)} candidates, {args.draws} draws, {args.confidence:.0%}")
    print("cheap  true tau  candidates  estimate  bootstrap  simulated  interval  width  proves itself")
    for at in args.at or [1]:
        cheap, dear = values[:, at - 1 if curves else at], values[:, -1]
        for count in args.count or [6, 9, 12]:
            print(row(at, cheap, dear, count, args))


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--curves", metavar="FILE.npz:ARRAY")
    source.add_argument("--fidelities", metavar="FILE.npz:ARRAY")
    parser.add_argument("--at", type=int, action="append")
    parser.add_argument("--count", type=int, action="append")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--gate", type=float, default=0.2)
    parser.add_argument("--minimize", action="store_true")
    return parser.parse_args()


def row(at: int, cheap: FloatArray, dear: FloatArray, count: int, args: argparse.Namespace) -> str:
    """How often each interval holds the truth."""
    true = whole(cheap, dear)
    rng = np.random.default_rng([count, at])
    ways: dict[str, Interval] = {
        "bootstrap": bootstrap,
        "simulated": lambda a, b, c, _: inverted(kendall(a, b), len(a), c),
        "both": lambda a, b, c, r: tau_interval(a, b, c, r)[1:],
    }
    held = dict.fromkeys(ways, 0)
    taus, widths, proved, drawn = [], [], 0, 0
    for _ in range(args.draws):
        pick = rng.choice(len(cheap), count, replace=False)
        a, b = cheap[pick], dear[pick]
        if np.isnan(tau := kendall(a, b)):
            continue
        drawn += 1
        taus.append(tau)
        for name, way in ways.items():
            low, high = way(a, b, args.confidence, rng)
            held[name] += low - SLACK <= true <= high + SLACK
        widths.append(high - low)
        proved += low >= args.gate
    shares = "  ".join(f"{held[name] / drawn:9.3f}" for name in ways)
    return (
        f"{at:5}  {true:8.2f}  {count:10}  {np.mean(taus):8.2f}  {shares}  {np.mean(widths):5.2f}  "
        f"{proved / drawn:13.2f}"
    )


def whole(cheap: FloatArray, dear: FloatArray) -> float:
    """Tau over all candidates, by an algorithm for many."""
    from scipy.stats import kendalltau

    return float(kendalltau(cheap, dear).statistic)


if __name__ == "__main__":
    main()
