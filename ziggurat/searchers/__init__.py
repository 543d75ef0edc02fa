"""Searchers decide what is tried next; each is one setting whose methods are its algorithm."""

from typing import Annotated

from pydantic import Field

from ziggurat.searchers.ax import AxSearcher
from ziggurat.searchers.evolution import Evolution
from ziggurat.searchers.nsga2 import Nsga2
from ziggurat.searchers.random_search import RandomSearch
from ziggurat.searchers.reinforce import Reinforce
from ziggurat.searchers.sobol import Sobol

AnySearcher = Annotated[
    RandomSearch | Sobol | Evolution | Nsga2 | AxSearcher | Reinforce, Field(discriminator="kind")
]

__all__ = ["AnySearcher", "AxSearcher", "Evolution", "Nsga2", "RandomSearch", "Reinforce", "Sobol"]
