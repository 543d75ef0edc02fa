"""Why a training ends early: the two exceptions that a worker tells apart from a fault in the code."""


class Diverged(Exception):  # noqa: N818 - names an outcome, as in "the training diverged"
    """The loss is not finite, or has grown far beyond where it began."""


class StopTraining(Exception):  # noqa: N818 - a request, not an error
    """Raised by a report to end a training.

    Raised with the metrics of an epoch, it ends the training there and its state is kept; raised between
    batches, it ends the training at once, and the segment is trained again from the checkpoint it started
    from.

    Attributes:
        checkpoint: Where the state at the stop was kept; None if it was not.
    """

    checkpoint: str | None = None
