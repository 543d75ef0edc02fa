"""Mobile inverted bottlenecks: the networks of phones and edge devices, with compound scaling.

The settings, and what a candidate consists of; how operations are written is in `mbconv_operations`, the
layers that they stand for in `mbconv_layers`.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ziggurat.choices import Choice, Choices, Range, Values
from ziggurat.domain import Value
from ziggurat.errors import SpecError
from ziggurat.operations import Operation
from ziggurat.setting import Setting
from ziggurat.spaces import bounds
from ziggurat.spaces import mbconv_operations as make
from ziggurat.spaces.mbconv_operations import Body, Options, Shape, StageOptions
from ziggurat.spaces.scaling import Scaling

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.domain import Candidate
    from ziggurat.protocols import Signature

ACTIVATION_NAMES = ("relu", "relu6", "hard_swish", "silu", "gelu")
BlockChoice = Literal["kernel", "expansion", "squeeze_excite"]
_BLOCK: tuple[BlockChoice, ...] = ("kernel", "expansion", "squeeze_excite")
_STAGE = ("width", "depth", "stride")
_WIDEST = 8192


class Stage(Setting):
    """Blocks of one width; the first may shrink the map and changes the width, the others are added to it."""

    width: Choice = Field(description="Channels that leave each block, 1 to 8192.")
    depth: Choice = Field(default_factory=lambda: Values(values=[1, 2]), description="Blocks, 1 to 20.")
    stride: Choice = Field(
        default_factory=lambda: Values(values=[1]), description="Stride of the first block: 1 or 2."
    )
    kernel: Choice = Field(
        default_factory=lambda: Values(values=[3, 5]),
        description="Side of the depthwise kernels, odd, 3 to 15.",
    )
    expansion: Choice = Field(
        default_factory=lambda: Values(values=[3, 6]),
        description="Channels inside a block for each one that enters it, 1 to below 32.",
    )
    squeeze_excite: Choice = Field(
        default_factory=lambda: Values(values=[0, 0.25]),
        description="Squeezed channels as a share of those that enter the block, below 1; 0 for none.",
    )

    def hold(self, place: str) -> None:
        """Hold the choices against what a block can be; `place` is the stage in the user's keys."""
        bounds.whole(f"{place}.width", self.width, 1, _WIDEST)
        bounds.whole(f"{place}.depth", self.depth, 1, 20)
        bounds.among(f"{place}.stride", self.stride, (1, 2))
        bounds.among(f"{place}.kernel", self.kernel, range(3, 16, 2))
        bounds.number(f"{place}.expansion", self.expansion, 1, 32)
        bounds.number(f"{place}.squeeze_excite", self.squeeze_excite, 0, 1)
        for name in (*_STAGE, *_BLOCK):
            choice: Values | Range = getattr(self, name)
            bounds.unconditional({f"{place}.{name}": choice})
            bounds.options(f"{place}.{name}", choice)


def _stages() -> list[Stage]:
    widths, strides = ([16, 24], [24, 40], [48, 80]), (1, 2, 2)
    return [Stage(width=w, stride=s) for w, s in zip(widths, strides, strict=True)]


class Mbconv(Setting):
    """A convolution (stem), stages of inverted bottlenecks, a 1 x 1 convolution (head) and a linear layer.

    What can take one value only is fixed and is no choice. The choices of stage 2 are `width_2`, `depth_2`,
    ...; one that `per_block` names is made for each block: `kernel_2_1`, `kernel_2_2`, .... Blocks that
    scaling adds to a stage are like the last one chosen.

    Source: Sandler et al. 2018, MobileNetV2, arXiv 1801.04381; Tan et al. 2019, MnasNet, arXiv 1807.11626.
    """

    additive: ClassVar[bool] = True
    """A model is nothing but its operations, so that parameters, FLOPs and size are sums over them."""
    kind: Literal["mbconv"] = "mbconv"
    stem: Choice = Field(
        default_factory=lambda: Values(values=[16]), description="Channels of the 3 x 3 stem, 1 to 8192."
    )
    stem_stride: Choice = Field(
        default_factory=lambda: Values(values=[1]), description="Stride of the stem: 1 or 2."
    )
    stages: list[Stage] = Field(
        default_factory=_stages, min_length=1, max_length=20, description="Stages in the order of the data."
    )
    head: Choice = Field(
        default_factory=lambda: Values(values=[128]), description="Channels of the head; 0 for none."
    )
    activation: Choice = Field(
        default_factory=lambda: Values(values=["relu", "hard_swish"]),
        description=f"One for the whole network: any of {', '.join(ACTIVATION_NAMES)}.",
    )
    dropout: Choice = Field(
        default_factory=lambda: Values(values=[0.0]), description="Dropout before the last layer."
    )
    scaling: Scaling = Field(default_factory=Scaling, description="Compound scaling by one coefficient.")
    per_block: list[BlockChoice] = Field(
        default=[],
        description="Which of kernel, expansion and squeeze_excite are chosen for each block on its own.",
    )
    hyperparameters: dict[str, Choice] = Field(
        default_factory=bounds.default_hyperparameters,
        description="Choices beside the architecture, by name.",
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        bounds.whole("stem", self.stem, 1, _WIDEST)
        bounds.among("stem_stride", self.stem_stride, (1, 2))
        bounds.whole("head", self.head, 0, _WIDEST)
        bounds.among("activation", self.activation, ACTIVATION_NAMES)
        bounds.number("dropout", self.dropout, 0, 1)
        bounds.number("scaling.coefficient", self.scaling.coefficient, 0, 10)
        bounds.options("scaling.coefficient", self.scaling.coefficient)
        for place, stage in enumerate(self.stages):
            stage.hold(f"stages[{place}]")
        bounds.unconditional({**self._ends(), "scaling.coefficient": self.scaling.coefficient})
        bounds.hyperparameters(self.hyperparameters)
        self.choices()
        return self

    def choices(self) -> Choices:
        """Those of stem, stages, head and the whole network that are not fixed; then hyperparameters."""
        ends = self._ends()
        found = {name: ends.pop(name) for name in ("stem", "stem_stride")}
        for number, stage in enumerate(self.stages, start=1):
            found |= {f"{name}_{number}": getattr(stage, name) for name in _STAGE}
            for name in _BLOCK:
                choice: Values | Range = getattr(stage, name)
                many = name in self.per_block and choice.size > 1
                key = f"{name}_{number}"
                found |= (
                    bounds.repeated(key, choice, stage.depth, f"depth_{number}") if many else {key: choice}
                )
        found |= {**ends, "coefficient": self.scaling.coefficient}
        return bounds.joined({n: c for n, c in found.items() if c.size > 1}, self.hyperparameters)

    def _ends(self) -> dict[str, Values | Range]:
        return {
            "stem": self.stem,
            "stem_stride": self.stem_stride,
            "head": self.head,
            "activation": self.activation,
            "dropout": self.dropout,
        }

    def check(self, signature: Signature) -> None:
        """Refuse data that are no images, and strides that leave less than a pixel of them."""
        bounds.images(self.kind, signature)
        lowest = min(float(v) for v in bounds.options("scaling.coefficient", self.scaling.coefficient))
        now = self.scaling.resized(signature.shape, lowest)
        strides = {"stem_stride": self.stem_stride}
        strides |= {f"stages[{place}].stride": stage.stride for place, stage in enumerate(self.stages)}
        for name, choice in strides.items():
            stride = max(int(v) for v in bounds.options(name, choice))
            if min(now[1:]) < stride:
                raise SpecError(
                    f"space.{name} can be {stride}, but the map before it can be {now[1]} x {now[2]} already "
                    f"(an example has shape {signature.shape}); use stride 1 there or before or larger images"
                )
            now = make.after(now, (now[0], stride))

    def operations(self, candidate: Candidate, signature: Signature) -> tuple[Operation, ...]:
        """Resizing (if any), stem, blocks and head, each as often as it occurs, in order."""
        bounds.images(self.kind, signature)
        activation = str(_picked(candidate, "activation", self.activation))
        phi = float(_picked(candidate, "coefficient", self.scaling.coefficient))
        shape = self.scaling.resized(signature.shape, phi)
        found = [make.resize(signature.shape, shape)] if shape != signature.shape else []
        width = self.scaling.widened(int(_picked(candidate, "stem", self.stem)), phi)
        out = (width, int(_picked(candidate, "stem_stride", self.stem_stride)))
        found.append(make.stem(shape, out, activation))
        shape = make.after(shape, out)
        for number, stage in enumerate(self.stages, start=1):
            width = self.scaling.widened(int(_picked(candidate, f"width_{number}", stage.width)), phi)
            out = (width, int(_picked(candidate, f"stride_{number}", stage.stride)))
            depth = int(_picked(candidate, f"depth_{number}", stage.depth))
            levels = range(1, depth + 1 if self.per_block else 2)
            bodies = [_body(candidate, stage, number, level) for level in levels]
            bodies += bodies[-1:] * (self.scaling.deepened(depth, phi) - len(bodies))
            for body in bodies:
                found.append(make.block(shape, body, out, activation))
                shape, out = make.after(shape, out), (width, 1)
        width = self.scaling.widened(int(_picked(candidate, "head", self.head)), phi)
        found.append(make.head(shape, width, signature.classes, activation))
        return tuple(found)

    def all_operations(self, signature: Signature) -> tuple[Operation, ...]:
        """Every operation of some candidate at every shape, at all coefficients, once each."""
        self.check(signature)
        coefficients = bounds.options("scaling.coefficient", self.scaling.coefficient)
        activations = bounds.options("activation", self.activation)
        found = (
            operation
            for phi, activation in product(coefficients, activations)
            for operation in make.every(
                self._options(signature.shape, float(phi)), str(activation), signature.classes
            )
        )
        return bounds.distinct(self.kind, found)

    def _options(self, shape: Shape, phi: float) -> Options:
        """All that a network can be at one coefficient."""

        def numbers(choice: Values | Range) -> list[int]:
            return [int(v) for v in bounds.options("", choice)]

        def widths(choice: Values | Range) -> list[int]:
            # scaling may round different widths to one
            return list(dict.fromkeys(self.scaling.widened(v, phi) for v in numbers(choice)))

        stages = tuple(
            StageOptions(
                tuple(product(widths(stage.width), numbers(stage.stride))),
                tuple(product(*(bounds.options(name, getattr(stage, name)) for name in _BLOCK))),
                self.scaling.deepened(max(numbers(stage.depth)), phi) > 1,
            )
            for stage in self.stages
        )
        stems = tuple(product(widths(self.stem), numbers(self.stem_stride)))
        resized = self.scaling.resized(shape, phi)
        return Options(shape, resized, stems, stages, tuple(widths(self.head)))

    def build_operation(self, operation: Operation) -> nn.Module:
        """(n, *shape) to what the operation leaves; initialised from torch's global generator."""
        from ziggurat.spaces.mbconv_layers import module

        return module(operation)

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """(n, channels, height, width) to (n, classes); initialised from torch's global generator."""
        from torch import nn

        from ziggurat.spaces.mbconv_layers import Head

        self.check(signature)
        model = nn.Sequential(*(self.build_operation(o) for o in self.operations(candidate, signature)))
        head = model[-1]
        assert isinstance(head, Head)
        head.dropout.p = float(_picked(candidate, "dropout", self.dropout))
        return model


def _picked(candidate: Candidate, name: str, choice: Values | Range) -> Value:
    """A choice of a candidate, or what it is fixed to."""
    if name in candidate.choices or choice.size > 1:
        return bounds.chosen(candidate, name)
    return choice.at(0.5)


def _body(candidate: Candidate, stage: Stage, number: int, level: int) -> Body:
    """The inside of a block, whether it is chosen for the stage or for the block."""
    chosen, found = candidate.choices, []
    for name in _BLOCK:
        key = f"{name}_{number}"
        own = f"{key}_{level}"
        found.append(chosen[own] if own in chosen else _picked(candidate, key, getattr(stage, name)))
    return tuple(found)
