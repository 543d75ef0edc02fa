"""A network whose early parts stay as they are and whose numbers may be rounded, as one module to train."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from ziggurat.spaces.quantised import Grid, Integer, Norm, Quantised, Rounding
from ziggurat.spaces.rounding import replace


class LastMile(nn.Module):
    """A network with frozen parts and rounded layers.

    Frozen parts have no gradients and stay in evaluation mode whatever mode the whole is put into, so that
    their norms keep their statistics. What rounds activations is no part of them: it observes
    ranges everywhere.
    """

    def __init__(
        self,
        network: nn.Module,
        frozen: Sequence[nn.Module],
        rounded: Sequence[tuple[Quantised, Norm | None]],
    ) -> None:
        super().__init__()
        self.network = network
        # lists, so that torch does not take the modules for further children
        self._frozen, self._rounded = list(frozen), list(rounded)

    def forward(self, x: Tensor) -> Tensor:
        """What the network gives, (n, *shape) to (n, classes)."""
        answer: Tensor = self.network(x)
        return answer

    def train(self, mode: bool = True) -> LastMile:
        """Set the mode of everything that is not frozen."""
        super().train(mode)
        for module in self._frozen:
            module.training = False
        return self

    def size_bytes(self) -> float:
        """Bytes of the state when rounded weights are stored in their bits, with a scale for each output."""
        state: int = sum(t.numel() * t.element_size() for t in self.state_dict().values())
        return state - sum(layer.saved_bytes() for layer, _ in self._rounded)

    def deployed(self) -> nn.Module:
        """The network as it is shipped: a copy in evaluation mode, rounded weights as 8-bit integers.

        Norms behind rounded layers are folded into them. It computes what this module computes in
        evaluation mode, and exports to a graph that runtimes run in integers.
        """
        twin = copy.deepcopy(self).eval()
        network = twin.network
        for layer, norm in twin._rounded:
            replace(network, layer, Integer(layer, norm))
            if norm is not None:
                replace(network, norm, nn.Identity())
        for module in list(network.modules()):
            if isinstance(module, Rounding):
                replace(network, module, Grid(module))
        return network
