"""Prices of machines: a dated table, what a machine costs a worker, and which offer is the cheapest."""

from ziggurat.pricing.setting import Price, Priced

__all__ = ["Price", "Priced"]
