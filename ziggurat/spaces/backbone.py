"""The last mile: an existing network whose last blocks are trained, whose channels and bits are searched.

Weights come from a file that the user gives, or, with `transfer: false`, from nothing. What is searched is
how much is trained, how many channels layers lose and how many bits their weights have, beside any choices
that the user's function takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from ziggurat import choices as choice_rules
from ziggurat.choices import Choice, Choices, Range, Values
from ziggurat.errors import SpecError
from ziggurat.imports import FunctionName
from ziggurat.setting import Setting
from ziggurat.spaces import bounds, named
from ziggurat.spaces.called import network_from, run
from ziggurat.spaces.lastmile_settings import FULL, PruneSetting, QuantiseSetting

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.domain import Candidate, Value
    from ziggurat.protocols import Signature
    from ziggurat.spaces.pretrained import Loaded


class Backbone(Setting):
    """A network that a function makes: weights from a file, last blocks trained, pruned and quantised.

    Without `choices` the function is called with the data's signature, or with nothing if it needs nothing;
    with them, with (choices, signature) or (choices), and weights are taken over where name and shape agree.
    The classifier is the last convolution or linear layer; for other classes a fresh one takes its place.
    """

    kind: Literal["backbone"] = "backbone"
    function: FunctionName = Field(
        description="module:function, on sys.path or in the working directory; it returns an nn.Module."
    )
    weights: Path | None = Field(
        default=None,
        description="File of weights: a state dict, or a checkpoint that holds one, by torch.save.",
    )
    transfer: bool = Field(
        default=True, description="Begin with the weights; false: from scratch, and nothing is frozen."
    )
    declared: dict[str, Choice] = Field(
        default_factory=dict, alias="choices", description="Choices that the function takes, by name."
    )
    blocks: list[str] | None = Field(
        default=None,
        description="Names of the blocks in order; by default the network's children that hold weights.",
    )
    unfrozen: Choice | None = Field(
        default=None, description="How many of the last blocks are trained; null: all are."
    )
    prune: PruneSetting | None = Field(default=None, description="Channels taken out of layers.")
    quantise: QuantiseSetting | None = Field(default=None, description="Bits of the weights of layers.")
    hyperparameters: dict[str, Choice] = Field(
        default_factory=bounds.default_hyperparameters,
        description="Choices beside the architecture, by name.",
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        if self.transfer and self.weights is None:
            raise ValueError(
                "transfer is true, but weights names no file; name one, or set transfer: false to train from "
                "scratch"
            )
        if self.blocks is not None:
            named.well_formed(self.blocks, "blocks")
        if self.unfrozen is not None:
            bounds.whole("unfrozen", self.unfrozen, 1, len(self.blocks) if self.blocks else 1000)
            bounds.unconditional({"unfrozen": self.unfrozen})
        bounds.hyperparameters(self.hyperparameters)
        self.choices()
        return self

    def choices(self) -> Choices:
        """The declared choices, blocks trained, channels, bits, then hyperparameters."""
        own: dict[str, Values | Range] = {}
        if self.unfrozen is not None and self.transfer:
            own["unfrozen"] = self.unfrozen
        own |= self.prune.choices() if self.prune is not None else {}
        own |= self.quantise.choices() if self.quantise is not None else {}
        both = [name for name in self.declared if name in own]
        if both:
            raise ValueError(f"choices.{both[0]} has the name of a choice of the space itself; rename it")
        if not self.declared and not own:
            raise ValueError("the space is empty; give prune, quantise, unfrozen or choices")
        return bounds.joined({**self.declared, **own}, self.hyperparameters)

    def check(self, signature: Signature) -> None:
        """Build a candidate of the lowest values and one of the highest, and run an example through both."""
        import torch

        for candidate in self._corners():
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                model = self.build(candidate, signature).eval()
                shape = tuple(run(self.function, model, torch.zeros(1, *signature.shape)).shape)
            if shape != (1, signature.classes):
                raise SpecError(
                    f"space.function '{self.function}': its network gives shape {shape} for one example, not "
                    f"(1, {signature.classes}); let its last layer give a number for each class"
                )

    def notes(self, signature: Signature) -> list[str]:
        """What there is to know of the weights and bits before money is spent."""
        import torch

        with torch.random.fork_rng(devices=[]):
            network, loaded, replaced = self._begun(self._corners()[0], signature)
        if loaded is None:
            notes = ["from scratch: no weights are loaded and nothing is frozen"]
        else:
            total = len(network.state_dict())
            fresh = f"; {len(loaded.fresh)} begin afresh, such as {loaded.fresh[0]}" if loaded.fresh else ""
            notes = [f"{len(loaded.taken)} of {total} tensors come from {self.weights}{fresh}"]
        if replaced:
            notes.append(replaced)
        if self.quantise is not None and self.quantise.least < 8:  # noqa: PLR2004 - what runtimes run
            notes.append(
                "4-bit weights count in model_size_mb alone; they are exported and run as 8-bit ones"
            )
        return notes

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """(n, *shape) to (n, classes); what is not loaded is initialised from torch's global generator."""
        from ziggurat.spaces import anatomy
        from ziggurat.spaces.lastmile import LastMile
        from ziggurat.spaces.rounding import calibrate, quantise

        network, loaded, _ = self._begun(candidate, signature)
        self._prune(network, candidate, signature)
        frozen = self._freeze(network, candidate, loaded)
        bits = self._bits(network, candidate)
        if not bits:
            return LastMile(network, frozen, [])
        seen = anatomy.trace_of(self.function, self._picked(candidate), signature)
        rounded = quantise(network, bits, seen)
        if not any(p.is_meta for p in network.parameters()):
            calibrate(network, signature.shape)
        return LastMile(network, frozen, rounded)

    def _corners(self) -> list[Candidate]:
        choices = self.choices()
        return [choice_rules.from_unit(choices, [unit] * len(choices)) for unit in (0.0, 1.0 - 1e-9)]

    def _picked(self, candidate: Candidate) -> dict[str, Value] | None:
        """What the function gets; None if no choices are declared."""
        found = {name: candidate.choices[name] for name in self.declared if name in candidate.choices}
        return found if self.declared else None

    def _begun(
        self, candidate: Candidate, signature: Signature
    ) -> tuple[nn.Module, Loaded | None, str | None]:
        """The function's network with weights and a fitting classifier, and what has been done to it."""
        from ziggurat.spaces import pretrained

        network = network_from(self.function, self._picked(candidate), signature)
        head = named.head_of(network)
        loaded = None
        # counting on the meta device needs no weights
        if self.transfer and self.weights is not None and not any(p.is_meta for p in network.parameters()):
            loaded = pretrained.load(network, self.weights, head, partial=bool(self.declared))
        return network, loaded, pretrained.replace_head(network, head, signature.classes)

    def _prune(self, network: nn.Module, candidate: Candidate, signature: Signature) -> None:
        if self.prune is None:
            return
        from ziggurat.spaces import anatomy, pruning

        head = named.head_of(network)
        entries = named.resolve(network, self.prune.layers, "space.prune", without=head)
        cuts = [
            pruning.Cut(entry, layers, float(bounds.chosen(candidate, f"prune_{number}")))
            for number, (entry, layers) in enumerate(entries, start=1)
        ]
        found = anatomy.bundles_of(self.function, self._picked(candidate), signature)
        norm = int(self.prune.importance.removeprefix("l"))
        plans = pruning.chosen(cuts, found, head)
        pruning.prune(network, plans, norm=norm, round_to=self.prune.round_to)

    def _freeze(self, network: nn.Module, candidate: Candidate, loaded: Loaded | None) -> list[nn.Module]:
        """Freeze everything but the last blocks; the modules that stay as they are."""
        if self.unfrozen is None or not self.transfer:
            return []
        from ziggurat.spaces.freezing import freeze

        count = int(bounds.chosen(candidate, "unfrozen"))
        return freeze(network, self.blocks, count, fresh=loaded.fresh if loaded else ())

    def _bits(self, network: nn.Module, candidate: Candidate) -> dict[str, int]:
        """Bits of the weights of the layers that are rounded."""
        if self.quantise is None:
            return {}
        from ziggurat.spaces.quantised import plain

        found: dict[str, int] = {}
        entries = named.resolve(network, self.quantise.layers, "space.quantise")
        own = [n for _, layers in entries for n in layers if not plain(network.get_submodule(n))]
        if own:
            kind = type(network.get_submodule(own[0])).__name__
            raise SpecError(
                f"space.quantise.layers: '{own[0]}' is a {kind}, which computes something of its own; "
                "name convolutions and linear layers of torch"
            )
        for number, (_, layers) in enumerate(entries, start=1):
            bits = int(bounds.chosen(candidate, f"bits_{number}"))
            found |= dict.fromkeys(layers, bits) if bits < FULL else {}
        return found
