"""Ziggurat: staged neural-architecture search for production; many cheap trials, then a few dear ones.

The library decides and computes. It knows no Prefect and no command line.
"""

__version__ = "0.1.0"
