"""Operations: the parts of a model whose cost on a device can be measured one by one.

A space that can be taken apart says of each candidate which operations it consists of, at which shapes, and
builds its models from the very same operations; a latency table holds a time for each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ziggurat.domain import Value


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation at one shape.

    Attributes:
        kind: What it is, such as `mbconv` or `sep_conv_3x3`; unique within its space.
        shape: Shape of one input example without the batch, (channels, height, width) or (features,).
        arguments: Everything else that decides what is computed, by name, in a fixed order.
        inputs: How many tensors of that shape go in.
    """

    kind: str
    shape: tuple[int, ...]
    arguments: tuple[tuple[str, Value], ...] = ()
    inputs: int = 1

    @property
    def key(self) -> str:
        """A readable name that is unique within its space, such as `mbconv 16x14x14 kernel=3 stride=2`."""
        words = [self.kind, "x".join(map(str, self.shape))]
        words += [f"{name}={json.dumps(value)}" for name, value in self.arguments]
        words += [f"inputs={self.inputs}"] if self.inputs != 1 else []
        return " ".join(words)
