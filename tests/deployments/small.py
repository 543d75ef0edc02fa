"""Specs that a worker of a test server finds in its directory."""

from __future__ import annotations

from typing import Any

import yaml

from tests.servers.prefect import ROOT, Server

SMALL: dict[str, Any] = {
    "validate": {"enabled": False},
    "tracking": {"enabled": False},
    "fidelities": [{"epochs": 4}, {"epochs": 8}],
    "search": {
        "searcher": {"kind": "sobol"},
        "stopper": {"kind": "asha", "type": "promotion", "reduction_factor": 2},
        "trials": 5,
        "workers": 1,
    },
    "retrain": {"k": 1, "seeds": 1, "epochs": 4},
    "launcher": {"kind": "local"},
    "budget": {},
}


def settle(server: Server) -> None:
    """Write the small spec, and one that goes on for a while."""
    spec = yaml.safe_load((ROOT / "examples" / "digits.yaml").read_text(encoding="utf-8")) | SMALL
    (server.work / "small.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    slow = spec | {"fidelities": [{"epochs": 20}, {"epochs": 40}], "search": {**spec["search"], "trials": 12}}
    (server.work / "slow.yaml").write_text(yaml.safe_dump(slow), encoding="utf-8")
