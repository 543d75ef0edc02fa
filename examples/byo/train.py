"""A training script as many are: argparse, a line of numbers for every epoch, a checkpoint to go on from.

It trains a network with one hidden layer on the handwritten digits of scikit-learn, in NumPy:

    python train.py --learning-rate 0.1 --hidden 32 --epochs 5 --out run1
    python train.py --learning-rate 0.1 --hidden 32 --epochs 9 --out run1 --resume run1/last.npz
    python train.py --hidden 32 --test run1/last.npz
    python train.py --hidden 32 --benchmark
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def digits(fraction=1.0):
    """Training, validation and test part; `fraction` shortens the first one only."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 16.0).astype(np.float32), y[order]
    train = slice(0, max(50, int(1200 * fraction)))
    return (x[train], y[train]), (x[1200:1500], y[1200:1500]), (x[1500:], y[1500:])


def beginning(hidden, rng):
    return {
        "w1": (rng.normal(size=(64, hidden)) * 0.15).astype(np.float32),
        "b1": np.zeros(hidden, np.float32),
        "w2": (rng.normal(size=(hidden, 10)) * 0.15).astype(np.float32),
        "b2": np.zeros(10, np.float32),
    }


def forward(net, x):
    inner = np.maximum(x @ net["w1"] + net["b1"], 0)
    out = inner @ net["w2"] + net["b2"]
    out -= out.max(axis=1, keepdims=True)
    shares = np.exp(out)
    return inner, shares / shares.sum(axis=1, keepdims=True)


def scores(net, x, y):
    _, shares = forward(net, x)
    loss = -np.log(shares[np.arange(len(y)), y] + 1e-9).mean()
    return float((shares.argmax(axis=1) == y).mean()), float(loss)


def one_epoch(net, speed, x, y, args, rng):
    order = rng.permutation(len(y))
    for start in range(0, len(y), args.batch_size):
        rows = order[start : start + args.batch_size]
        inner, wrong = forward(net, x[rows])
        wrong[np.arange(len(rows)), y[rows]] -= 1
        wrong /= len(rows)
        back = (wrong @ net["w2"].T) * (inner > 0)
        for name, gradient in (
            ("w2", inner.T @ wrong),
            ("b2", wrong.sum(axis=0)),
            ("w1", x[rows].T @ back),
            ("b1", back.sum(axis=0)),
        ):
            speed[name] = args.momentum * speed[name] - args.learning_rate * gradient
            net[name] += speed[name]


def train(args):
    (x, y), validation, _ = digits(args.data_fraction)
    net = beginning(args.hidden, np.random.default_rng(args.seed))
    speed = {name: np.zeros_like(value) for name, value in net.items()}
    first = 1
    if args.resume:
        with np.load(args.resume) as saved:
            net = {name: saved[name] for name in net}
            speed = {name: saved[f"speed_{name}"] for name in speed}
            first = int(saved["epoch"]) + 1
    args.out.mkdir(parents=True, exist_ok=True)
    for epoch in range(first, args.epochs + 1):
        one_epoch(net, speed, x, y, args, np.random.default_rng([args.seed, epoch]))
        accuracy, loss = scores(net, *validation)
        state = {**net, **{f"speed_{n}": v for n, v in speed.items()}, "epoch": epoch}
        np.savez(args.out / "saving.npz", **state)
        (args.out / "saving.npz").replace(args.out / "last.npz")
        print(f"epoch={epoch} val_accuracy={accuracy:.4f} val_loss={loss:.4f}", flush=True)


def test(args):
    with np.load(args.test) as saved:
        accuracy, loss = scores({name: saved[name] for name in ("w1", "b1", "w2", "b2")}, *digits()[2])
    print(f"test_accuracy={accuracy:.4f}")
    print(f"test_loss={loss:.4f}")


def benchmark(args):
    """Time of an answer to one example; it depends on the size alone, so no training is needed."""
    net = beginning(args.hidden, np.random.default_rng(0))
    example, samples = np.zeros((1, 64), np.float32), []
    for _ in range(300):
        begun = time.perf_counter()
        forward(net, example)
        samples.append((time.perf_counter() - begun) * 1000)
    print(f"latency_p50_ms={np.quantile(samples, 0.5):.4f}")
    print(f"latency_p99_ms={np.quantile(samples, 0.99):.4f}")
    print(f"parameters={sum(value.size for value in net.values())}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data-fraction", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--test", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--benchmark", action="store_true")
    args = parser.parse_args()
    if args.test:
        test(args)
    elif args.benchmark:
        benchmark(args)
    else:
        train(args)


if __name__ == "__main__":
    main()
