"""Which checkpoints of a run are still needed, and the removal of those that are not.

What is needed is a function of the history alone. Of every trial that lives or has reached the top, its last
checkpoint and that of its best rung are kept; of one that was stopped, has failed or was rejected, none,
unless another trial goes on from it. Models that were retrained keep everything. What the history does not
know of is left alone, since a worker may be about to tell of it.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from ziggurat.domain import JobKind, Objective, Trial, TrialStatus
from ziggurat.history import History
from ziggurat.stores import Store, StoreError

log = logging.getLogger(__name__)

SEARCH, RETRAIN = "search", "retrain"
REOPENED = "stopped_by_budget"
"""Verdict of a stage that goes on if its limit is raised."""
DROPPED = frozenset({TrialStatus.STOPPED, TrialStatus.FAILED, TrialStatus.REJECTED})
MANY = 20
"""Trials beyond which a store is listed once rather than trial by trial."""
_CHECKPOINT = re.compile(
    r"trials/(\d{5,})/(?:rung-(?P<rung>\d+)\.\w+|(?P<partial>partial)\.\w+|checkpoint/.+)"
)
_KINDS: Mapping[str, re.Pattern[str]] = {
    "checkpoints": _CHECKPOINT,
    "exports": re.compile(r"trials/\d{5,}/model[^/]*\.(?:onnx|pt2)(?:\.data)?"),
    "journal": re.compile(r"journal\.jsonl|journal/.+"),
    "logs": re.compile(r"logs/.+|trials/\d{5,}/logs/.+|.+\.log"),
}
OTHER = "other"


@dataclass(frozen=True)
class Rules:
    """What decides over checkpoints beside the history.

    Attributes:
        keep: Two of each trial, or all.
        objective: What the best rung is best in; without it only the last one counts.
        handed_on: The search starts new trials from checkpoints of others, of any trial and any rung.
    """

    keep: Literal["last_and_best", "all"] = "last_and_best"
    objective: Objective | None = None
    handed_on: bool = False


def written(history: History) -> dict[tuple[int, int], str]:
    """Path of the checkpoint that a trial has written at a rung."""
    return {
        (s.job.trial, s.job.to_rung): s.end.checkpoint
        for s in history.successes(JobKind.TRAIN)
        if s.end is not None and s.end.checkpoint is not None
    }


def needed(history: History, rules: Rules) -> set[str]:
    """Paths of checkpoints that a later step may ask for, or that are kept for their owner."""
    paths = written(history)
    found = {s.job.checkpoint for s in history.open_segments.values() if s.job.checkpoint}
    for trial in history.trials.values():
        if trial.status not in DROPPED:
            found |= {p for p in (trial.checkpoint, paths.get((trial.number, _best(trial, rules)))) if p}
        if trial.parent is not None and not trial.ended:
            found |= {p for p in [paths.get((trial.parent.trial, trial.parent.rung))] if p}
    if rules.handed_on and not _over(history, SEARCH):
        lost = {TrialStatus.FAILED, TrialStatus.REJECTED}
        kept = {t.number for t in history.of_stage(SEARCH) if t.status not in lost}
        found |= {path for (number, _), path in paths.items() if number in kept}
    return found


def _best(trial: Trial, rules: Rules) -> int:
    """The rung at which a trial was best, the higher one of equals; -1 if that is not known."""
    if rules.objective is None:
        return -1
    metric, loss = rules.objective.metric, rules.objective.loss
    losses = {rung: loss(trial.value(metric, rung)) for rung in sorted(trial.results, reverse=True)}
    known = {rung: value for rung, value in losses.items() if not math.isnan(value)}
    return min(known, key=lambda rung: known[rung], default=-1)


def _over(history: History, stage: str) -> bool:
    """Whether a stage has ended for good."""
    done = history.stages.get(stage)
    return done is not None and done.verdict != REOPENED


def needless(keys: Iterable[str], history: History, rules: Rules) -> list[str]:
    """Those of some keys of a run that are checkpoints which nothing will ask for.

    Args:
        keys: Paths relative to the run directory; what is no checkpoint stays.
        history: Only what cannot be lost any more: journalled, and mirrored where there is a mirror.
        rules: What else decides.
    """
    if rules.keep == "all":
        return []
    keep, busy = needed(history, rules), _busy(history)
    return [key for key in keys if key not in keep and _free(key, history, busy)]


def _busy(history: History) -> set[int]:
    """Trials with a segment that is planned or running."""
    return {segment.job.trial for segment in history.open_segments.values()}


def _free(key: str, history: History, busy: Collection[int]) -> bool:
    """Whether a key is a checkpoint that its trial neither writes now nor may have written unheard."""
    match = _CHECKPOINT.fullmatch(key)
    trial = history.trials.get(int(match[1])) if match else None
    if match is None or trial is None or trial.stage == RETRAIN:
        return False
    quiet = trial.number not in busy
    if match["rung"]:
        return int(match["rung"]) <= trial.rung or (trial.ended and quiet)
    # a partial one of a trial that goes on may come from a segment whose end has not been heard of
    return quiet and (trial.ended or not match["partial"])


@dataclass
class Sweeper:
    """Removes needless checkpoints of one run as it goes on, and looks only where something has changed.

    Attributes:
        folder: Run directory.
        store: Where they are kept as well, if anywhere.
        rules: What is kept.
    """

    folder: Path
    store: Store | None
    rules: Rules
    _swept: dict[int, tuple[bool, frozenset[str]]] = field(default_factory=dict)

    def sweep(self, history: History) -> int:
        """Remove what is not needed; returns the bytes that are free now, here and in the store.

        What cannot be removed is tried again with the next change, and told in the log.
        """
        if self.rules.keep == "all":
            return 0
        states = self._states(history)
        changed = [number for number, state in states.items() if self._swept.get(number) != state]
        freed = 0
        try:
            if changed:
                freed += self._sweep_folder(changed, history)
            if changed and self.store is not None:
                freed += self._sweep_store(self.store, changed, history)
            self._swept |= {number: states[number] for number in changed}
        except (OSError, StoreError) as error:
            log.warning("checkpoints that are not needed any more could not be removed (%s)", error)
        return freed

    def _states(self, history: History) -> dict[int, tuple[bool, frozenset[str]]]:
        """For trials that something can be removed of: whether they have ended and run no more, and what."""
        known: dict[int, set[str]] = {}
        for (number, _), path in written(history).items():
            known.setdefault(number, set()).add(path)
        free = set(needless((p for paths in known.values() for p in paths), history, self.rules))
        busy = _busy(history)
        found = {
            number: (trial.ended and number not in busy, frozenset(known.get(number, set()) & free))
            for number, trial in history.trials.items()
        }
        return {number: state for number, state in found.items() if state[0] or state[1]}

    def _sweep_folder(self, numbers: Iterable[int], history: History) -> int:
        freed = 0
        for number in numbers:
            home = self.folder / "trials" / f"{number:05d}"
            sizes = dict(_files(self.folder, home))
            for key in needless(sizes, history, self.rules):
                (self.folder / key).unlink(missing_ok=True)
                freed += sizes[key]
        return freed

    def _sweep_store(self, store: Store, numbers: list[int], history: History) -> int:
        prefixes = [f"trials/{n:05d}/" for n in numbers] if len(numbers) <= MANY else ["trials/"]
        sizes = {entry.key: entry.size for prefix in prefixes for entry in store.entries(prefix)}
        keys = needless(sizes, history, self.rules)
        store.delete(keys)
        return sum(sizes[key] for key in keys)


def _files(root: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """Keys and sizes of the files below a folder; links are not followed."""
    for path in folder.rglob("*"):
        try:
            stat = path.lstat()
        except FileNotFoundError:
            continue
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(root).as_posix(), stat.st_size


def kind_of(key: str) -> str:
    """What a file of a run is: checkpoints, exports, journal, logs or other."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(key)), OTHER)


def space_used(place: Path | Store) -> dict[str, int]:
    """Bytes of a run directory, or of a run's store, by kind; every kind is there."""
    found = dict.fromkeys((*_KINDS, OTHER), 0)
    if isinstance(place, Path):
        sizes = _files(place, place)
    else:
        sizes = ((entry.key, entry.size) for entry in place.entries())
    for key, size in sizes:
        found[kind_of(PurePosixPath(key).as_posix())] += size
    return found
