"""Errors that a user can act on. Each message is one line: what was given, what is allowed, what to do."""

import difflib
from collections.abc import Iterable

MANY = 30
"""Known names beyond which a message does not list them all."""
_FIRST = 8


class ZigguratError(Exception):
    """Something the user can fix; the command line prints it without a traceback."""


class SpecError(ZigguratError):
    """A setting, a file or data named by the spec is not usable (exit code 2)."""


class RunBusyError(ZigguratError):
    """Another controller drives the same run (exit code 2)."""


class JournalError(ZigguratError):
    """The journal of a run cannot be read or written (exit code 2)."""


class RunTakenError(JournalError):
    """Another controller has taken the run in its store; this one may write nothing more (exit code 2)."""


class CallFailed(ZigguratError):  # noqa: N818 - names an outcome
    """A job that is no part of a trial has failed (exit code 1).

    Attributes:
        kind: What kind of failure that is.
    """

    def __init__(self, kind: str, text: str) -> None:
        """Keep the reason: one line."""
        super().__init__(text)
        self.kind = kind


class StageFailed(ZigguratError):  # noqa: N818 - names an outcome, as in "the stage failed"
    """A stage came to a negative verdict, such as a failed preflight check (exit code 1)."""


def near(name: object, known: Iterable[object], beyond: str = "") -> str:
    """The end of a sentence about an unknown name: known names that are like it, or else all of them.

    Args:
        name: As it was given.
        known: What may be given.
        beyond: What is said where nothing is like it and there are too many to list; by default the first.
    """
    names = [str(k) for k in known]
    lower = {n.lower(): n for n in names}
    given = str(name).lower()
    close = [lower[n] for n in difflib.get_close_matches(given, lower, n=3, cutoff=0.6)]
    close = close or [known for name, known in lower.items() if given and name.startswith(given)][:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    if len(names) > MANY:
        return beyond or f"known: {', '.join(names[:_FIRST])}, ..."
    return f"known: {', '.join(names) or 'none'}"
