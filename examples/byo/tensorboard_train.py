"""A training script with TensorBoard: one JSON file of settings, event files, and only the best weights kept.

It cannot go on from where it stopped.

    python tensorboard_train.py --config settings.json --logdir run1

settings.json: {"lr": 0.01, "channels": 8, "epochs": 4, "seed": 0}
"""

import argparse
import json
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.tensorboard import SummaryWriter


def parts():
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(x / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)[order]
    y = torch.tensor(y)[order]
    return (x[:1200], y[:1200]), (x[1200:1500], y[1200:1500])


def network(channels):
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * channels, 10),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--logdir", type=Path, default=Path("tensorboard_run"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    config = json.loads(args.config.read_text())
    epochs = args.epochs or config.get("epochs", 4)
    torch.manual_seed(config.get("seed", 0) if args.seed is None else args.seed)
    (x, y), (val_x, val_y) = parts()
    model = network(config["channels"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config.get("momentum", 0.9))
    best = float("inf")
    with SummaryWriter(args.logdir) as writer:
        for epoch in range(1, epochs + 1):
            model.train()
            for rows in torch.randperm(len(y)).split(32):
                optimizer.zero_grad()
                cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                answers = model(val_x)
            loss = cross_entropy(answers, val_y).item()
            writer.add_scalar("loss/validation", loss, epoch)
            writer.add_scalar("error/validation", (answers.argmax(1) != val_y).float().mean().item(), epoch)
            writer.flush()
            if loss < best:
                best = loss
                torch.save(model.state_dict(), args.logdir / "best.pt")


if __name__ == "__main__":
    main()
