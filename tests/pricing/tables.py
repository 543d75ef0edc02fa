"""A small price table whose sums can be done by hand."""

from pathlib import Path

import yaml

PLAIN = {
    "version": 1,
    "sources": {"book": {"date": "2026-08-01", "from": "a book"}},
    "own": {"lab": {"vcpus": 16, "memory_gb": 64, "gpus": 2, "gpu": "A10G", "usd_per_hour": 1.0}},
    "instances": {
        "one": {"vcpus": 4, "memory_gb": 16, "gpus": 1, "gpu": "A10G"},
        "four": {"vcpus": 48, "memory_gb": 192, "gpus": 4, "gpu": "A10G"},
        "other": {"vcpus": 8, "memory_gb": 32, "gpus": 1, "gpu": "T4"},
        "plain": {"vcpus": 8, "memory_gb": 16},
        "small": {"vcpus": 2, "memory_gb": 4, "burstable": True},
    },
    "offers": [
        {
            "source": "book",
            "region": "here",
            "market": "on_demand",
            "usd_per_hour": {"one": 1.0, "four": 3.6, "other": 0.5, "plain": 0.4, "small": 0.01},
        },
        {
            "source": "book",
            "region": "here",
            "zone": "here-a",
            "market": "spot",
            "usd_per_hour": {"one": 0.5},
        },
        {
            "source": "book",
            "region": "here",
            "zone": "here-b",
            "market": "spot",
            "usd_per_hour": {"one": 0.6},
        },
        {"source": "book", "region": "there", "market": "spot", "usd_per_hour": {"one": 0.4, "four": 3.5}},
    ],
    "interruptions": {
        "per_hours": 10,
        "elsewhere": "5-10%",
        "reported": [{"source": "book", "region": "here", "bands": {"<5%": ["one"], ">20%": ["four"]}}],
    },
}


def write(folder: Path, **changes: object) -> Path:
    """The table as a file, with some keys replaced."""
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **changes}))
    return path
