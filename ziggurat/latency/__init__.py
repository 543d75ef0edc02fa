"""Latency tables: times of the operations of a space on a device, from which whole models are predicted."""

from ziggurat.latency.table import METRIC, Entry, LatencyTable, decomposable, read, usable

__all__ = ["METRIC", "Entry", "LatencyTable", "decomposable", "read", "usable"]
