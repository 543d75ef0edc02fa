"""A model card in words: Markdown, made of the same numbers as its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat.files import write_whole
from ziggurat.report import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ziggurat.report.cards import Card

MARKDOWN, JSON = "model_card.md", "model_card.json"
PUBLISHED = (MARKDOWN, JSON, "model.onnx", "model-int8.onnx", "model.pt2")
"""Files of a model that others may want, as far as they are there."""
MEDIAN = "latency_p50_ms"
ABSENT = words.ABSENT


def write_cards(folder: Path, cards: Mapping[int, Card]) -> dict[int, str]:
    """Write each card beside its model, as Markdown and JSON, and return its path below a run directory.

    Args:
        folder: Run directory.
        cards: By number of the model's trial.
    """
    found = {}
    for number, card in cards.items():
        home = folder / "trials" / f"{number:05d}"
        plain = json.dumps(card, indent=2, allow_nan=False, ensure_ascii=False)
        for name, text in ((JSON, plain + "\n"), (MARKDOWN, markdown(card))):
            write_whole(home / name, text)
        found[number] = f"trials/{number:05d}/{MARKDOWN}"
    return found


def markdown(card: Card) -> str:
    """A card as Markdown."""
    return "\n\n".join(part for part in _parts(card) if part) + "\n"


def _parts(card: Card) -> list[str]:
    return [
        f"# {card['name']}",
        f"Model {card['trial']} of run `{card['run']}`: the architecture of trial {card['found_as_trial']}, "
        f"trained with the full recipe from seed {card['seed']}.",
        "## What it is",
        _bullets(
            [
                ("Space", card["space"]),
                ("Architecture", _pairs(card["architecture"])),
                ("Hyperparameters", _pairs(card["hyperparameters"])),
                ("Recipe", _pairs(card["recipe"])),
            ]
        ),
        "## How good it is",
        _metrics(card["metrics"]),
        _looks(card),
        f"Not checked: {'; '.join(card['not_checked'])}." if card["not_checked"] else "",
        "## On the devices",
        _devices(card["devices"]),
        *(f"{name}: {device['description']}." for name, device in card["devices"].items()),
        "## Data",
        _bullets([(k.capitalize(), _plain(k, v)) for k, v in card["data"].items() if v not in ({}, None)]),
        "## What it cost",
        _cost(card["cost"]),
        "## Files",
        _files(card["files"]),
        f"Not written: {card['not_exported']}." if card["not_exported"] else "",
        f"Checkpoint: `{card['checkpoint']}` in the run directory." if card["checkpoint"] else "",
        _loading(card["files"]),
        "## What it is for",
        _limits(card),
        "## Made with",
        _bullets([(name, str(version)) for name, version in card["versions"].items() if version]),
    ]


def _metrics(metrics: Mapping[str, Any]) -> str:
    rows = [
        (
            words.heading(name, m["unit"]),
            _value(name, m["value"]),
            _value(name, m["mean"], m["spread"]),
            str(m["seeds"]),
            str(m.get("examples", ABSENT)),
        )
        for name, m in metrics.items()
    ]
    return _table(("Metric", "This model", "Mean ± deviation over seeds", "Seeds", "Examples"), rows)


def _looks(card: Card) -> str:
    if not any(name.startswith("test_") for name in card["metrics"]):
        return "The sealed test part has not been looked at."
    looks = card["test_looks"]
    again = "" if looks in {None, 1} else f" It was look {looks} at this part, over all runs."
    return f"The sealed test part was looked at once, after everything had been chosen on validation.{again}"


def _devices(devices: Mapping[str, Any]) -> str:
    rows = []
    for device, found in devices.items():
        if "not_measured" in found:
            rows.append((device, "not measured", found["not_measured"], ABSENT, ABSENT))
            continue
        for name, m in found["metrics"].items():
            if name in {"latency_noise", "cpu_share"}:
                continue
            rows.append(
                (
                    device,
                    words.heading(name, m["unit"]),
                    # spread and noise are those of the median
                    _value(name, m["value"], m["spread"] if name == MEDIAN else None),
                    str(m["samples"] or ABSENT),
                    _verdict(found) if name == MEDIAN else ABSENT,
                )
            )
    return _table(("Device", "Metric", "Value ± spread of the samples", "Samples", "Noise"), rows)


def _verdict(found: Mapping[str, Any]) -> str:
    noise = found["metrics"].get("latency_noise")
    if found["steady"] is None or noise is None or noise["value"] is None:
        return "unknown"
    width = f"{100 * noise['value']:.2g} %"
    limit = f"{100 * found['noise_limit']:.3g} %"
    return f"steady ({width} of {limit})" if found["steady"] else f"noisy ({width}, allowed {limit})"


def _cost(cost: Mapping[str, Any]) -> str:
    def both(name: str) -> str:
        return f"{words.usd(cost[f'{name}_usd'])}, {words.duration(cost[f'{name}_s'])} of worker time"

    return _bullets(
        [
            ("Training, export and measurements of this model", both("model")),
            (f"The search, for {words.many(cost['architectures'], 'architecture')}", both("search")),
            ("Share of the search for this one", both("search_share")),
        ]
    )


def _files(files: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            f"`{Path(f['path']).name}`",
            f"{f['bytes']:,}",
            f"`{f['sha256']}`",
            ABSENT if f.get("difference") is None else f"{f['difference']:.2g}",
            ABSENT if f.get("agreement") is None else f"{100 * f['agreement']:.2f} % of {f['examples']:,}",
        )
        for f in files
    ]
    head = ("File", "Bytes", "sha256", "Largest difference of an output", "Same answer on validation")
    return _table(head, rows) if rows else ""


def _loading(files: Sequence[Mapping[str, Any]]) -> str:
    onnx = next((f for f in files if f["kind"] == "onnx"), None)
    if onnx is None:
        return ""
    return (
        "To load it (the file takes one example at a time, float32, scaled as the training data was):\n\n"
        "```python\n"
        "import numpy as np, onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{Path(onnx["path"]).name}")\n'
        "given = session.get_inputs()[0]\n"
        "logits = session.run(None, {given.name: np.zeros(given.shape, np.float32)})[0]\n"
        "```"
    )


def _limits(card: Card) -> str:
    kind = card["data"]["kind"]
    accuracy = "the classes"
    classes = card["data"].get("classes")
    if classes is not None:
        accuracy = f"the {classes} classes"
    lines = [
        "What it does is known to the script that made it; nothing is known of it on other data than it read."
        if kind == "external"
        else f"It tells {accuracy} of data `{kind}` apart, prepared as in the run's spec; on other data "
        "nothing is known of it.",
        "The architecture was chosen by its validation results, which are therefore a little too good; the "
        "test results, where there are any, are not.",
        "Latencies hold for the devices, batch sizes and library versions named here, and only as far as "
        "their noise allows.",
        "Nobody has looked at its fairness, at its robustness against attacks, or at how well its confidence "
        "is calibrated.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _value(name: str, value: float | None, spread: float | None = None) -> str:
    return ABSENT if value is None else words.spread(name, value, spread)


def _plain(key: str, value: Any) -> str:  # noqa: ANN401 - plain JSON
    if key == "chance":
        return ", ".join(words.phrase(name, v) for name, v in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _pairs(plain: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_setting(value)}" for name, value in plain.items()) or "none"


def _setting(value: Any) -> str:  # noqa: ANN401 - plain JSON
    if isinstance(value, bool | int | float | str):
        return words.setting(value)
    return json.dumps(value)


def _bullets(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in pairs)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(c) for c in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
