"""Jobs of Volcano on Kubernetes, through TorchX's `kubernetes`.

Each job is a Volcano job of one pod. The pod carries the time limit and the grace, so the cluster keeps to
them without the controller; a label on the job lets any controller find it again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat.errors import SpecError, ZigguratError, near
from ziggurat.launchers.scheduler import Condition, Request, State
from ziggurat.launchers.torchx_app import LABEL, ROLE, SUFFIX, app_of, as_yaml, role_of, shown
from ziggurat.launchers.torchx_pods import explained, phase_of, told
from ziggurat.launchers.torchx_words import last_line

if TYPE_CHECKING:
    from ziggurat.launchers.torchx import TorchX

PREFIX = "kubernetes:"
LONGEST_NAME = 36
"""Of a job, so that with TorchX's random end and the number of its pod it has at most 63 characters."""
KEPT_S = 86_400
"""Seconds after which Kubernetes removes an ended job."""
LAST_LINES = 30
ANSWER_S = 30
_POD_LABEL = "volcano.sh/job-name"
_GROUP, _VERSION, _JOBS = "batch.volcano.sh", "v1alpha1", "jobs"


class KubernetesScheduler:
    """Volcano jobs of one namespace."""

    def __init__(self, setting: TorchX, folder: Path) -> None:
        """Nothing is reached for yet.

        Raises:
            SpecError: The client library is not installed.
        """
        del folder
        try:
            import kubernetes  # noqa: F401
        except ImportError:
            raise SpecError(
                "launcher.scheduler is kubernetes, whose client is not installed; "
                "pip install 'ziggurat[kubernetes]'"
            ) from None
        from torchx.schedulers import kubernetes_scheduler

        self._setting = setting
        self._options = dict(setting.options())
        for kept in ("reserved_millicpu", "reserved_memmb"):
            # TorchX assumes that a job has a machine for itself, and would ask for less than it may use
            if kept not in setting.settings:
                self._options[kept] = 0
        self._namespace = str(self._options["namespace"])
        self._torchx = kubernetes_scheduler.create_scheduler("ziggurat")
        self._cancelled: set[str] = set()
        self._client: Any = None

    def _api(self, name: str) -> Any:  # noqa: ANN401 - Kubernetes's library has no types
        """One of the parts of Kubernetes's client; its settings are read once."""
        from kubernetes import client, config

        if self._client is None:
            here = client.Configuration()
            try:
                config.load_incluster_config(client_configuration=here)
            except config.ConfigException:
                try:
                    config.load_kube_config(client_configuration=here)
                except config.ConfigException as error:
                    raise ZigguratError(
                        f"Kubernetes is not set up on this machine ({error}); set KUBECONFIG, or write "
                        f"~/.kube/config"
                    ) from None
            here.retries = False
            self._client = client.ApiClient(here)
            self._torchx = type(self._torchx)("ziggurat", client=self._client)
        return getattr(client, name)(self._client)

    def check(self) -> None:
        """Whether Kubernetes answers, has Volcano, and the queue is there.

        Raises:
            SpecError: It does not.
        """
        try:
            with told("list Volcano's jobs"):
                self._list(limit=1)
            with told("list Volcano's queues"):
                found = self._api("CustomObjectsApi").list_cluster_custom_object(
                    "scheduling.volcano.sh", "v1beta1", "queues", _request_timeout=ANSWER_S
                )
        except ZigguratError as error:
            raise SpecError(str(error)) from None
        queues = [str(q["metadata"]["name"]) for q in found["items"]]
        wanted = str(self._options["queue"])
        if wanted not in queues:
            raise SpecError(
                f"launcher.settings.queue is '{wanted}', which the cluster does not have; "
                f"{near(wanted, queues)}"
            )

    def plan(self, request: Request) -> str:
        """The Volcano job as YAML, without the random end of its name."""
        from torchx.schedulers.kubernetes_scheduler import sanitize_for_serialization

        info = self._dry_run(request, validate=False)
        plain: Any = sanitize_for_serialization(info.request.resource)
        name = plain["metadata"]["name"]
        for task in plain["spec"]["tasks"]:
            for container in task["template"]["spec"]["containers"]:
                for variable in container.get("env", []):
                    if "value" in variable:
                        variable["value"] = shown({variable["name"]: variable["value"]})[variable["name"]]
        return as_yaml(plain).replace(name, f"{_short(request.name)}-{SUFFIX}")

    def _dry_run(self, request: Request, *, validate: bool) -> Any:  # noqa: ANN401
        """TorchX's request, with limits for the pod and a label for the job."""
        from torchx.specs.overlays import set_overlay

        role = role_of(request, self._setting.image or "", self._setting.mounts)
        limits = {
            "terminationGracePeriodSeconds": math.ceil(request.grace_s),
            "activeDeadlineSeconds": math.ceil(request.time_limit_s),
        }
        own = dict(self._setting.pod)
        spec = own.get("spec")
        overlay = own | {"spec": limits | (spec if isinstance(spec, dict) else {})}
        set_overlay(role, "kubernetes", "V1Pod", overlay)
        options = self._options | {"validate_spec": validate and self._options["validate_spec"]}
        info = self._torchx.submit_dryrun(app_of(_short(request.name), role), options)
        resource = info.request.resource
        for task in resource["spec"]["tasks"]:
            container = task["template"].spec.containers[0]
            container.command = [_literal(word) for word in container.command]
            for variable in container.env or ():
                if variable.value is not None:
                    variable.value = _literal(variable.value)
        resource["metadata"]["labels"] = {LABEL: request.name}
        resource["spec"]["ttlSecondsAfterFinished"] = KEPT_S
        return info

    def submit(self, request: Request) -> str:
        """Have Kubernetes take a Volcano job.

        Raises:
            ZigguratError: It was refused.
        """
        with told("create the job"):
            self._api("CustomObjectsApi")
            return PREFIX + str(self._torchx.schedule(self._dry_run(request, validate=True)))

    def _list(self, label: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        chosen = {"label_selector": label, "limit": limit}
        found = self._api("CustomObjectsApi").list_namespaced_custom_object(
            _GROUP,
            _VERSION,
            self._namespace,
            _JOBS,
            _request_timeout=ANSWER_S,
            **{k: v for k, v in chosen.items() if v is not None},
        )
        return list(found["items"])

    def look_up(self, name: str) -> str | None:
        """The job with this name in its label that was made last."""
        with told("look a job up"):
            found = self._list(f"{LABEL}={name}")
        newest = max(found, key=lambda job: str(job["metadata"].get("creationTimestamp", "")), default=None)
        return None if newest is None else self._handle(newest)

    def _handle(self, job: Mapping[str, Any]) -> str:
        return f"{PREFIX}{self._namespace}:{job['metadata']['name']}"

    def conditions(self, handles: Sequence[str]) -> Mapping[str, Condition]:
        """Where jobs stand: one question for the jobs, and one for the pods of those that need explaining."""
        if not handles:
            return {}
        with told("list jobs"):
            jobs = {self._handle(job): job for job in self._list(LABEL)}
            gone = Condition(State.GONE, "Kubernetes does not know the job (any more)")
            found = {h: phase_of(jobs[h]) if h in jobs else gone for h in handles}
            unclear = [h for h, c in found.items() if c.state in {State.FAILED, State.PENDING}]
            pods = self._pods(unclear)
        for handle in unclear:
            for pod in pods.get(handle, ()):
                found[handle] = explained(found[handle], pod)
        return {
            h: Condition(State.CANCELLED, c.text) if c.state is State.FAILED and h in self._cancelled else c
            for h, c in found.items()
        }

    def _pods(self, handles: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        names = [handle.rpartition(":")[2] for handle in handles]
        if not names:
            return {}
        # read as plain JSON: the client's models refuse what a newer or older cluster says
        answer = self._api("CoreV1Api").list_namespaced_pod(
            self._namespace,
            label_selector=f"{_POD_LABEL} in ({','.join(names)})",
            _preload_content=False,
            _request_timeout=ANSWER_S,
        )
        pods: dict[str, list[dict[str, Any]]] = {}
        for pod in json.loads(answer.data)["items"]:
            name = pod["metadata"]["labels"][_POD_LABEL]
            pods.setdefault(f"{PREFIX}{self._namespace}:{name}", []).append(pod)
        return pods

    def cancel(self, handle: str) -> None:
        """Abort a job; its pod gets SIGTERM, and SIGKILL after the grace it carries."""
        if not handle.startswith(PREFIX):
            return
        self._cancelled.add(handle)
        with told("cancel a job"):
            self._abort(handle)

    def _abort(self, handle: str) -> None:
        namespace, _, name = handle.removeprefix(PREFIX).partition(":")
        salt = hashlib.sha256(name.encode()).hexdigest()[:8]
        job = self._api("CustomObjectsApi").get_namespaced_custom_object(
            _GROUP, _VERSION, namespace, _JOBS, name, _request_timeout=ANSWER_S
        )
        if phase_of(job).state not in {State.PENDING, State.RUNNING}:
            return
        owner = {"apiVersion": f"{_GROUP}/{_VERSION}", "kind": "Job", "name": name, "controller": True}
        command = {
            "apiVersion": "bus.volcano.sh/v1alpha1",
            "kind": "Command",
            "metadata": {
                "name": f"{name[:40]}-abort-{salt}",
                "ownerReferences": [owner | {"uid": job["metadata"].get("uid", "")}],
            },
            "action": "AbortJob",
            "target": owner | {"uid": job["metadata"].get("uid", "")},
        }
        from kubernetes.client.rest import ApiException

        try:
            self._api("CustomObjectsApi").create_namespaced_custom_object(
                "bus.volcano.sh", "v1alpha1", namespace, "commands", command, _request_timeout=ANSWER_S
            )
        except ApiException as error:
            if error.status != 409:  # noqa: PLR2004 - it has been asked already
                raise

    def last_words(self, handle: str) -> str:
        """The last line that a job's pod has printed."""
        with told("read a log"):
            for pod in self._pods([handle]).get(handle, ()):
                answer = self._api("CoreV1Api").read_namespaced_pod_log(
                    pod["metadata"]["name"],
                    self._namespace,
                    container=f"{ROLE}-0",
                    tail_lines=LAST_LINES,
                    _preload_content=False,
                    _request_timeout=ANSWER_S,
                )
                return last_line(line.strip() for line in answer.data.decode("utf-8", "replace").splitlines())
        return ""

    def close(self, *, leave: bool = False) -> None:
        """Close the connection; the cluster keeps to limits and grace by itself."""
        del leave
        if self._client is not None:
            self._client.close()
            self._client = None


def _literal(text: str) -> str:
    """A text that Kubernetes leaves as it is: it would take $(NAME) for a variable."""
    return text.replace("$(", "$$(")


def _short(name: str) -> str:
    """A name that leaves room for what TorchX and Volcano add to it."""
    if len(name) <= LONGEST_NAME:
        return name
    salt = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9].rstrip('-')}-{salt}"
