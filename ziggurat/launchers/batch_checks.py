"""Whether AWS Batch would take jobs: its queue, the machines behind it, the job definition or the image.

What may not be asked for lack of a permission is left out, except for the queue itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ziggurat.errors import SpecError, ZigguratError, near
from ziggurat.launchers.batch_words import told

if TYPE_CHECKING:
    from ziggurat.launchers.aws_batch import AwsBatch

_ECR = re.compile(
    r"^(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<name>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>sha256:\w+))?$"
)
_NOT_THERE = {"ImageNotFoundException", "RepositoryNotFoundException"}


def check(setting: AwsBatch, batch: Any, registry: Callable[[str], Any]) -> None:  # noqa: ANN401 - boto3
    """Look at everything that a job needs.

    Args:
        setting: The launcher.
        batch: Client of Batch.
        registry: Gives a client of Amazon's container registry in a region.

    Raises:
        SpecError: Something is not there, or takes no jobs.
        ZigguratError: AWS cannot be asked.
    """
    queue = _queue(setting, batch)
    _share(setting, queue)
    _machines(setting, batch, queue)
    if setting.job_definition is not None:
        _definition(setting.job_definition, batch)
    _image(setting.image or "", registry)


def _queue(setting: AwsBatch, batch: Any) -> Mapping[str, Any]:  # noqa: ANN401
    wanted = setting.queue
    with told("describe the queue"):
        found = batch.describe_job_queues(jobQueues=[wanted])["jobQueues"]
        known = found or batch.describe_job_queues()["jobQueues"]
    if not found:
        close = near(wanted, [q["jobQueueName"] for q in known])
        raise SpecError(f"launcher.queue: no queue '{wanted}' in {batch.meta.region_name}; {close}")
    queue: Mapping[str, Any] = found[0]
    if queue["state"] != "ENABLED":
        raise SpecError(f"launcher.queue: queue '{wanted}' is disabled; enable it or name another")
    if queue.get("status", "VALID") not in {"VALID", "UPDATING"}:
        why = queue.get("statusReason") or "no reason given"
        raise SpecError(f"launcher.queue: queue '{wanted}' is {queue['status']} ({why}); mend it first")
    return queue


def _share(setting: AwsBatch, queue: Mapping[str, Any]) -> None:
    fair, share = "schedulingPolicyArn" in queue, setting.share
    if fair and share is None:
        text = f"launcher.share: queue '{setting.queue}' has a fair-share policy; give an identifier"
        raise SpecError(text)
    if share is not None and not fair:
        raise SpecError(
            f"launcher.share is '{share}', but queue '{setting.queue}' has no fair-share policy; leave it out"
        )


def _machines(setting: AwsBatch, batch: Any, queue: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Whether a compute environment of the queue takes jobs as large as these."""
    names = [entry["computeEnvironment"] for entry in queue.get("computeEnvironmentOrder", [])]
    try:
        with told("describe the compute environments"):
            asked = {"computeEnvironments": names}
            found = batch.describe_compute_environments(**asked)["computeEnvironments"]
    except ZigguratError:
        return
    usable = [e for e in found if e.get("state") == "ENABLED" and e.get("status", "VALID") != "INVALID"]
    if found and not usable:
        why = "; ".join(f"{e['computeEnvironmentName']} {_off(e)}" for e in found)
        raise SpecError(f"launcher.queue: no machines behind queue '{setting.queue}' ({why}); enable some")
    room = max((e.get("computeResources", {}).get("maxvCpus", 0) for e in usable), default=0)
    if 0 < room < setting.resources.cpus:
        raise SpecError(
            f"launcher.resources.cpus is {setting.resources.cpus}, but queue '{setting.queue}' has at most "
            f"{room}; lower it or raise maxvCpus"
        )


def _off(environment: Mapping[str, Any]) -> str:
    """Why a compute environment takes no jobs."""
    if environment.get("state") != "ENABLED":
        return "is disabled"
    return f"is invalid: {environment.get('statusReason') or 'no reason given'}"


def _definition(wanted: str, batch: Any) -> None:  # noqa: ANN401
    name, _, revision = wanted.rpartition("/")[2].partition(":")
    with told("describe the job definition"):
        found = batch.describe_job_definitions(jobDefinitionName=name)["jobDefinitions"]
    active = [str(d["revision"]) for d in found if d.get("status") == "ACTIVE"]
    if not active or (revision and revision not in active):
        known = ", ".join(f"{name}:{number}" for number in active) or "none of this name"
        raise SpecError(f"launcher.job_definition: no active '{wanted}'; known: {known}")


def _image(image: str, registry: Callable[[str], Any]) -> None:
    """Whether an image in Amazon's registry is there; other registries are not asked."""
    match = _ECR.match(image)
    if match is None:
        return
    wanted = {"imageDigest": match["digest"]} if match["digest"] else {"imageTag": match["tag"] or "latest"}
    try:
        with told("look at the image"):
            registry(match["region"]).describe_images(
                registryId=match["account"], repositoryName=match["name"], imageIds=[wanted]
            )
    except ZigguratError as error:
        # who may not ask can still submit: the machines pull the image, not this process
        if any(code in str(error) for code in _NOT_THERE):
            text = f"launcher.image: '{image}' is not in the registry; push it, or mend the name"
            raise SpecError(text) from None
