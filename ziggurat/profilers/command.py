"""A device that only the user's own commands can reach: a phone behind `adb`, a board behind `ssh`.

The candidate is handed over as an exported file and as JSON; the last command prints measurements. What is
run, and how its output is read, is in sibling modules.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from ziggurat.errors import SpecError
from ziggurat.events import to_plain
from ziggurat.profilers import program, reply
from ziggurat.profilers.inputs import batches
from ziggurat.profilers.setting import DeviceSetting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ziggurat.domain import Candidate, Measurement

PLACEHOLDERS = ("onnx_file", "export_file", "arch_file", "batch_size", "repetitions", "warmup", "scratch")
_NAME = re.compile(r"\$\{([^}]*)\}")
_PLACE = re.compile(r"devices\[\d+\]\.(commands\[\d+\]|identify)\[\d+\]")


def is_placeholder(path: str, name: str, environment: Mapping[str, str]) -> bool:
    """Whether `${name}` at a place of a spec waits for a measurement rather than for the environment.

    In a device's commands the names of `PLACEHOLDERS` do, whatever the environment holds; so does a name
    that the environment lacks, to be refused by the device, which knows what is allowed.
    """
    return _PLACE.fullmatch(path) is not None and (name in PLACEHOLDERS or name not in environment)


def _as_text(raw: object) -> object:
    """A number among arguments as text; YAML does not know that it is one."""
    return str(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) else raw


Argument = Annotated[str, BeforeValidator(_as_text)]
Program = Annotated[list[Argument], Field(min_length=1)]


class CommandDevice(DeviceSetting):
    """A device measured by commands of the user's that print numbers."""

    kind: Literal["command"] = "command"
    commands: list[Program] = Field(
        min_length=1,
        max_length=20,
        description="Programs with their arguments, run in order without a shell; the last one prints "
        "latency_p50_ms=NUMBER (also latency_p90_ms, latency_p99_ms, peak_memory_mb, energy_mj, ...), "
        "samples_ms=[NUMBER, ...], or JSON of such names. ${onnx_file}, ${export_file} (torch.export), "
        "${arch_file} (JSON), ${batch_size}, ${repetitions}, ${warmup} and ${scratch} (a folder) are filled "
        "in for each model, never from the environment; every other ${NAME} is an environment variable.",
    )
    identify: Program | None = Field(
        default=None,
        description="A program that prints what the device is, as NAME=VALUE lines or other lines; numbers "
        "of devices that print different lines are not mixed.",
    )
    timeout_s: float = Field(default=60.0, gt=0, le=86_400, description="Seconds for each command.")
    retries: int = Field(
        default=1, ge=0, le=20, description="Further tries of all commands if one fails or prints nonsense."
    )

    @property
    def longest_s(self) -> float:
        """Seconds that measuring one model can take, all tries included."""
        return self.timeout_s * len(self.commands) * (self.retries + 1)

    @field_validator("commands", "identify")
    @classmethod
    def _known(cls, value: list[list[str]] | list[str] | None) -> list[list[str]] | list[str] | None:
        for part in value or []:
            for text in [part] if isinstance(part, str) else part:
                for name in _NAME.findall(text):
                    if name not in PLACEHOLDERS:
                        raise ValueError(
                            f"${{{name}}} is neither an environment variable nor a placeholder; known are "
                            f"{', '.join(f'${{{p}}}' for p in PLACEHOLDERS)}"
                        )
        return value

    def check(self) -> None:
        """Whether the programs are there; whether they measure only measuring shows.

        Raises:
            SpecError: One is not.
        """
        named = [(f"command {i + 1}", c[0]) for i, c in enumerate(self.commands)]
        named += [("identify", self.identify[0])] if self.identify else []
        for which, name in named:
            if "${" not in name and shutil.which(name) is None:
                raise SpecError(
                    f"devices: '{self.name}' needs the program '{name}' ({which}), which is not found here; "
                    "install it, or write its whole path"
                )

    def describe(self) -> str:
        """What reaches the device."""
        programs = dict.fromkeys(Path(command[0]).name for command in self.commands)
        return f"command ({', '.join(programs)}), batch of {self.batch_size}"

    def fingerprint(self) -> Mapping[str, str]:
        """The commands, the batch size, and what `identify` prints.

        Raises:
            SpecError: `identify` fails.
        """
        commands = hashlib.sha256(json.dumps(self.commands).encode()).hexdigest()[:12]
        found = {"kind": self.kind, "commands": commands, "batch_size": str(self.batch_size)}
        if self.identify is None:
            return found
        lines = self._run("identify", self.identify).splitlines()
        pairs = [line.partition("=") for line in lines if line.strip()]
        named = {name.strip(): value.strip() for name, equals, value in pairs if equals and name.strip()}
        other = " / ".join(name.strip() for name, equals, _ in pairs if not equals)
        return {**found, **named, **({"device": other} if other else {})}

    def profile(
        self, model: nn.Module, example: Tensor, candidate: Candidate | None = None
    ) -> tuple[Measurement, ...]:
        """What the last command prints about a model; percentiles where it prints samples.

        Args:
            model: Left unchanged; a copy is exported.
            example: (n, *shape), of which the first example is repeated to the batch size.
            candidate: Written to `${arch_file}` as JSON.

        Raises:
            SpecError: The model cannot be exported, a command fails or takes too long, or what the last one
                prints is no measurement, each time it is tried.
        """
        with tempfile.TemporaryDirectory(prefix="ziggurat-device-") as folder:
            values = self._files(Path(folder), model, example, candidate)
            for tried in range(self.retries + 1):
                try:
                    return self._measured(values)
                except SpecError as error:
                    if tried == self.retries:
                        after = f" ({tried + 1} tries)" if tried else ""
                        raise SpecError(f"{error}{after}") from None
        raise AssertionError("a loop over at least one try has ended without a result")

    def _files(
        self, folder: Path, model: nn.Module, example: Tensor, candidate: Candidate | None
    ) -> dict[str, str]:
        """Values of the placeholders; files are written if a command names them."""
        used = {name for command in self.commands for text in command for name in _NAME.findall(text)}
        (batch,) = batches(example.detach().cpu(), self.batch_size)
        files: dict[str, tuple[str, Callable[[Path], object]]] = {
            "onnx_file": ("model.onnx", lambda path: _write_onnx(path, model, batch)),
            "export_file": ("model.pt2", lambda path: _write_export(path, model, batch)),
            "arch_file": ("arch.json", lambda path: _write_arch(path, model, batch, candidate)),
        }
        values = {
            "batch_size": str(self.batch_size),
            "repetitions": str(self.repetitions),
            "warmup": str(self.warmup),
            "scratch": str(folder),
        }
        for name in used & set(files):
            path = folder / files[name][0]
            try:
                files[name][1](path)
            except SpecError as error:
                raise SpecError(f"device '{self.name}': {error}") from None
            values[name] = str(path)
        return values

    def _measured(self, values: Mapping[str, str]) -> tuple[Measurement, ...]:
        text, which = "", ""
        for index, command in enumerate(self.commands):
            which = f"command {index + 1} ({Path(command[0]).name})"
            text = self._run(which, [_NAME.sub(lambda m: values[m[1]], part) for part in command])
        try:
            return reply.measurements(text, self.name)
        except ValueError as error:
            raise SpecError(f"device '{self.name}': {which} {error}; {reply.EXPECTED}") from None

    def _run(self, which: str, command: list[str]) -> str:
        """Standard output of a command that has gone well.

        Raises:
            SpecError: It has not.
        """
        begin = f"device '{self.name}': {which}"
        try:
            ended = program.run(command, self.timeout_s)
        except OSError as error:
            raise SpecError(
                f"{begin} cannot be started ({error.strerror}: {command[0]}); correct the command"
            ) from None
        if ended.late:
            raise SpecError(
                f"{begin} did not end within {self.timeout_s:g} s and was ended; raise timeout_s, or see why"
            )
        if ended.code:
            how = f"exit code {ended.code}" if ended.code > 0 else f"signal {-ended.code}"
            said = reply.shown(ended.err if ended.err.strip() else ended.out)
            raise SpecError(f"{begin} failed with {how}, its last words: {said}; exit code 0 is expected")
        return ended.out


def _write_onnx(path: Path, model: nn.Module, batch: Tensor) -> None:
    from ziggurat.profilers.onnx_file import export_onnx

    path.write_bytes(export_onnx(model, batch))


def _write_export(path: Path, model: nn.Module, batch: Tensor) -> None:
    from ziggurat.profilers.torch_file import export_torch

    path.write_bytes(export_torch(model, batch))


def _write_arch(path: Path, model: nn.Module, batch: Tensor, candidate: Candidate | None) -> None:
    import torch

    mode = model.training
    with torch.no_grad():
        classes = int(model.eval()(batch).shape[-1])
    model.train(mode)
    plain = {
        "choices": {} if candidate is None else to_plain(candidate.choices),
        "signature": {"shape": list(batch.shape[1:]), "classes": classes},
        "batch_size": len(batch),
    }
    path.write_text(json.dumps(plain, indent=2), encoding="utf-8")
