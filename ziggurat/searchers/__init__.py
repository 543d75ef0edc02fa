"""Searchers decide what is tried next; each is one setting whose methods are its algorithm."""

from typing import Annotated

from pydantic import Field

from ziggurat.searchers.ax import AxSearcher
from ziggurat.searchers.random_search import RandomSearch
from ziggurat.searchers.sobol import Sobol

AnySearcher = Annotated[RandomSearch | Sobol | AxSearcher, Field(discriminator="kind")]

__all__ = ["AnySearcher", "AxSearcher", "RandomSearch", "Sobol"]
