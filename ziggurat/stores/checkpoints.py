"""Which checkpoints a run keeps."""

from typing import Literal

from pydantic import Field

from ziggurat.setting import Setting


class Checkpoints(Setting):
    """How long checkpoints are kept."""

    keep: Literal["last_and_best", "all"] = Field(
        default="last_and_best",
        description=(
            "last_and_best: two for each trial, none of stopped and failed ones unless another goes on from "
            "it, all of retrained models; all: nothing is removed."
        ),
    )
