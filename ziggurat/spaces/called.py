"""A network from a user's function, called with what it takes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ziggurat.errors import SpecError
from ziggurat.imports import accepts, first_line, import_function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from ziggurat.domain import Value
    from ziggurat.protocols import Signature

_FIELD = "space.function"


def network_from(name: str, picked: Mapping[str, Value] | None, signature: Signature) -> nn.Module:
    """What a function returns.

    Args:
        name: Of the function, `module:function`.
        picked: The choices that it gets; None if none are declared.
        signature: Shape of the data, which it gets if it takes it.

    Raises:
        SpecError: There is no such function, it fails, or it returns something else than an `nn.Module`.
    """
    from torch import nn

    function, arguments = prepared(name, picked, signature)
    about = f" for {dict(picked)}" if picked else ""
    try:
        network = function(*arguments)
    except MemoryError:
        raise
    except Exception as error:
        raise SpecError(
            f"{_FIELD} '{name}' raised {first_line(error)}{about}; fix the function or narrow the choices"
        ) from error
    if not isinstance(network, nn.Module):
        raise SpecError(f"{_FIELD} '{name}' returned a {type(network).__name__}{about}; return an nn.Module")
    return network


def run(name: str, network: nn.Module, example: Tensor) -> Tensor:
    """What a network gives for an example, (1, *shape), in the mode that it is in.

    Raises:
        SpecError: It fails.
    """
    try:
        answer: Tensor = network(example)
    except MemoryError:
        raise
    except Exception as error:
        raise SpecError(
            f"{_FIELD} '{name}': its network fails on an example of shape {tuple(example.shape[1:])} "
            f"({first_line(error)}); let it take such examples, and derive shapes in its forward from tensors"
        ) from error
    return answer


def prepared(
    name: str, picked: Mapping[str, Value] | None, signature: Signature
) -> tuple[Callable[..., Any], tuple[object, ...]]:
    """A function with the arguments of the first of the allowed ways to call it that it takes.

    Raises:
        SpecError: There is no such function, or it takes none of them.
    """
    function = import_function(name, _FIELD)
    chosen = dict(picked or {})
    if picked is not None:
        ways: list[tuple[object, ...]] = [(chosen, signature), (chosen,)]
        words = "(choices) or (choices, signature)"
    else:
        # an argument that a function can do without may be anything, such as a width, unless it says so
        ways = (
            [(signature,), ()] if next(iter(_parameters(function)), "") == "signature" else [(), (signature,)]
        )
        ways.append((chosen, signature))
        words = "(signature), without arguments, or with (choices, signature)"
    for arguments in ways:
        if accepts(function, *arguments):
            return function, arguments
    raise SpecError(f"{_FIELD} '{name}' cannot be called with {words}; let it take one of these")


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except ValueError:  # functions written in C may not tell
        return {}
