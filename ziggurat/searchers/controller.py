"""The controller of REINFORCE: a small network that emits one choice after another, and how it learns.

It imports torch, so it is imported when it is used. Its weights are drawn, and its choices are sampled, with
numpy generators that are handed in; torch's global generator is neither read nor moved. What it has learned
is a function of the episodes it was shown, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ziggurat import choices as space

if TYPE_CHECKING:
    from ziggurat.choices import Choices
    from ziggurat.domain import Candidate
    from ziggurat.protocols import FloatArray

HIDDEN = 32
"""Units of the recurrent layer; Zoph and Le 2017 use 35."""
BINS = 16
"""Values beyond which a range is cut into so many equal parts of the unit interval."""
SPREAD = 0.1
"""Initial weights are uniform within plus and minus this."""
NEVER = -1e9
"""Logit of a part that does not exist."""

Kind = Literal["recurrent", "independent"]


@dataclass(frozen=True)
class Step:
    """One decision of the controller.

    Attributes:
        axis: Index of the choice in the space.
        name: Name of the choice.
        bins: Number of parts of its unit interval.
        first: Number of its first token.
    """

    axis: int
    name: str
    bins: int
    first: int


def steps_of(choices: Choices) -> tuple[Step, ...]:
    """The decisions of a space: one for each choice of several values, in the order of declaration."""
    steps: list[Step] = []
    first = 1
    for axis, (name, choice) in enumerate(choices.items()):
        if choice.size <= 1:
            continue
        each = isinstance(choice, space.Values) or (choice.size <= BINS and not choice.log)
        steps.append(Step(axis, name, int(choice.size) if each else BINS, first))
        first += steps[-1].bins
    return tuple(steps)


class Network(nn.Module):
    """Logits of every decision, given those before; token 0 stands for the beginning."""

    absent: Tensor

    def __init__(self, steps: Sequence[Step], kind: Kind, rng: np.random.Generator) -> None:
        """Draw the weights with a generator; independent logits begin at zero."""
        super().__init__()
        widest = max(s.bins for s in steps)
        self.kind = kind
        self.bias = nn.Parameter(torch.zeros(len(steps), widest))
        absent = torch.arange(widest)[None, :] >= torch.tensor([s.bins for s in steps])[:, None]
        self.register_buffer("absent", absent.float() * NEVER)
        if kind == "recurrent":
            with torch.random.fork_rng(devices=[]):
                self.tokens = nn.Embedding(1 + sum(s.bins for s in steps), HIDDEN)
                self.memory = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
            self.heads = nn.Parameter(torch.zeros(len(steps), widest, HIDDEN))
            for parameter in (*self.tokens.parameters(), *self.memory.parameters(), self.heads):
                drawn = rng.uniform(-SPREAD, SPREAD, tuple(parameter.shape))
                parameter.data = torch.as_tensor(drawn, dtype=torch.float32)

    def along(self, before: Tensor, at: Tensor) -> Tensor:
        """Logits (length, widest) along one sequence.

        Args:
            before: (length,) the token before every decision.
            at: (length,) indices of the decisions.
        """
        logits = self.bias[at] + self.absent[at]
        if self.kind == "recurrent":
            hidden, _ = self.memory(self.tokens(before)[None])
            logits = logits + torch.einsum("lh,lbh->lb", hidden[0], self.heads[at])
        return logits

    def begin(self, count: int) -> tuple[Tensor, Tensor]:
        """The state before the first decision of `count` sequences."""
        return torch.zeros(1, count, HIDDEN), torch.zeros(1, count, HIDDEN)

    def step(
        self, at: int, before: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Logits (count, widest) of one decision of many sequences, and the state after it."""
        logits = (self.bias[at] + self.absent[at]).expand(len(before), -1)
        if self.kind == "recurrent":
            hidden, state = self.memory(self.tokens(before)[:, None], state)
            logits = logits + hidden[:, 0] @ self.heads[at].T
        return logits, state


class Controller:
    """A policy over the candidates of a space."""

    def __init__(
        self, choices: Choices, kind: Kind, learning_rate: float, entropy: float, rng: np.random.Generator
    ) -> None:
        """A policy that has seen nothing; the space must have a choice of several values."""
        self.choices = choices
        self.entropy = entropy
        self.steps = steps_of(choices)
        self.network = Network(self.steps, kind, rng)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate)

    def learn(self, candidate: Candidate, advantage: float) -> None:
        """One step of gradient ascent on advantage x log-probability + entropy bonus.

        Source: Williams 1992, section 3; the bonus of Williams and Peng 1991.
        """
        at, before, taken = self._sequence(candidate)
        if not at:
            return
        logs = torch.log_softmax(self.network.along(torch.tensor(before), torch.tensor(at)), dim=1)
        chosen = logs[torch.arange(len(at)), torch.tensor(taken)].sum()
        entropy = -(logs.exp() * logs).sum()
        self.optimizer.zero_grad()
        (-advantage * chosen - self.entropy * entropy).backward()
        self.optimizer.step()

    def _sequence(self, candidate: Candidate) -> tuple[list[int], list[int], list[int]]:
        """Decisions that a candidate stands for, the token before each, and the part that each takes."""
        at: list[int] = []
        before: list[int] = []
        taken: list[int] = []
        token = 0
        for i, step in enumerate(self.steps):
            if step.name not in candidate.choices:
                continue
            unit = self.choices[step.name].unit(candidate.choices[step.name])
            part = min(int(unit * step.bins), step.bins - 1)
            at.append(i)
            before.append(token)
            taken.append(part)
            token = step.first + part
        return at, before, taken

    @torch.no_grad()
    def sample(self, count: int, rng: np.random.Generator) -> list[Candidate]:
        """Candidates drawn from the policy, uniformly within the part that a decision takes."""
        points = np.full((count, len(self.choices)), 0.5)
        state, before = self.network.begin(count), torch.zeros(count, dtype=torch.long)
        drawn = rng.random((2, len(self.steps), count))
        for i, step in enumerate(self.steps):
            logits, after = self.network.step(i, before, state)
            shares = torch.softmax(logits.double(), dim=1).cumsum(dim=1).numpy()
            part = np.minimum((shares < drawn[0, i][:, None]).sum(axis=1), step.bins - 1)
            points[:, step.axis] = (part + drawn[1, i] * (1 - 1e-9)) / step.bins
            active = self._active(step, points)
            before = torch.where(active, torch.as_tensor(part + step.first), before)
            here = active[None, :, None]
            state = torch.where(here, after[0], state[0]), torch.where(here, after[1], state[1])
        return [space.from_unit(self.choices, point) for point in points]

    def _active(self, step: Step, points: FloatArray) -> Tensor:
        """Which of some points of the unit cube have the choice of a decision, shape (count,)."""
        if not self.choices[step.name].when:
            return torch.ones(len(points), dtype=torch.bool)
        names = list(self.choices)[: step.axis + 1]
        part = {name: self.choices[name] for name in names}
        return torch.tensor([step.name in space.from_unit(part, p[: len(names)]).choices for p in points])
