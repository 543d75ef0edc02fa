"""Convolutional networks for images, searched at the level of whole blocks (macro search)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ziggurat.choices import Choice, Choices, Range, Values
from ziggurat.domain import Value
from ziggurat.errors import SpecError
from ziggurat.operations import Operation
from ziggurat.setting import Setting
from ziggurat.spaces import bounds

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.domain import Candidate
    from ziggurat.protocols import Signature

BlockChoice = Literal["channels", "kernel", "skip", "pooling"]
_BLOCK: tuple[BlockChoice, ...] = ("channels", "kernel", "skip", "pooling")


class Cnn(Setting):
    """Blocks of one convolution each, with or without skip connection and pooling, and one linear layer.

    A choice of a block is made for each block (`channels_1`, `channels_2`, ...) if `per_block` names it, and
    once for all blocks (`kernel`) otherwise. Pooling halves the map and is left out where the map is already
    one pixel high or wide. The last map is averaged over all its pixels.

    Source of the skip connections: He et al. 2015, Deep Residual Learning, arXiv 1512.03385.
    """

    additive: ClassVar[bool] = True
    """A model is nothing but its operations, so that parameters, FLOPs and size are sums over them."""
    kind: Literal["cnn"] = "cnn"
    depth: Choice = Field(default_factory=lambda: Range(min=1, max=4), description="Blocks, 1 to 20.")
    channels: Choice = Field(
        default_factory=lambda: Values(values=[8, 16, 32, 64]), description="Channels of a block."
    )
    kernel: Choice = Field(
        default_factory=lambda: Values(values=[3, 5]), description="Side of a block's kernel, odd, 1 to 15."
    )
    skip: Choice = Field(
        default_factory=lambda: Values(values=[False, True]),
        description="Whether a block has a skip connection.",
    )
    pooling: Choice = Field(
        default_factory=lambda: Values(values=["max", "avg"]), description="End of a block: none, max or avg."
    )
    per_block: list[BlockChoice] = Field(
        default=["channels"],
        description="Which of these four are chosen for each block on its own.",
    )
    activation: Choice = Field(
        default_factory=lambda: Values(values=["relu", "gelu", "silu"]),
        description=f"Any of {', '.join(bounds.ACTIVATION_NAMES)}.",
    )
    dropout: Choice = Field(
        default_factory=lambda: Range(min=0.0, max=0.4, step=0.1),
        description="Dropout before the last layer.",
    )
    hyperparameters: dict[str, Choice] = Field(
        default_factory=bounds.default_hyperparameters,
        description="Choices beside the architecture, by name.",
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        bounds.whole("depth", self.depth, 1, 20)
        bounds.whole("channels", self.channels, 1, 65_536)
        bounds.among("kernel", self.kernel, range(1, 16, 2))
        bounds.among("skip", self.skip, (False, True))
        bounds.among("pooling", self.pooling, ("none", "max", "avg"))
        bounds.among("activation", self.activation, bounds.ACTIVATION_NAMES)
        bounds.number("dropout", self.dropout, 0, 1)
        bounds.unconditional(self._blocks())
        bounds.unconditional({"depth": self.depth, "activation": self.activation, "dropout": self.dropout})
        bounds.hyperparameters(self.hyperparameters)
        self.choices()
        return self

    def choices(self) -> Choices:
        """Depth, the choices of the blocks, those of the whole network, then hyperparameters."""
        architecture: dict[str, Values | Range] = {"depth": self.depth}
        for name, choice in self._blocks().items():
            many = name in self.per_block
            architecture |= bounds.repeated(name, choice, self.depth) if many else {name: choice}
        architecture |= {"activation": self.activation, "dropout": self.dropout}
        return bounds.joined(architecture, self.hyperparameters)

    def _blocks(self) -> dict[str, Values | Range]:
        return {
            "channels": self.channels,
            "kernel": self.kernel,
            "skip": self.skip,
            "pooling": self.pooling,
        }

    def check(self, signature: Signature) -> None:
        """Refuse data that are no images."""
        bounds.images(self.kind, signature)

    def operations(self, candidate: Candidate, signature: Signature) -> tuple[Operation, ...]:
        """The blocks, then the mean of all pixels with the linear layer."""
        bounds.images(self.kind, signature)
        activation = str(bounds.chosen(candidate, "activation"))
        shape, found = signature.shape, []
        for level in range(1, int(bounds.chosen(candidate, "depth")) + 1):
            block = tuple(bounds.levelled(candidate, name, level) for name in _BLOCK)
            found.append(_block(shape, block, activation))
            shape = _after(found[-1])
        return (*found, _head(shape, signature.classes))

    def all_operations(self, signature: Signature) -> tuple[Operation, ...]:
        """Every block and every end of some candidate, at every shape, once each."""
        self.check(signature)
        return bounds.distinct(self.kind, self._every(signature))

    def _every(self, signature: Signature) -> Iterator[Operation]:
        options = {name: bounds.options(name, choice) for name, choice in self._blocks().items()}
        depths = {int(v) for v in bounds.options("depth", self.depth)}
        # what is chosen once for all blocks ties their shapes together, so it is gone through first
        shared = [[options[n]] if n in self.per_block else [[v] for v in options[n]] for n in _BLOCK]
        for activation, each in product(bounds.options("activation", self.activation), product(*shared)):
            shapes = {signature.shape}
            for level in range(1, max(depths) + 1):
                leaving: set[tuple[int, ...]] = set()
                for shape, block in product(sorted(shapes), product(*each)):
                    operation = _block(shape, block, str(activation))
                    leaving.add(_after(operation))
                    yield operation
                shapes = leaving
                if level in depths:
                    yield from (_head(shape, signature.classes) for shape in sorted(shapes))

    def build_operation(self, operation: Operation) -> nn.Module:
        """(n, *shape) to what the operation leaves; initialised from torch's global generator."""
        from torch import nn

        from ziggurat.spaces.layers import ACTIVATIONS, POOLINGS, ConvBlock

        given = dict(operation.arguments)
        match operation.kind:
            case "block":
                act, pool = ACTIVATIONS[str(given["activation"])](), POOLINGS[str(given["pooling"])]()
                channels = (operation.shape[0], int(given["channels"]))
                return ConvBlock(channels, int(given["kernel"]), skip=bool(given["skip"]), act=act, pool=pool)
            case "head":
                linear = nn.Linear(operation.shape[0], int(given["classes"]))
                return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
        raise SpecError(
            f"operation '{operation.key}' is none of space 'cnn', which has block and head; "
            "use the space that it came from"
        )

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """(n, channels, height, width) to (n, classes); initialised from torch's global generator."""
        from torch import nn

        self.check(signature)
        *blocks, head = [self.build_operation(o) for o in self.operations(candidate, signature)]
        assert isinstance(head, nn.Sequential)
        pool, flatten, linear = head
        dropout = nn.Dropout(float(bounds.chosen(candidate, "dropout")))
        return nn.Sequential(*blocks, pool, flatten, dropout, linear)


def _block(shape: tuple[int, ...], block: Sequence[Value], activation: str) -> Operation:
    """A block by its four choices; a map that is one pixel high or wide already is not pooled."""
    channels, kernel, skip, pooling = block
    arguments = (
        ("channels", channels),
        ("kernel", kernel),
        ("skip", skip),
        ("pooling", pooling if min(shape[1:]) > 1 else "none"),
        ("activation", activation),
    )
    return Operation("block", shape, arguments)


def _head(shape: tuple[int, ...], classes: int) -> Operation:
    return Operation("head", shape, (("classes", classes),))


def _after(block: Operation) -> tuple[int, ...]:
    """The shape that a block leaves."""
    given = dict(block.arguments)
    _, height, width = block.shape
    halves = 1 if given["pooling"] == "none" else 2
    return (int(given["channels"]), height // halves, width // halves)
