"""Argument lists with `${NAME}` in them: what a name stands for, and how choices become arguments.

An argument that holds a choice as `${NAME}` gets its value; `${args}` alone becomes the arguments of all
choices that the candidate has. Nothing here goes through a shell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ziggurat.domain import Value
from ziggurat.errors import SpecError, near

PLACEHOLDERS: Mapping[str, str] = {
    "args": "all choices as --name value, each an argument of its own",
    "args_no_hyphens": "all choices as name=value, each an argument of its own",
    "args_json": "all choices as a JSON object",
    "args_json_file": "path of a file with that object",
    "arch_file": 'path of a JSON file: {"choices": {...}, "trial", "seed", "epochs", "data_fraction"}',
    "epochs": "epochs in total when the training ends, those before a checkpoint included",
    "epochs_left": "of these, the ones that this start of the script is to train",
    "top_epochs": "epochs of the last rung, which a learning-rate schedule should span",
    "data_fraction": "fraction of the training data to use",
    "checkpoint_dir": "folder for checkpoints; what is kept from one rung to the next",
    "output_dir": "folder for anything else, empty at every start",
    "metrics_file": "path of the JSON-lines file that is always read for metrics",
    "trial_id": "number of the trial",
    "seed": "seed of the training",
    "run_id": "identity of the run",
    "stage": "stage of the pipeline, such as search or retrain",
    "rung": "rung to reach, from 0",
    "device": "name of the device; in profile commands",
    "python": "the Python that Ziggurat runs under",
}
"""Names that are filled in for every start of a script, with what they stand for."""
SPREAD = ("args", "args_no_hyphens")
"""Placeholders that become several arguments, and so must stand alone."""
WHOLE = {*SPREAD, "args_json", "args_json_file", "arch_file"}
"""Placeholders that hand over all choices."""
_NAME = re.compile(r"\$\{([^}]*)\}")
_PLACE = re.compile(
    r"(search|retrain)\.trainer\.(command|resume|working_directory|environment|metrics|test|profile)\b.*"
)

Booleans = Literal["flag", "value", "no"]


def is_placeholder(path: str, name: str, environment: Mapping[str, str]) -> bool:
    """Whether `${name}` at a place of a spec is filled in for a training rather than from the environment.

    In a script's commands, files and environment the names of `PLACEHOLDERS` are, and names of choices. A
    name in capitals that the environment has is the environment's.
    """
    if _PLACE.fullmatch(path) is None:
        return False
    return name in PLACEHOLDERS or not (name == name.upper() and name in environment)


def _as_text(raw: object) -> object:
    """A number among arguments as text; YAML does not know that it is one."""
    return str(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) else raw


Argument = Annotated[str, BeforeValidator(_as_text)]
Group = Annotated[list[Argument], Field(min_length=1)]
Arguments = list[Argument | Group]
"""Arguments; a list among them is left out whole if it names a choice that a candidate does not have."""


def texts(arguments: Iterable[str | Sequence[str]]) -> Iterator[str]:
    """Every argument, those of inner lists as well."""
    for part in arguments:
        yield from [part] if isinstance(part, str) else part


def names(parts: Iterable[str]) -> set[str]:
    """Names of the placeholders in some texts."""
    return {name for text in parts for name in _NAME.findall(text)}


def as_text(value: Value) -> str:
    """A value of a choice as an argument."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Filling:
    """What placeholders stand for in one start of a script.

    Attributes:
        values: Values of placeholders by name.
        choices: The candidate's choices, those that it has.
        flags: What the script calls a choice, where that is not its name.
        booleans: How a choice that is true or false is handed over by `${args}`.
    """

    values: Mapping[str, str]
    choices: Mapping[str, Value]
    flags: Mapping[str, str]
    booleans: Booleans = "flag"

    def words(self, arguments: Iterable[str | Sequence[str]]) -> list[str]:
        """An argument list, filled in.

        Raises:
            SpecError: An argument outside of an inner list names a choice that the candidate does not have.
        """
        found: list[str] = []
        for part in arguments:
            if isinstance(part, str):
                found += self._argument(part)
            elif all(name in self.values or name in self.choices or name in SPREAD for name in names(part)):
                found += [word for text in part for word in self._argument(text)]
        return found

    def text(self, text: str) -> str:
        """A text, filled in.

        Raises:
            SpecError: It names what is not known here.
        """
        return _NAME.sub(lambda match: self._value(match[1]), text)

    def _argument(self, text: str) -> list[str]:
        if text == "${args}":
            return self.flagged()
        return self.assigned() if text == "${args_no_hyphens}" else [self.text(text)]

    def _value(self, name: str) -> str:
        if name in self.values:
            return self.values[name]
        if name in self.choices:
            return as_text(self.choices[name])
        raise SpecError(
            f"trainer.command: this candidate has no choice '{name}'; put the arguments that need it into a "
            f'list of their own, such as [--{name}, "${{{name}}}"]'
        )

    def flagged(self) -> list[str]:
        """All choices as flags with their values."""
        found: list[str] = []
        for name, value in self.choices.items():
            flag = self.flags.get(name, f"--{name}")
            flag = flag if flag.startswith("-") else f"--{flag}"
            if not isinstance(value, bool) or self.booleans == "value":
                found += [flag, as_text(value)]
            elif value:
                found.append(flag)
            elif self.booleans == "no":
                found.append(f"--no-{flag.lstrip('-')}")
        return found

    def assigned(self) -> list[str]:
        """All choices as name=value."""
        return [
            f"{self.flags.get(name, name).lstrip('-')}={as_text(value)}"
            for name, value in self.choices.items()
        ]

    def json(self) -> str:
        """All choices as a JSON object."""
        return json.dumps(dict(self.choices))


def check_form(parts: Iterable[str]) -> None:
    """Hold texts against what can be said of them before the space is known.

    Raises:
        ValueError: A placeholder has no name or does not stand alone; or it is begun and not ended.
    """
    for text in parts:
        if "${" in _NAME.sub("", text):
            raise ValueError(f"'{text}' begins a placeholder and does not end it; write ${{NAME}}")
        for name in _NAME.findall(text):
            if not name:
                raise ValueError(f"'{text}' holds a placeholder without a name; write ${{NAME}}")
            if name in SPREAD and text != f"${{{name}}}":
                raise ValueError(
                    f"'{text}': ${{{name}}} becomes several arguments and must be one of its own; "
                    "write ${args_json} for a single text"
                )


def check_names(where: str, parts: Iterable[str], parameters: Collection[str]) -> None:
    """Hold placeholders against those that there are.

    Args:
        where: The key, for messages.
        parts: Texts of it.
        parameters: Names of the space's choices.

    Raises:
        SpecError: One is not known.
    """
    for text in parts:
        for name in _NAME.findall(text):
            if name not in PLACEHOLDERS and name not in parameters:
                raise SpecError(
                    f"{where}: ${{{name}}} is no choice of the space, no placeholder and no environment "
                    f"variable; {near(name, [*parameters, *PLACEHOLDERS])}"
                )
