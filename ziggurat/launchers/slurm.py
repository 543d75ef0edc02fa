"""Slurm's own words: what its programs are asked, and what their answers mean.

TorchX reads time limits, memory, pre-emption and lost nodes all as "failed"; here Slurm itself is asked.
`squeue` lists the jobs of one user in one question, those that have ended within `MinJobAge` included, so no
accounting is needed; where there is some, `sacct` knows older jobs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ziggurat.errors import ZigguratError
from ziggurat.launchers.scheduler import Condition, State

ANSWER_S = 60.0
"""Seconds that one of Slurm's programs may take."""
FIELDS = ("JobID", "State", "Reason", "RestartCnt", "exit_code", "NodeList", "Name")
SEPARATOR = "|"
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"})
_HELD = ("launch failed requeued held", "launch_failed_requeued_held", "JobHoldMaxRequeue")
_TRANSIENT = (
    "Socket timed out",
    "Unable to contact",
    "Connection refused",
    "Connection timed out",
    "Transport endpoint",
    "Zero Bytes were transmitted",
    "Slurm backup controller in standby",
    "temporarily unable to accept job",
    "Resource temporarily unavailable",
)
_STATES = {
    "BOOT_FAIL": State.NODE_LOST,
    "CANCELLED": State.CANCELLED,
    "COMPLETED": State.SUCCEEDED,
    "DEADLINE": State.TIMEOUT,
    "FAILED": State.FAILED,
    "LAUNCH_FAILED": State.NODE_LOST,
    "NODE_FAIL": State.NODE_LOST,
    "OUT_OF_MEMORY": State.OUT_OF_MEMORY,
    "PREEMPTED": State.PREEMPTED,
    "RECONFIG_FAIL": State.NODE_LOST,
    "REVOKED": State.CANCELLED,
    "TIMEOUT": State.TIMEOUT,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,
    "RESIZING": State.RUNNING,
    "SIGNALING": State.RUNNING,
    "STAGE_OUT": State.RUNNING,
}
"""What Slurm's states are to us; every other one (PENDING, CONFIGURING, SUSPENDED...) is waiting."""


class SlurmError(ZigguratError):
    """One of Slurm's programs could not do what it was asked."""

    @property
    def transient(self) -> bool:
        """Whether asking again may help."""
        return any(words in str(self) for words in _TRANSIENT)


@dataclass(frozen=True)
class Row:
    """A job, as Slurm lists it.

    Attributes:
        number: Job number.
        state: Slurm's word.
        reason: Why it is in this state, in Slurm's word.
        restarts: How often it was queued again.
        status: Exit status as `wait` gives it.
        node: Where it runs or ran.
        name: Its name.
    """

    number: str
    state: str
    reason: str = "None"
    restarts: int = 0
    status: int = 0
    node: str = ""
    name: str = ""


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what an allocation or a user's habits with Slurm's programs leave in it.

    A controller that is itself a Slurm job would else hand its allocation on to its jobs.
    """
    foreign = re.compile(r"SLURM|SRUN_|SQUEUE_|SACCT_|SCANCEL_|PMI|PMIX")
    return {k: v for k, v in environment.items() if k in _KEPT or not foreign.match(k)}


def ask(
    program: str, *arguments: str, environment: Mapping[str, str] | None = None, text: str | None = None
) -> str:
    """What one of Slurm's programs prints.

    Args:
        program: Its name.
        arguments: Its arguments.
        environment: Of the program; by default this process's own.
        text: Its standard input.

    Raises:
        SlurmError: It is not there, takes too long or refuses; its last line says why.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            env=own_environment(os.environ if environment is None else environment),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except FileNotFoundError:
        raise SlurmError(
            f"`{program}` is not on the PATH; start the controller where Slurm's programs are, such as a "
            f"login node, or load Slurm's module"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"`{program}` has not answered for {ANSWER_S:g} s: Socket timed out") from None
    if done.returncode:
        raise SlurmError(f"`{program}` says: {_told(done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout


def _told(stderr: str) -> str:
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line.strip()) for line in stderr.splitlines()]
    return next((line for line in reversed(lines) if line), "")


def listed(*, name: str | None = None) -> list[Row]:
    """Jobs of this user that Slurm knows, the ended ones included.

    Args:
        name: Only those of this name.
    """
    columns = ",".join(f"{field}:{SEPARATOR}" for field in FIELDS)
    chosen = [f"--name={name}"] if name else []
    out = ask("squeue", "--noheader", f"--user={os.getuid()}", "--states=all", *chosen, "-O", columns)
    return [row for line in out.splitlines() if (row := parsed(line)) is not None]


def parsed(line: str) -> Row | None:
    """A line of `squeue`; None if it is none."""
    cells = [cell.strip() for cell in line.split(SEPARATOR)]
    if len(cells) < len(FIELDS) or not cells[0].isdigit():
        return None
    number, state, reason, restarts, status, node, name = cells[: len(FIELDS)]
    return Row(number, state, reason, _whole(restarts), _whole(status), node, name)


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0


def condition_of(row: Row) -> Condition:
    """What a job's row says."""
    state = _STATES.get(row.state, State.PENDING)
    again = f", queued again {row.restarts} time{'s' if row.restarts > 1 else ''}" if row.restarts else ""
    reason = "" if row.reason in {"None", "", "(null)"} else f" ({row.reason})"
    if state is State.PENDING and any(words in row.reason for words in _HELD):
        return Condition(State.NODE_LOST, f"Slurm could not start it and holds it{reason}{again}")
    where = f" on {row.node}" if row.node else ""
    end = f", {exit_words(row.status)}" if state is State.FAILED else ""
    return Condition(state, f"{row.state}{reason}{where}{end}{again}")


def seconds_of(time: str) -> float:
    """A time limit as Slurm takes it: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS; 0 for no limit."""
    days, dash, rest = time.rpartition("-")
    parts = [_whole(part) for part in rest.split(":")]
    first = 3600 if dash or len(parts) > 2 else 60  # noqa: PLR2004 - hours are given
    return 86400 * _whole(days) + sum(
        n * unit for n, unit in zip(parts, (first, first // 60, 1), strict=False)
    )


def exit_words(status: int) -> str:
    """An exit status as `wait` gives it, in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known = {s.value for s in signal.Signals}
        return f"ended by {signal.Signals(number).name if number in known else f'signal {number}'}"
    return f"exit code {os.WEXITSTATUS(status)}"


def ended_by_force(row: Row) -> bool:
    """Whether a failed job was killed, be it under a shell, which makes 128 and the signal of it."""
    code = os.WEXITSTATUS(row.status) if os.WIFEXITED(row.status) else os.WTERMSIG(row.status)
    return code in {signal.SIGKILL, 128 + signal.SIGKILL}


def memory_words(lines: Iterable[str]) -> str:
    """What Slurm's daemon has written into a job's output about its memory; empty if nothing."""
    said = re.compile(r"^slurmstepd\S*: error: .*(exceeded (job )?memory limit|oom.?kill)", re.IGNORECASE)
    return next((line.partition("error: ")[2] for line in lines if said.search(line)), "")


def accounted(numbers: Sequence[str]) -> dict[str, Condition]:
    """What Slurm's accounting remembers of jobs; nothing where there is none."""
    try:
        out = ask(
            "sacct", "--allocations", "--parsable2", "--noheader", f"--jobs={','.join(numbers)}",
            "--format=JobIDRaw,State,ExitCode,NodeList",
        )  # fmt: skip
    except SlurmError as error:
        if error.transient:
            raise
        return {}
    found = {}
    for line in out.splitlines():
        number, state, code, node = ([*line.split("|"), "", "", ""])[:4]
        if number in numbers and state:
            word, _, rest = state.partition(" ")  # "CANCELLED by 1000"
            exits, _, ended = code.partition(":")
            status = (_whole(exits) << 8) | _whole(ended)
            row = Row(number, word.rstrip("+"), rest or "None", status=status, node=node)
            found[number] = condition_of(row)
    return found


def partitions() -> list[str]:
    """Names of the cluster's partitions."""
    out = ask("sinfo", "--noheader", "--all", "--format=%R")
    return list(dict.fromkeys(line.strip() for line in out.splitlines() if line.strip()))
