"""What a run gives to MLflow beside its events: who it is, its finished models, where to look at it all."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ziggurat import outlook
from ziggurat.domain import Job, JobKind, Recipe, Trial
from ziggurat.errors import ZigguratError
from ziggurat.events import Decided
from ziggurat.listeners import mlflow_client
from ziggurat.listeners.mlflow_about import About, finalists
from ziggurat.listeners.mlflow_client import place_of
from ziggurat.listeners.mlflow_mirror import CURSOR, MlflowMirror
from ziggurat.report.redact import LOGIN, SECRET
from ziggurat.runs import SPEC
from ziggurat.scripted import script_of

if TYPE_CHECKING:
    from ziggurat.engine import Engine
    from ziggurat.history import History
    from ziggurat.spec import Spec

log = logging.getLogger(__name__)

PUBLISHED = "published"
PUBLISH_S = 90.0
"""Seconds for one model."""
OPEN = ("space.", "objectives.", "search.searcher.", "search.stopper.")
"""Where names are the user's own words, and say nothing about secrets: `token_length` is a choice."""
PORT = 5000
"""Where a server is started for people who have none."""
AWAIT_S = 30.0
"""Seconds for the mirror to have written what has happened so far."""


def mirror_of(folder: Path, spec: Spec) -> MlflowMirror | None:
    """The mirror of a run directory, started; None where nothing is tracked."""
    if not spec.tracking.enabled:
        return None
    place = place_of(spec.tracking, folder.parent, spec.name)
    return MlflowMirror(spec.tracking, place, folder, about(folder, spec))


def about(folder: Path, spec: Spec) -> About:
    """What MLflow is told of a run beside its events."""
    text = spec_text(folder)
    shown = yaml.safe_load(text)
    data = shown.get("data") or {}
    return About(
        objectives=spec.goals(),
        judged=spec.judged(),
        spec=text,
        settings=shown,
        dataset=" ".join([spec.data.kind, *([Path(str(data["path"])).name] if data.get("path") else [])]),
        source={k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in data.items()},
        projected=lambda history: history.spent_usd + outlook.forecast_usd(spec, history),
    )


def _judging(spec: Spec) -> About:
    return About(spec.goals(), spec.judged())


def spec_text(folder: Path) -> str:
    """The spec of a run directory as YAML that can be run again, without secrets."""
    plain = yaml.safe_load((folder / SPEC).read_text(encoding="utf-8"))
    return yaml.safe_dump(without_secrets(plain), sort_keys=False, allow_unicode=True)


def without_secrets(plain: Any, path: str = "") -> Any:  # noqa: ANN401 - any plain value
    """Plain values of a spec with variables in place of whatever may be secret: it can still be run.

    What the environment gives is a variable already; what was written out becomes one.
    """
    if isinstance(plain, Mapping):
        return {k: without_secrets(v, f"{path}.{k}".lstrip(".")) for k, v in plain.items()}
    if isinstance(plain, list):
        return [without_secrets(v, f"{path}.{i}") for i, v in enumerate(plain)]
    if not isinstance(plain, str) or not plain or "${" in plain:
        return plain
    key = next((word for word in reversed(path.split(".")) if not word.isdecimal()), "")
    secret = SECRET.search(key) and not path.startswith(OPEN)
    if not secret and not LOGIN.search(plain):
        return plain
    return f"${{ZIGGURAT_{''.join(c if c.isalnum() else '_' for c in path).upper()}}}"


def best_of(spec: Spec, history: History) -> Trial | None:
    """The best of all retrained models; None if there is none."""
    return next(iter(finalists(history, _judging(spec))), None)


def publish(engine: Engine, mirror: MlflowMirror | None) -> None:
    """Log and register the best seed of each retrained architecture; the run goes on if that fails."""
    run = engine.run
    if mirror is None:
        return
    if script_of(run.spec, Recipe.RETRAIN) is not None:
        log.info("MLflow: a script's model is its own, so none is logged or registered")
        return
    done = {d.trial for d in run.history.decisions if d.kind == PUBLISHED}
    left = [t for t in finalists(run.history, _judging(run.spec)) if t.number not in done]
    for trial in left:
        try:
            _await(mirror, engine)
            found = engine.call(_job(engine, trial), PUBLISH_S)
        except ZigguratError as error:
            log.warning("MLflow: the model of trial %d was not logged (%s)", trial.number, error)
            return
        run.record([_published(found, run.history.length, trial)])


def _job(engine: Engine, trial: Trial) -> Job:
    return Job(
        key=f"service-publish-{trial.number}-{engine.run.mark[-8:]}",
        kind=JobKind.PUBLISH,
        stage="retrain",
        trial=trial.number,
        candidate=trial.candidate,
        recipe=trial.recipe,
        seed=trial.seed,
        checkpoint=trial.checkpoint,
        time_limit_s=PUBLISH_S,
    )


def _await(mirror: MlflowMirror, engine: Engine) -> None:
    """Wait until the mirror has written what has happened so far.

    Raises:
        ZigguratError: It has not within its time.
        Interrupted: Somebody asked the run to stop.
    """
    deadline = time.monotonic() + AWAIT_S
    mirror.hurry(on=True)
    try:
        while mirror.behind:
            engine.run.check_stop()
            if mirror.down or time.monotonic() > deadline:
                raise ZigguratError(f"{mirror.behind} events are still waiting for the server")
            engine.pool.wait(0.1)
    finally:
        mirror.hurry(on=False)


def _published(found: Mapping[str, Any], seen: int, trial: Trial) -> Decided:
    facts = {name: value for name, value in found.items() if isinstance(value, (str, int, float))}
    return Decided(
        PUBLISHED, "logged", trial.number, seen=seen, reason="best seed of its architecture", facts=facts
    )


def look_command(folder: Path, spec: Spec, history: History) -> str:
    """How the run is looked at in MLflow, in one line; empty where nothing is tracked."""
    server, page = look(folder, spec, history)
    steps = [server] if server else []
    if page:
        steps.append(f"open {page}")
    return ", then ".join(steps)


def look(folder: Path, spec: Spec, history: History) -> tuple[str, str]:
    """How the run is looked at in MLflow: a command that starts a server, and the address of a page.

    The page has the finalists side by side, or the run itself as long as there are none. For a tracking
    server no command is needed; for a database there is no page before the run is in it.
    """
    if not spec.tracking.enabled:
        return "", ""
    uri, page = spec.tracking.address(folder.parent), _page(folder, spec, history)
    if uri.startswith("http"):
        return "", f"{uri.rstrip('/')}/{page}"
    server = f"mlflow server --host 127.0.0.1 --port {PORT} --backend-store-uri {uri}"
    return server, f"http://127.0.0.1:{PORT}/{page}" if page else ""


def _page(folder: Path, spec: Spec, history: History) -> str:
    """The page of the finalists, or of the run; empty as long as MLflow has neither."""
    try:
        plain = json.loads((folder / CURSOR).read_text(encoding="utf-8"))
        runs, parent, experiment = dict(plain["trials"]), plain["parent"], str(plain["experiment"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    wanted = [runs[str(t.number)] for t in finalists(history, _judging(spec)) if str(t.number) in runs]
    return mlflow_client.runs_page(experiment, wanted or [parent]) if wanted or parent else ""
