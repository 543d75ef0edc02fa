"""Operations of the space `mbconv`: how each is written, the shape it leaves, and all that can occur."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from ziggurat.domain import Value
from ziggurat.operations import Operation

Shape = tuple[int, ...]
Body = tuple[Value, ...]
"""Kernel, expansion and squeeze_excite of a block."""
Out = tuple[int, int]
"""Width and stride of a block or of the stem."""


@dataclass(frozen=True)
class StageOptions:
    """All that a stage can be at one coefficient.

    Attributes:
        outs: Widths and strides of the first block.
        bodies: Insides of a block.
        deep: Whether there can be a second block.
    """

    outs: tuple[Out, ...]
    bodies: tuple[Body, ...]
    deep: bool


@dataclass(frozen=True)
class Options:
    """All that a network can be at one coefficient.

    Attributes:
        example: Shape of an example.
        resized: Shape of an example as the stem sees it.
        stems: Widths and strides of the stem.
        stages: Stages in order.
        heads: Widths of the head.
    """

    example: Shape
    resized: Shape
    stems: tuple[Out, ...]
    stages: tuple[StageOptions, ...]
    heads: tuple[int, ...]


def after(shape: Shape, out: Out) -> Shape:
    """The shape that a stem or a block leaves: its width, and the map divided by its stride, rounded up."""
    width, stride = out
    return (width, -(-shape[1] // stride), -(-shape[2] // stride))


def resize(shape: Shape, resized: Shape) -> Operation:
    """Resizing of an example."""
    return Operation("resize", shape, (("height", resized[1]), ("width", resized[2])))


def stem(shape: Shape, out: Out, activation: str) -> Operation:
    """The first convolution."""
    return Operation("stem", shape, (("width", out[0]), ("stride", out[1]), ("activation", activation)))


def block(shape: Shape, body: Body, out: Out, activation: str) -> Operation:
    """An inverted bottleneck; it is residual if it leaves the shape that it takes."""
    kernel, expansion, squeeze_excite = body
    arguments = (
        ("kernel", kernel),
        ("expansion", expansion),
        ("squeeze_excite", squeeze_excite),
        ("width", out[0]),
        ("stride", out[1]),
        ("activation", activation),
    )
    return Operation("mbconv", shape, arguments)


def head(shape: Shape, width: int, classes: int, activation: str) -> Operation:
    """The last convolution (none if `width` is 0), the mean of all pixels and the linear layer."""
    arguments: tuple[tuple[str, Value], ...] = (("width", width), ("classes", classes))
    return Operation("head", shape, (*arguments, ("activation", activation)) if width else arguments)


def every(network: Options, activation: str, classes: int) -> Iterator[Operation]:
    """Each operation of some network at least once, without going through the networks one by one.

    Whatever precedes a stage matters to it only through the shape that it leaves, and any of the shapes that
    can be there may be followed by any of the stage's options; so shapes are enumerated, not networks.
    """
    if network.resized != network.example:
        yield resize(network.example, network.resized)
    shapes: set[Shape] = set()
    for out in network.stems:
        yield stem(network.resized, out, activation)
        shapes.add(after(network.resized, out))
    for stage in network.stages:
        leaving: set[Shape] = set()
        for shape, out in product(sorted(shapes), stage.outs):
            left = after(shape, out)
            leaving.add(left)
            for body in stage.bodies:
                yield block(shape, body, out, activation)
                if stage.deep:
                    yield block(left, body, (out[0], 1), activation)
        shapes = leaving
    for shape, width in product(sorted(shapes), network.heads):
        yield head(shape, width, classes, activation)
