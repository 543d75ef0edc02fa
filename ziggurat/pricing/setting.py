"""How a spec says what a machine costs: a number of the user's own, or a machine of the price table."""

from __future__ import annotations

import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from ziggurat.setting import Setting

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Market = Literal["on_demand", "spot", "own"]


class Price(Setting):
    """A machine of the price table, with its price looked up once, when the run is created."""

    instance: str = Field(
        pattern=NAME, description="Machine in the price table, such as g5.xlarge; see `ziggurat prices list`."
    )
    region: str | None = Field(
        default=None,
        pattern=NAME,
        description="Region of the machine; by default launcher.region. Machines of your own have none.",
    )
    zone: str | None = Field(
        default=None,
        pattern=NAME,
        description="Zone of a spot machine; by default the dearest of the region.",
    )
    market: Literal["on_demand", "spot"] = Field(
        default="on_demand", description="How the machine is rented."
    )
    origin: str | None = Field(
        default=None, description="Where usd_per_hour comes from; written by Ziggurat when a run is created."
    )
    date: datetime.date | None = Field(
        default=None, description="Day of the price; written by Ziggurat when a run is created."
    )

    @model_validator(mode="after")
    def _zone_is_for_spot(self) -> Self:
        if self.zone is not None and self.market != "spot":
            raise ValueError(
                f"zone is '{self.zone}', but on demand a machine costs the same in all zones; remove zone, "
                "or set market: spot"
            )
        return self


class Priced(Setting):
    """Keys that the settings of all launchers share."""

    usd_per_hour: float = Field(
        default=0.0,
        ge=0,
        description="Price of one hour of one worker in US dollars; it comes before `price`.",
    )
    price: Price | None = Field(
        default=None,
        description="Machine of the price table that workers run on, in place of usd_per_hour; its price is "
        "divided among the workers that it carries.",
    )
