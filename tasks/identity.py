"""Which run a flow run is about, kept as labels of the flow run, so that a further try goes on with it.

A flow run that has crashed may be tried again on another machine; the run's directory is then fetched from
the run's store.
"""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import runtime
from prefect.client.orchestration import get_client

from ziggurat import run_places
from ziggurat.errors import SpecError
from ziggurat.runs import SPEC, Run

log = logging.getLogger(__name__)

FOLDER, STORE = "ziggurat.run_dir", "ziggurat.store"


def remember(run: Run) -> None:
    """Have the flow run know its run, and be shown under its name."""
    labels: dict[str, bool | int | float | str] = {FOLDER: str(run.folder)}
    if run.store is not None:
        labels[STORE] = run.store.url
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(runtime.flow_run.id, labels)
        client.set_flow_run_name(runtime.flow_run.id, run.run_id)


def earlier(runs_dir: str) -> Path | None:
    """The directory of the run that an earlier try of this flow run has begun; None if none has.

    Raises:
        SpecError: It cannot be had on this machine.
    """
    if (runtime.flow_run.run_count or 0) <= 1:
        return None
    with get_client(sync_client=True) as client:
        labels = client.read_flow_run(runtime.flow_run.id).labels
    folder, store = labels.get(FOLDER), labels.get(STORE)
    if not folder:
        return None
    if (Path(str(folder)) / SPEC).is_file():
        return Path(str(folder))
    if store is None:
        raise SpecError(
            f"{folder}: the run that the first try has begun is not on this machine; retry on that one, or "
            "give the spec a store so that any machine can go on"
        )
    log.warning("%s is not on this machine; its run goes on from %s", folder, store)
    return run_places.fetch(str(store), Path(runs_dir))


def again() -> bool:
    """Whether this is a further try of a deployed flow run."""
    return deployed() and (runtime.flow_run.run_count or 0) > 1


def forget() -> None:
    """Have the flow run begin anew if it is tried again: the run it was about has been removed."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(runtime.flow_run.id, {FOLDER: ""})


def superseded() -> bool:
    """Whether a later try of this flow run has begun somewhere; no if that cannot be found out."""
    try:
        with get_client(sync_client=True) as client:
            count = client.read_flow_run(runtime.flow_run.id).run_count
    except Exception as error:  # noqa: BLE001 - the server may be what is gone
        log.warning("the server does not say whether there is a later try (%s)", error)
        return False
    return count > (runtime.flow_run.run_count or 0)


def cancelling() -> bool:
    """Whether somebody has asked Prefect to cancel this flow run; no if that cannot be found out."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(runtime.flow_run.id).state
    except Exception as error:  # noqa: BLE001 - the server may be what is gone
        log.warning("the server does not say why it is to stop (%s)", error)
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def deployed() -> bool:
    """Whether this flow run belongs to a deployment, so that it can be scheduled again."""
    return runtime.deployment.id is not None


def asker() -> str:
    """Who has asked for what this flow run does, in words that tell it from others."""
    return f"flow run {runtime.flow_run.id}"
