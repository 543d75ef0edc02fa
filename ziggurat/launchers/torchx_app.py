"""A job in TorchX's terms, and the options of its schedulers, checked before a run begins.

Everything here is plain data: nothing is reached for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml
from torchx import specs
from torchx.schedulers import DEFAULT_SCHEDULER_MODULES

from ziggurat.errors import near
from ziggurat.launchers import batch_words
from ziggurat.launchers.torchx import OURS

if TYPE_CHECKING:
    from ziggurat.launchers.scheduler import Request
    from ziggurat.launchers.torchx import TorchX

ROLE = "job"
"""Name of the one role of every job."""
SUFFIX = "xxxxx"
"""What a dry run shows in place of the random end that TorchX gives to the name of a job."""
LABEL = "ziggurat/job"
"""Label of containers and Kubernetes jobs: the name under which any controller finds them."""
_TYPES = {str: "text", int: "a whole number", bool: "true or false", float: "a number"}


@cache
def _known_options(backend: str) -> Mapping[str, Any]:
    """The options of one of TorchX's schedulers that are the user's; TorchX reads them out of its source."""
    module = importlib.import_module(DEFAULT_SCHEDULER_MODULES[backend])
    options = module.SlurmOpts if backend == "slurm" else module.Opts
    return {name: option for name, option in options.as_runopts() if name not in OURS}


def checked_settings(setting: TorchX) -> dict[str, Any]:
    """The options of a setting, with TorchX's defaults for all others.

    Raises:
        ValueError: One is unknown, ours, missing, or of another type; one line.
    """
    known = _known_options(setting.backend)
    here, given = "launcher.settings", {}
    for name, value in setting.settings.items():
        if name in OURS:
            raise ValueError(f"{here}.{name} is not taken: {OURS[name]}")
        if name not in known:
            raise ValueError(f"{here}.{name} is unknown to {setting.backend}; {near(name, known)}")
        given[name] = _typed(f"{here}.{name}", value, known[name].opt_type)
    for name, option in known.items():
        if option.is_required and name not in given:
            raise ValueError(f"{here}.{name} is missing, {setting.backend} needs it: {option.help}")
    return {name: given.get(name, option.default) for name, option in known.items()}


def _typed(path: str, value: object, wanted: object) -> object:
    """A value in the type that an option has."""
    kind = wanted if isinstance(wanted, type) else str
    if type(value) is kind:
        return value
    hint = ""
    if kind is str and type(value) is int:
        if not path.endswith(".time"):
            return str(value)
        hint = "; put it in quotes, as YAML reads 1:30:00 as the number 5400"
    raise ValueError(f"{path} must be {_TYPES.get(kind, kind.__name__)} (given: {value!r}){hint}")


def parsed_mounts(mounts: Sequence[str]) -> list[Any]:
    """Mounts as TorchX has them.

    Raises:
        ValueError: One cannot be read; one line.
    """
    found = []
    for mount in mounts:
        try:
            found += specs.parse_mounts(mount.split(","))
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise ValueError(
                f"launcher.mounts: '{mount}' cannot be read ({error}); write type=bind,src=PATH,dst=PATH or "
                f"type=volume,src=NAME,dst=PATH, and ,readonly if you like"
            ) from None
    return found


def resource_of(request: Request) -> Any:  # noqa: ANN401
    """What a job needs; memory is the scheduler's to decide where none is asked for."""
    needs = request.resources
    return specs.Resource(
        cpu=needs.cpus, gpu=needs.gpus, memMB=-1 if needs.memory_mb is None else needs.memory_mb
    )


def role_of(request: Request, image: str = "", mounts: Sequence[str] = ()) -> Any:  # noqa: ANN401
    """The one role of a job, with every word as it is: TorchX would take `$` for a macro of its own."""
    program, *arguments = (word.replace("$", "$$") for word in request.command)
    return specs.Role(
        name=ROLE,
        image=image,
        # the program's name is no place for macros
        entrypoint=program.replace("$$", "$"),
        args=arguments,
        env={name: value.replace("$", "$$") for name, value in sorted(request.environment.items())},
        num_replicas=1,
        max_retries=0,
        resource=resource_of(request),
        mounts=parsed_mounts(mounts),
    )


def app_of(name: str, role: Any) -> Any:  # noqa: ANN401
    """A job of one role; TorchX adds a suffix to its name."""
    return specs.AppDef(name=name, roles=[role])


def shown(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for the eyes of anybody, without what may be a secret."""
    return {name: batch_words.shown(name, value) for name, value in environment.items()}


def as_yaml(plain: Any) -> str:  # noqa: ANN401
    """A request as text, with long lines left whole."""
    return yaml.safe_dump(plain, sort_keys=False, width=10_000)
