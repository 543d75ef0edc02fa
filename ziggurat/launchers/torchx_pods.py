"""What Volcano and Kubernetes say of jobs and pods, and what their refusals mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ziggurat.errors import ZigguratError
from ziggurat.launchers.scheduler import Condition, State

_PHASES = {
    "Pending": State.PENDING,
    "Inqueue": State.PENDING,
    "Restarting": State.PENDING,
    "Running": State.RUNNING,
    "Completing": State.RUNNING,
    "Aborting": State.RUNNING,
    "Terminating": State.RUNNING,
    "Completed": State.SUCCEEDED,
    "Aborted": State.CANCELLED,
    "Terminated": State.FAILED,
    "Failed": State.FAILED,
}
_POD_REASONS = {
    "DeadlineExceeded": State.TIMEOUT,
    "Evicted": State.PREEMPTED,
    "Preempting": State.PREEMPTED,
    "Preempted": State.PREEMPTED,
    "Shutdown": State.PREEMPTED,
    "NodeShutdown": State.PREEMPTED,
    "Terminated": State.PREEMPTED,
    "NodeLost": State.NODE_LOST,
    "NodeAffinity": State.NODE_LOST,
    "UnexpectedAdmissionError": State.NODE_LOST,
}
_HOPELESS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"})
"""Why a container waits that will not start by waiting."""


def phase_of(job: Mapping[str, Any]) -> Condition:
    """What Volcano says of a job."""
    state = job.get("status", {}).get("state", {})
    phase = str(state.get("phase", "Pending"))
    words = ": ".join(str(w) for w in (state.get("reason"), state.get("message")) if w)
    return Condition(_PHASES.get(phase, State.PENDING), f"{phase}{f' ({words})' if words else ''}")


def explained(condition: Condition, pod: Mapping[str, Any]) -> Condition:
    """What a pod adds to what its job says: why it has failed, or why it does not start."""
    status = pod.get("status", {})
    lost = next((c for c in status.get("conditions", ()) if c.get("type") == "DisruptionTarget"), None)
    reason = str(status.get("reason") or "")
    statuses: list[Mapping[str, Any]] = status.get("containerStatuses") or [{}]
    inside = statuses[0].get("state", {})
    if condition.state is State.PENDING:
        waits = inside.get("waiting", {})
        if waits.get("reason") in _HOPELESS:
            return Condition(State.FAILED, f"{waits['reason']}: {waits.get('message', '')}".strip(": "))
        return condition
    ended = inside.get("terminated", {})
    code = ended.get("exitCode")
    words = f"{condition.text}{f', exit code {code}' if code is not None else ''}"
    if ended.get("reason") == "OOMKilled":
        return Condition(State.OUT_OF_MEMORY, f"OOMKilled; {words}")
    if reason in _POD_REASONS:
        return Condition(_POD_REASONS[reason], f"{reason}: {status.get('message', '')}".strip(": "))
    if lost is not None and lost.get("status") == "True":
        return Condition(State.PREEMPTED, f"{lost.get('reason', '')}: {lost.get('message', '')}".strip(": "))
    return Condition(condition.state, words)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Kubernetes's errors in one line."""
    import urllib3
    from kubernetes.client.rest import ApiException

    cures = {
        401: "log in to the cluster again",
        403: "ask for the right to do that in this namespace",
        404: "install Volcano, which TorchX needs, or correct launcher.settings.namespace",
    }
    try:
        yield
    except ApiException as error:
        cure = cures.get(error.status)
        raise ZigguratError(
            f"Kubernetes refuses to {what} ({error.status} {error.reason}){f'; {cure}' if cure else ''}"
        ) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ZigguratError(
            f"Kubernetes does not answer ({error}); see with `kubectl cluster-info` whether it is reachable"
        ) from None
    except ValueError as error:
        raise ZigguratError(f"Kubernetes does not take the job: {error}") from None
