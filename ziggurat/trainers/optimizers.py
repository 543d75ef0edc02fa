"""Optimisers and learning-rate schedules of torch by name: building them, and checking that they can be.

A schedule is stepped after every optimiser step and spans the top rung of a trial's ladder.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from ziggurat.domain import Job
from ziggurat.errors import SpecError, near
from ziggurat.trainers.lightning import Lightning, ScheduleSetting

CONSTANT = "constant"
HORIZON = ("T_max", "total_steps", "total_iters")
"""Parameters of schedules that mean the number of steps until the end."""
_NOT_FROM_YAML = {"LRScheduler", "ChainedScheduler", "SequentialLR", "LambdaLR", "MultiplicativeLR"}

T = TypeVar("T")
Parameters = Mapping[str, inspect.Parameter]


def optimizers() -> dict[str, type[Optimizer]]:
    """Optimisers of torch by name."""
    found = {n: c for n, c in vars(torch.optim).items() if inspect.isclass(c) and issubclass(c, Optimizer)}
    return {n: c for n, c in found.items() if c is not Optimizer}


def schedules() -> dict[str, type[LRScheduler]]:
    """Schedules of torch by name, without those whose arguments cannot be written in YAML."""
    found = {n: c for n, c in vars(lr_scheduler).items() if inspect.isclass(c) and issubclass(c, LRScheduler)}
    return {n: c for n, c in found.items() if not n.startswith("_") and n not in _NOT_FROM_YAML}


def takes_momentum(optimizer: str) -> bool:
    """Whether an optimiser has a parameter `momentum`."""
    return "momentum" in _parameters(_find("optimizer", optimizer, optimizers()))


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Batches of an epoch: the last partial one counts unless it is a single example among others."""
    whole, rest = divmod(examples, batch_size)
    return whole + (rest > 1 or (rest == 1 and whole == 0))


def horizon(job: Job, examples: int, batch_size: int) -> int:
    """Optimiser steps from the start of a trial to the end of its top rung.

    Args:
        job: Its ladder tells epochs and data fractions. A training from nothing uses the data of
            `to_rung` for all rungs up to it.
        examples: Training examples at hand, cut to the data fraction of `to_rung`.
        batch_size: Examples in a batch.
    """
    here = job.ladder[job.to_rung].data_fraction
    total = before = 0
    for rung, fidelity in enumerate(job.ladder):
        straight = job.from_rung < 0 and rung <= job.to_rung
        share = 1.0 if straight else fidelity.data_fraction / here
        total += (fidelity.epochs - before) * steps_per_epoch(max(1, round(examples * share)), batch_size)
        before = fidelity.epochs
    return total


def build_optimizer(setting: Lightning, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimiser of a setting.

    Raises:
        SpecError: Its name or an argument is unknown or not usable.
    """
    name = setting.optimizer.name
    known = _parameters(_find("optimizer", name, optimizers()))
    for own, field in (("lr", "learning_rate"), ("weight_decay", "weight_decay")):
        if own in setting.optimizer.arguments:
            raise SpecError(
                f"trainer.optimizer.arguments: '{own}' is given here; give trainer.{field} instead"
            )
    _check_arguments("optimizer", name, setting.optimizer.arguments, known)
    arguments = {k: _tuple(v) for k, v in setting.optimizer.arguments.items()}
    arguments["lr"] = setting.learning_rate
    if "weight_decay" in known:
        arguments["weight_decay"] = setting.weight_decay
    if "fused" in known and setting.precision == "32-true" and not {"foreach", "fused"} & set(arguments):
        arguments["fused"] = True  # one kernel call instead of a dozen for each tensor
    return _made("optimizer", name, optimizers()[name], list(parameters), arguments)


def build_schedule(setting: Lightning, optimizer: Optimizer, steps: int, warmup: int) -> LRScheduler | None:
    """The schedule of a setting over so many optimiser steps, after a linear warm-up; None if constant.

    Raises:
        SpecError: Its name or an argument is unknown or not usable.
    """
    warmup = min(warmup, steps - 1)
    if setting.schedule.name == CONSTANT:
        _check_arguments("schedule", CONSTANT, setting.schedule.arguments, {})
        return _warmup(optimizer, warmup) if warmup > 0 else None
    main = _main(setting.schedule, optimizer, setting.learning_rate, steps - max(0, warmup))
    if warmup <= 0:
        return main
    return lr_scheduler.SequentialLR(optimizer, [_warmup(optimizer, warmup), main], milestones=[warmup])


def check(setting: Lightning) -> None:
    """Whether optimiser and schedule can be built and stepped on a small network.

    Raises:
        SpecError: A name or an argument is unknown or not usable.
    """
    model = nn.Linear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = build_optimizer(setting, model.parameters())
        warmup = 2 if setting.schedule.warmup_epochs else 0
        schedule = build_schedule(setting, optimizer, steps=10, warmup=warmup)

        def closure() -> float:
            optimizer.zero_grad()
            loss = model(torch.ones(1, 2)).sum()
            loss.backward()
            return float(loss)

        _tried("optimizer", setting.optimizer.name, lambda: optimizer.step(closure))
        _tried("schedule", setting.schedule.name, lambda: _step(schedule))


def advance(schedule: LRScheduler | None, val_loss: float | None = None) -> None:
    """Step a schedule after a batch, or with a loss after an epoch, which only ReduceLROnPlateau wants."""
    if schedule is None:
        return
    if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
        if val_loss is not None:
            schedule.step(val_loss)
    elif val_loss is None:
        schedule.step()


def recipe(setting: Lightning) -> str:
    """What decides how weights move; a checkpoint of another recipe is not resumed but taken over."""
    return setting.model_dump_json(
        include={"optimizer", "learning_rate", "weight_decay", "batch_size", "schedule"}
    )


def take_over(optimizer: Optimizer, fresh: Optimizer) -> None:
    """Give an optimiser the settings of a fresh one; its parameters and what it remembers of them stay."""
    for group, new in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        parameters = group["params"]
        group.clear()
        group.update({**new, "params": parameters})


def catch_up(schedule: LRScheduler | None, steps: int, kept: Mapping[str, Any]) -> None:
    """Bring a new schedule to where it is after so many steps.

    Args:
        schedule: As built; None if the rate is constant.
        steps: Steps of the new schedule that the training stands for.
        kept: State of the `schedule` of another `recipe`. ReduceLROnPlateau goes on from it, with its own
            rate reduced as often as that one's.
    """
    if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
        state = dict(kept["schedule"])
        reduced = state["_last_lr"][0] / json.loads(kept["recipe"])["learning_rate"]
        schedule.load_state_dict(state)
        for group in schedule.optimizer.param_groups:
            group["lr"] *= reduced
        return
    for _ in range(steps):
        advance(schedule)


def _step(schedule: LRScheduler | None) -> None:
    for _ in range(10):
        advance(schedule)
    advance(schedule, val_loss=1.0)


def _warmup(optimizer: Optimizer, steps: int) -> LRScheduler:
    return lr_scheduler.LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)


def _main(setting: ScheduleSetting, optimizer: Optimizer, rate: float, steps: int) -> LRScheduler:
    cls: Any = _find("schedule", setting.name, {**schedules(), CONSTANT: LRScheduler})
    known = _parameters(cls)
    _check_arguments("schedule", setting.name, setting.arguments, known)
    filled: dict[str, Any] = {name: steps for name in HORIZON if name in known}
    if "max_lr" in known:
        filled["max_lr"] = rate
    arguments = {**filled, **setting.arguments}
    if "epochs" in arguments and "steps_per_epoch" in arguments and "total_steps" not in setting.arguments:
        arguments.pop("total_steps", None)
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise SpecError(
                f"trainer.schedule: {setting.name} needs '{name}'; give it under trainer.schedule.arguments, "
                "in optimiser steps where it is a time"
            )
    made: LRScheduler = _made("schedule", setting.name, cls, optimizer, arguments)
    return made


def _find(field: str, name: str, known: Mapping[str, type[T]]) -> type[T]:
    if name in known:
        return known[name]
    raise SpecError(f"trainer.{field}.name is '{name}', which is unknown; {near(name, known)}")


def _parameters(cls: type[Any]) -> Parameters:
    skip = {"self", "params", "optimizer", "last_epoch", "lr", "verbose"}
    if not issubclass(cls, Optimizer):
        skip.discard("lr")
    return {n: p for n, p in inspect.signature(cls).parameters.items() if n not in skip}


def _check_arguments(field: str, name: str, given: Iterable[str], known: Parameters) -> None:
    for argument in given:
        if argument not in known:
            raise SpecError(
                f"trainer.{field}.arguments: {name} takes no '{argument}'; {near(argument, known)}"
            )


def _tuple(value: Any) -> Any:  # noqa: ANN401 - any plain value of YAML
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _made(field: str, name: str, cls: type[T], first: object, arguments: Mapping[str, Any]) -> T:
    made: list[T] = []
    _tried(field, name, lambda: made.append(cls(first, **arguments)))  # type: ignore[call-arg]
    return made[0]


def _tried(field: str, name: str, action: Any) -> None:  # noqa: ANN401 - a callable of any result
    try:
        action()
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SpecError(
            f"trainer.{field}: {name} cannot be used with these arguments ({reason}); change trainer.{field}"
        ) from error
