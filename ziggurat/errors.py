"""Errors that a user can act on. Each message is one line: what was given, what is allowed, what to do."""


class ZigguratError(Exception):
    """Something the user can fix; the command line prints it without a traceback."""


class SpecError(ZigguratError):
    """A setting, a file or data named by the spec is not usable (exit code 2)."""


class RunBusyError(ZigguratError):
    """Another controller drives the same run (exit code 2)."""


class JournalError(ZigguratError):
    """The journal of a run cannot be read or written (exit code 2)."""


class StageFailed(ZigguratError):  # noqa: N818 - names an outcome, as in "the stage failed"
    """A stage came to a negative verdict, such as a failed preflight check (exit code 1)."""
