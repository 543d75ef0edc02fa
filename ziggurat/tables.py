"""Measured benchmarks as tables: every candidate of a space with its scores, its costs and its training time.

A table is read from NumPy archives (never with pickles) whose arrays are recognised by name, as they are in
the public NAS benchmarks: architecture codes (`ops`, `code`, `link`), scores of separate trainings
(`val_acc_12`, `val_acc_200`, or `val_acc` at some `budgets`), learning curves (`val_acc`, `val_loss` or
`valid_loss` by epoch), test scores, and seconds. What is recognised is written at each function.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ziggurat.choices import Choices, Values
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError

FloatArray = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]
CODES = ("link", "ops", "code")
"""Arrays that describe an architecture by whole numbers, shape (n,) or (n, positions)."""
EXTRA = {
    "flops_m": ("flops", 1e6),
    "flops": ("flops", 1.0),
    "params_m": ("parameters", 1e6),
    "params": ("parameters", 1.0),
}
"""Columns that every search of a table knows before training, with the name of the metric and its scale."""
CURVES = (
    ("val_acc", "test_acc", "val_accuracy"),
    ("val_loss", "test_loss", "val_loss"),
    ("valid_loss", "test_loss", "val_loss"),
)
"""Names of validation and test curves, and the metric they give; the first pair that is there is taken."""
DENSE = 0.2
"""Share of the product of all codes that must be in a table for it to be searched as a product."""


@dataclass(frozen=True, eq=False)
class Table:
    """A measured benchmark.

    Attributes:
        choices: What a candidate chooses; one choice called `row` where a table does not say what it is.
        rows: Row of every candidate.
        metric: `val_accuracy` (a share) or `val_loss`.
        scores: For each number of epochs, the metric after them on validation, shape (n,).
        test: The metric on the test part after the most epochs, shape (n,).
        seconds: For each number of epochs, seconds of a training from nothing, shape (n,).
        resumable: Whether a training goes on where a shorter one ended; else it starts again.
        static: What is known of every row before training, by metric, shape (n,).
        twins: For each candidate that computes what another one does, the one that stands for all of these.
    """

    choices: Choices
    rows: Mapping[Candidate, int]
    metric: str
    scores: Mapping[int, FloatArray]
    test: FloatArray
    seconds: Mapping[int, FloatArray]
    resumable: bool
    static: Mapping[str, FloatArray]
    twins: Mapping[Candidate, Candidate] = field(default_factory=dict)

    @property
    def top(self) -> int:
        """Epochs of a full training."""
        return max(self.scores)

    @property
    def complete(self) -> bool:
        """Whether every candidate of the choices has a row."""
        return len(self.rows) == int(np.prod([c.size for c in self.choices.values()]))

    @property
    def unit_s(self) -> float:
        """Mean seconds of a full training."""
        return float(np.nanmean(self.seconds[self.top]))

    @functools.cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Candidates by row."""
        return tuple(self.rows)

    def known(self, candidate: Candidate) -> dict[str, float]:
        """Static metrics of a candidate; NaN for one that has no row."""
        row = self.rows.get(candidate)
        return {name: float(v[row]) if row is not None else np.nan for name, v in self.static.items()}

    def segment_s(self, row: int, begun: int, epochs: int) -> float:
        """Seconds from some epochs (0: from nothing) to more of them."""
        whole = float(self.seconds[epochs][row])
        return whole - float(self.seconds[begun][row]) if self.resumable and begun else whole


@functools.lru_cache(maxsize=8)
def load(
    space: Path | None,
    accuracy: Path | None,
    curves: Path | None,
    fidelities: Path | None,
    costs: tuple[tuple[str, str], ...],
) -> Table:
    """The table of some archives; at least one of accuracy, curves and fidelities is needed.

    Raises:
        SpecError: A file or an array is missing, or they do not fit together.
    """
    source = curves or fidelities or accuracy
    if source is None:
        raise SpecError("space: a table needs one of accuracy, curves and fidelities; name an .npz file")
    scored = _archive(source)
    other = _archive(accuracy) if accuracy is not None else {}
    # where the scored rows are a part of the other archives', which rows of these they are
    index = scored["arch_idx"].astype(np.int64) if curves is not None and "arch_idx" in scored else None
    if curves is not None:
        metric, scores, test, seconds = _curves(scored, other, index, source)
    elif fidelities is not None:
        metric, scores, test, seconds = _budgets(scored, source)
    else:
        metric, scores, test, seconds = _schedules(scored, source)
    count = len(test)
    static = _extras(scored, count) | _extras(_pick(other, index, count), count)
    for name, place in costs:
        static[name] = _column(place, index, count)
    known = _archive(space) if space is not None else {}
    choices, candidates = _architectures(known, index, count)
    resumable = curves is not None
    rows = {candidate: row for row, candidate in enumerate(candidates)}
    twins = _twins(known, index, candidates)
    return Table(choices, rows, metric, scores, test, seconds, resumable, static, twins)


def _archive(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise SpecError(f"{path}: not a readable .npz archive ({text}); name a file of numpy.savez") from None


def _pick(arrays: Arrays, index: npt.NDArray[np.int64] | None, count: int) -> Arrays:
    if index is None:
        return arrays
    return {k: v[index] for k, v in arrays.items() if v.ndim and len(v) > index.max() and len(v) != count}


def _numbers(values: npt.NDArray[Any]) -> FloatArray:
    """One number for each row: the mean over the seeds that were run."""
    numbers: FloatArray = np.asarray(values, dtype=float)
    if numbers.ndim == 1:
        return numbers
    found: FloatArray = np.nanmean(numbers.reshape(len(numbers), -1), axis=1)
    return found


def _share(values: FloatArray) -> FloatArray:
    """Accuracies as shares, whether given so or in per cent."""
    return values / 100.0 if np.nanmax(values) > 1.5 else values


Scored = tuple[str, dict[int, FloatArray], FloatArray, dict[int, FloatArray]]


def _schedules(arrays: Arrays, path: Path) -> Scored:
    """Separate schedules: `val_acc_EPOCHS`, `test_acc_EPOCHS`, `train_time_EPOCHS_s`; else one training."""
    found = {
        int(m[1]): _share(_numbers(v)) for k, v in arrays.items() if (m := re.fullmatch(r"val_acc_(\d+)", k))
    }
    if not found:
        return _single(arrays, path)
    top = max(found)
    test = arrays.get(f"test_acc_{top}")
    rate = _rate(arrays, len(found[top]))
    seconds = {epochs: rate * epochs for epochs in found}
    return "val_accuracy", found, found[top] if test is None else _share(_numbers(test)), seconds


def _single(arrays: Arrays, path: Path) -> Scored:
    """One training of each row, called one epoch."""
    names = (
        ("valid_acc", "test_acc", "val_accuracy"),
        ("val_acc", "test_acc", "val_accuracy"),
        ("test_acc", "test_acc", "val_accuracy"),
        ("val_loss", "test_loss", "val_loss"),
    )
    for validation, test, metric in names:
        if validation in arrays:
            scale: Callable[[FloatArray], FloatArray] = _share if metric == "val_accuracy" else np.asarray
            scores = scale(_numbers(arrays[validation]))
            sealed = scale(_numbers(arrays[test])) if test in arrays else scores
            return metric, {1: scores}, sealed, {1: _rate(arrays, len(scores))}
    raise SpecError(f"{path}: holds no scores; wanted are arrays such as val_acc_200, val_acc or val_loss")


def _budgets(arrays: Arrays, path: Path) -> Scored:
    """Separate trainings of several lengths: `val_acc` (n, budgets) after `budgets` epochs each."""
    if "budgets" not in arrays or "val_acc" not in arrays:
        raise SpecError(f"{path}: a table of fidelities needs the arrays budgets and val_acc")
    budgets = [int(b) for b in arrays["budgets"]]
    scores = _share(np.asarray(arrays["val_acc"], dtype=float))
    by_budget = {b: scores[:, i] for i, b in enumerate(budgets)}
    rate = _rate(arrays, len(scores))
    test = arrays.get("test_acc")
    sealed = by_budget[max(budgets)] if test is None else _share(np.asarray(test, dtype=float)[:, -1])
    return "val_accuracy", by_budget, sealed, {b: rate * b for b in budgets}


def _curves(arrays: Arrays, other: Arrays, index: npt.NDArray[np.int64] | None, path: Path) -> Scored:
    """Learning curves: a column for each epoch."""
    names = next((n for n in CURVES if n[0] in arrays and arrays[n[0]].ndim == 2), None)  # noqa: PLR2004 - two axes
    if names is None:
        raise SpecError(f"{path}: holds no curves; wanted is one of {', '.join(n[0] for n in CURVES)}")
    metric = names[2]
    scale: Callable[[FloatArray], FloatArray] = _share if metric == "val_accuracy" else np.asarray
    curves = scale(np.asarray(arrays[names[0]], dtype=float))
    epochs = curves.shape[1]
    test = scale(np.asarray(arrays[names[1]], dtype=float))[:, -1] if names[1] in arrays else curves[:, -1]
    beside = _pick(other, index, len(curves))
    sealed = next((k for k in beside if re.fullmatch(r"test_acc_\d+", k) and k.endswith(f"_{epochs}")), None)
    if sealed is not None and names[1] not in arrays:
        test = scale(_numbers(beside[sealed]))
    if "wall_time_s" in arrays:
        total = np.cumsum(np.nan_to_num(np.asarray(arrays["wall_time_s"], dtype=float)), axis=1)
    elif "time_s" in arrays:
        total = np.asarray(arrays["time_s"], dtype=float)
    else:
        total = _rate(beside, len(curves))[:, None] * np.arange(1, epochs + 1)
    return (
        metric,
        {e + 1: curves[:, e] for e in range(epochs)},
        test,
        {e + 1: total[:, e] for e in range(epochs)},
    )


def _rate(arrays: Arrays, count: int) -> FloatArray:
    """Seconds of one epoch: from `train_time_EPOCHS_s`, `train_time_s`, else one second."""
    for name, values in arrays.items():
        match = re.fullmatch(r"train_time(?:_(\d+))?_s", name)
        if match:
            return _numbers(values) / float(match[1] or 1)
    return np.ones(count)


def _extras(arrays: Arrays, count: int) -> dict[str, FloatArray]:
    return {
        metric: np.asarray(arrays[name], dtype=float) * scale
        for name, (metric, scale) in EXTRA.items()
        if name in arrays and arrays[name].shape == (count,)
    }


def _column(place: str, index: npt.NDArray[np.int64] | None, count: int) -> FloatArray:
    """A column written as FILE:COLUMN."""
    file, _, column = place.rpartition(":")
    if not file or not column:
        raise SpecError(f"cost '{place}': write FILE.npz:COLUMN")
    arrays = _archive(Path(file))
    if column not in arrays:
        raise SpecError(f"cost '{place}': {file} has no column '{column}'; it has {', '.join(arrays)}")
    values = _numbers(arrays[column])
    if index is not None and len(values) != count and len(values) > index.max():
        values = values[index]
    if values.shape != (count,):
        raise SpecError(
            f"cost '{place}': has {len(values)} rows, the scores have {count}; name another column"
        )
    return values


def _architectures(
    arrays: Arrays, index: npt.NDArray[np.int64] | None, count: int
) -> tuple[Choices, Sequence[Candidate]]:
    """Choices and the candidate of every row: a product of codes, or the bare number of the row."""
    parts = [
        arrays[n].reshape(len(arrays[n]), -1) for n in CODES if n in arrays and "adjacency" not in arrays
    ]
    codes = np.concatenate(parts, axis=1).astype(int) if parts else np.zeros((0, 0), dtype=int)
    if index is not None and len(codes) > index.max() and len(codes) != count:
        codes = codes[index]
    levels = [sorted(set(column)) for column in codes.T]
    product = np.prod([float(len(level)) for level in levels]) if levels else np.inf
    if len(codes) != count or len(codes) < DENSE * product or len(np.unique(codes, axis=0)) < count:
        labels = [f"row_{i}" for i in range(count)]
        return {"row": Values(values=list(labels))}, [Candidate({"row": label}) for label in labels]
    names = [f"edge_{i}" for i in range(codes.shape[1])]
    words = [str(w) for w in arrays["op_names"]] if "op_names" in arrays else None
    kinds = [[_word(code, words) for code in level] for level in levels]
    choices: Choices = {n: Values(values=list(k)) for n, k in zip(names, kinds, strict=True)}
    return choices, [
        Candidate({n: _word(c, words) for n, c in zip(names, row, strict=True)}) for row in codes
    ]


def _twins(
    arrays: Arrays, index: npt.NDArray[np.int64] | None, candidates: Sequence[Candidate]
) -> dict[Candidate, Candidate]:
    """Candidates of one `iso_class` compute the same function; the first by its codes stands for all."""
    if "iso_class" not in arrays or "ops" not in arrays:
        return {}
    classes, codes = arrays["iso_class"], arrays["ops"].reshape(len(arrays["ops"]), -1)
    if index is not None and len(classes) != len(candidates):
        classes, codes = classes[index], codes[index]
    if len(classes) != len(candidates):
        return {}
    first: dict[int, Candidate] = {}
    for row in np.lexsort(codes.T[::-1]):
        first.setdefault(int(classes[row]), candidates[row])
    return {c: first[int(k)] for c, k in zip(candidates, classes, strict=True)}


def _word(code: int, words: Sequence[str] | None) -> str:
    """A code as a value without an order."""
    return words[code] if words is not None and 0 <= code < len(words) else f"op{code}"


def geometric(top: int, reduction_factor: float, rungs: int) -> list[int]:
    """Epochs of a ladder that ends at `top` and shrinks by a factor from rung to rung."""
    epochs = sorted({max(1, round(top / reduction_factor**i)) for i in range(rungs)})
    return [a for a, b in pairwise([*epochs, top + 1]) if a < b]
