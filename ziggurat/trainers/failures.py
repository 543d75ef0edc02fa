"""Why a training ends early: the exceptions that a worker tells apart from a fault in the code."""

from ziggurat.domain import FailureKind
from ziggurat.errors import ZigguratError


class Diverged(Exception):  # noqa: N818 - names an outcome, as in "the training diverged"
    """The loss is not finite, or has grown far beyond where it began."""


class TrainingFailed(ZigguratError):  # noqa: N818 - names an outcome, as in "the training failed"
    """A program of the user's did not do what was expected of it, for a reason that can be named.

    Attributes:
        kind: What kind of failure that is.
    """

    def __init__(self, kind: FailureKind, text: str) -> None:
        """Keep the reason: one line."""
        super().__init__(text)
        self.kind = kind


class StopTraining(Exception):  # noqa: N818 - a request, not an error
    """Raised by a report to end a training.

    Raised with the metrics of an epoch, it ends the training there and its state is kept; raised between
    batches, it ends the training at once, and the segment is trained again from the checkpoint it started
    from.

    Attributes:
        checkpoint: Where the state at the stop was kept; None if it was not.
    """

    checkpoint: str | None = None
