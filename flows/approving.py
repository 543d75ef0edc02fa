"""`ziggurat approve`: answers the question whether the full training may begin, with or without Prefect."""

from __future__ import annotations

import getpass
import json
import re
import socket
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import JsonOption, RunArgument
from ziggurat import run_places, runs, stores
from ziggurat.domain import RunStatus
from ziggurat.errors import SpecError
from ziggurat.history import History

if TYPE_CHECKING:
    from ziggurat.stages.answering import Answer
    from ziggurat.stages.approval import Question

HOW = "ziggurat approve"


def approve(  # noqa: PLR0913, PLR0917 - options
    run_dir: RunArgument,
    k: Annotated[
        int | None, typer.Option("--k", min=1, max=1000, help="How many; by default as planned.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop", metavar="TRIAL,...", help="Search trials that are not to be retrained, such as 3,7."
        ),
    ] = None,
    add_usd: Annotated[
        float, typer.Option("--add-usd", min=0, help="US dollars by which the limit is raised.")
    ] = 0.0,
    reject: Annotated[bool, typer.Option("--reject", help="Retrain nothing; the run ends without.")] = False,
    comment: Annotated[str, typer.Option("--comment", help="Kept in the journal.")] = "",
    show: Annotated[bool, typer.Option("--show", help="Print the question and answer nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say whether a run that waits for it may retrain its best architectures."""
    from ziggurat.stages import answering, approval

    with run_places.reading(run_dir) as folder:
        spec, history = runs.look(folder)
    asked = approval.question(spec, history, run_dir)
    _require(asked, history, run_dir, wanted=spec.retrain.approval.wanted)
    if show:
        typer.echo(json.dumps(asdict(asked)) if as_json else _text(asked))
        return
    dropped = numbers("--drop", drop or [])
    if reject and (k is not None or dropped or add_usd):
        raise SpecError("--reject: nothing is retrained then; leave --k, --drop and --add-usd out")
    answer = answering.Answer(not reject, k, dropped, add_usd, comment, who(), HOW)
    if problem := asked.problem(answer):
        raise SpecError(f"--{problem.replace('_', '-', 1) if problem.startswith('add_usd') else problem}")
    if run_places.in_store(run_dir):
        answering.leave(answer, None, stores.open_url(run_places.url_of(run_dir)))
    else:
        answering.leave(answer, Path(run_dir), None)
    typer.echo(json.dumps(asdict(answer)) if as_json else _said(asked, answer, history, run_dir))


def numbers(option: str, texts: list[str]) -> tuple[int, ...]:
    """Trial numbers from texts such as `3,7`.

    Raises:
        SpecError: One is no number.
    """
    words = [word for text in texts for word in re.split(r"[,\s]+", text.strip()) if word]
    for word in words:
        if not word.isdecimal():
            raise SpecError(f"{option} {word}: is no trial number; write such as {option} 3,7")
    return tuple(int(word) for word in words)


def _require(asked: Question, history: History, where: str, *, wanted: bool) -> None:
    """Raise unless the run waits for an answer, or would if it were resumed."""
    from ziggurat.stages import approval

    if approval.waits(history):
        return
    last = history.decision(approval.KIND)
    if last is not None:
        raise SpecError(f"{where}: is not waiting for an approval ({last.reason})")
    if not wanted:
        raise SpecError(
            f"{where}: needs no approval; set retrain.approval.wanted in the spec of the next run"
        )
    raise SpecError(f"{where}: does not wait for an approval yet; its search comes first")


def who() -> str:
    """Whoever runs this command, as far as the machine knows."""
    name = "somebody"
    with suppress(OSError, KeyError, ImportError):
        name = getpass.getuser()
    return f"{name}@{socket.gethostname()}"


def _text(asked: Question) -> str:
    return f"{asked.run_id}: {asked.title}\n\n{asked.table()}"


def _said(asked: Question, answer: Answer, history: History, where: str) -> str:
    word = "approved" if answer.approve else "rejected"
    running = history.status is RunStatus.RUNNING
    then = "the run goes on" if running else f"continue with: ziggurat resume {where}"
    return f"{word}: {asked.title}\n{then}"
