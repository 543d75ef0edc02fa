"""Functions of the user's own modules, named in YAML as `module:function`.

Modules are looked for on `sys.path` and in the current working directory, which comes last so that a user's
`random.py` does not hide the standard library's. Only Python's import system is used, never a shell.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from ziggurat.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def well_formed(name: str) -> str:
    """The name itself, if it reads `module:function`.

    Raises:
        ValueError: It does not.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("it must read module:function, such as my_package.models:build")
    return name


FunctionName = Annotated[str, AfterValidator(well_formed)]
"""A field that names a function as `module:function`."""


def first_line(error: BaseException) -> str:
    """Kind and first line of an error's text."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def import_function(name: str, field: str) -> Callable[..., Any]:
    """The function behind `module:function`.

    Args:
        name: Such as `my_package.models:build`.
        field: Key of the spec that names it, for messages.

    Raises:
        SpecError: There is no such module or function, or importing the module fails.
    """
    try:
        module_name, _, function_name = well_formed(name).partition(":")
    except ValueError as error:
        raise SpecError(f"{field} is '{name}': {error}") from None
    _see_working_directory()
    module = _import_module(name, module_name, field)
    function = getattr(module, function_name, None)
    if function is None:
        raise SpecError(
            f"{field} is '{name}', but module '{module_name}' ({getattr(module, '__file__', None)}) has no "
            f"'{function_name}'; define it there or correct the name"
        )
    if not callable(function):
        raise SpecError(
            f"{field} is '{name}', which is a {type(function).__name__}, not a function; name a function"
        )
    return function  # type: ignore[no-any-return]


def accepts(function: Callable[..., Any], *arguments: object, **named: object) -> bool:
    """Whether a call with these arguments fits the function's parameters; True if they cannot be known."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    except ValueError:  # functions written in C may not tell their parameters
        return True
    return True


def _see_working_directory() -> None:
    try:
        here = str(Path.cwd())
    except OSError:  # the working directory has been removed
        return
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()


def _import_module(name: str, module_name: str, field: str) -> object:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise SpecError(
                f"{field} is '{name}', but there is no module '{missing}' on sys.path or in the working "
                f"directory {Path.cwd()}; start from the directory that holds it or correct the name"
            ) from None
        raise SpecError(
            f"{field} is '{name}', but importing '{module_name}' needs the module '{missing}', which is not "
            "installed; install it"
        ) from error
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"{field} is '{name}', but importing '{module_name}' raised {first_line(error)}; fix the module"
        ) from error
