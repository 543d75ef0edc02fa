"""The evaluated weights of a checkpoint, which are the averaged ones where averaging was on, and scores."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from ziggurat.domain import Measurement
from ziggurat.trainers.batches import in_order

PLAIN, AVERAGED = "model.", "ema.module."
"""Prefixes of the two sets of weights in the state of a learner."""


def device() -> torch.device:
    """The first CUDA device if there is one, in a team each process's own, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    team = distributed.is_available() and distributed.is_initialized()
    number = int(os.environ.get("LOCAL_RANK", "0")) if team else 0
    return torch.device("cuda", number % torch.cuda.device_count())


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Put the evaluated weights of a checkpoint into a bare model."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = AVERAGED if any(name.startswith(AVERAGED) for name in state) else PLAIN
    model.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})


def evaluate(model: nn.Module, checkpoint: Path, x: Tensor, y: Tensor) -> tuple[Measurement, ...]:
    """test_accuracy (0 to 1) and test_loss (nats) on (n, *shape) examples and (n,) labels."""
    load_weights(model, checkpoint)
    loss, accuracy = score(model.to(device()), x.to(device()), y.to(device()))
    samples = len(y)
    return (
        Measurement("test_accuracy", accuracy, samples=samples),
        Measurement("test_loss", loss, samples=samples),
    )


@torch.no_grad()
def score(
    model: nn.Module, x: Tensor, y: Tensor, between: Callable[[], None] = lambda: None
) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy from 0 to 1, in evaluation mode and float32.

    Args:
        model: Left in evaluation mode.
        x: (n, *shape) examples on the model's device.
        y: (n,) labels on the model's device.
        between: Called after every batch.

    Returns:
        Loss and accuracy; both NaN without examples.
    """
    model.eval()
    if not len(y):
        return math.nan, math.nan
    loss = torch.zeros((), device=y.device, dtype=torch.float64)
    right = torch.zeros((), device=y.device, dtype=torch.int64)
    for some_x, some_y in in_order(x, y):
        logits = model(some_x)
        loss += functional.cross_entropy(logits, some_y, reduction="sum")
        right += (logits.argmax(1) == some_y).sum()
        between()
    return float(loss) / len(y), int(right) / len(y)
