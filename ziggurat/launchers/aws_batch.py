"""Settings of the AWS Batch launcher: each segment is one Batch job in a container, on EC2, spot or Fargate.

The two requests that a job takes are made here, as plain data; `batch_scheduler` sends them. A job definition
is named after the hash of its content, so that it is registered once, and found again by any controller.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ziggurat.launchers.remote import LingeringSetting
from ziggurat.launchers.scheduler import Request, Resources

if TYPE_CHECKING:
    from ziggurat.domain import Job
    from ziggurat.launchers.batch_scheduler import BatchScheduler
    from ziggurat.protocols import Site

LOG_GROUP = "/aws/batch/job"
"""Where Batch writes what containers print, unless it is told otherwise."""
SHORTEST_TIMEOUT_S = 60
"""Batch takes no shorter one."""
MEMORY_MB_OF_A_CPU = 2048
"""What a job gets for each of its cores, unless it asks for some: Batch has no default of its own."""
FARGATE_MB = {
    1: (2048, 8192, 1024),
    2: (4096, 16384, 1024),
    4: (8192, 30720, 1024),
    8: (16384, 61440, 4096),
    16: (32768, 122880, 8192),
}
"""Memory that Fargate has for a number of cores: least, most, step."""
RETRY_ON_LOST_HOST = (
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
)
RESERVED = "AWS_BATCH"
ARN = r"^arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:.+$"


class AwsBatch(LingeringSetting):
    """Jobs of AWS Batch, in containers that read and write the run's store."""

    needs_store: ClassVar[bool] = True
    kind: Literal["aws_batch"] = "aws_batch"
    queue: str = Field(min_length=1, max_length=512, description="Job queue, by name or ARN.")
    image: str | None = Field(
        default=None, min_length=1, max_length=512, description="Container image with Ziggurat in it."
    )
    job_definition: str | None = Field(
        default=None,
        pattern=r"^(arn:aws[a-z-]*:batch:[^\s]+|[A-Za-z0-9_-]{1,128}(:[0-9]+)?)$",
        description="A job definition of your own, NAME:REVISION, in place of image.",
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z]{2}[a-z-]*-[0-9]+$",
        description="AWS region; by default that of the environment or of AWS's own configuration.",
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Address of the Batch API, where it is not AWS's own.",
    )
    platform: Literal["ec2", "fargate"] = Field(default="ec2", description="What the queue's machines are.")
    job_role_arn: str | None = Field(
        default=None, pattern=ARN, description="Role of the containers: what they may do with the store."
    )
    execution_role_arn: str | None = Field(
        default=None, pattern=ARN, description="Role that pulls images, reads secrets and writes logs."
    )
    secrets: dict[str, str] = Field(
        default_factory=dict,
        description="Variables whose values AWS puts in: ARNs in Secrets Manager or the Parameter Store.",
    )
    shared_memory_mb: int | None = Field(
        default=None, ge=64, description="Size of /dev/shm on EC2, for data loaders; 64 without it."
    )
    attempts: int = Field(
        default=1,
        ge=1,
        le=10,
        description="Starts that Batch makes by itself when a host was lost; 1 leaves that to the run.",
    )
    share: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]{1,255}$",
        description="Share identifier, for a queue with a fair-share policy.",
    )
    priority: int | None = Field(
        default=None, ge=0, le=9999, description="Priority within the share; the higher goes first."
    )
    tags: dict[str, str] = Field(
        default_factory=dict, max_length=50, description="Tags of the jobs and of what they run on."
    )
    log_group: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_/.#-]{1,512}$",
        description=f"CloudWatch log group; by default Batch's own, {LOG_GROUP}.",
    )
    grace_s: float = Field(
        default=25,
        ge=0,
        description="Seconds a cancelled job has to write its checkpoint; ECS gives a container 30, unless "
        "ECS_CONTAINER_STOP_TIMEOUT on the machines says otherwise.",
    )
    python: str = Field(default="python", min_length=1, description="Python in the image.")
    poll_s: float = Field(
        default=10.0, ge=0.05, le=600, description="Seconds between two looks at the scheduler and the jobs."
    )

    @field_validator("environment", "secrets")
    @classmethod
    def _free_names(cls, variables: dict[str, str]) -> dict[str, str]:
        for name in variables:
            if name.startswith(RESERVED) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"'{name}' cannot be set: use letters, digits and _, and not {RESERVED}...")
        return variables

    @field_validator("secrets")
    @classmethod
    def _references(cls, secrets: dict[str, str]) -> dict[str, str]:
        for name, value in secrets.items():
            if not re.match(ARN, value):
                # the value is not repeated: it may be the secret itself
                raise ValueError(f"{name} is no ARN; store the value in Secrets Manager and give its ARN")
        return secrets

    @model_validator(mode="after")
    def _one_container(self) -> Self:
        if (self.image is None) == (self.job_definition is None):
            raise ValueError(
                "give either image or job_definition; an image is registered as a definition by itself"
            )
        twice = sorted(set(self.environment) & set(self.secrets))
        if twice:
            raise ValueError(f"{twice[0]} is in environment and in secrets; keep it in secrets")
        if self.job_definition is not None:
            fields = ("job_role_arn", "execution_role_arn", "secrets", "shared_memory_mb", "log_group")
            given = [name for name in fields if getattr(self, name)]
            if given:
                raise ValueError(
                    f"{given[0]} belongs to the job definition '{self.job_definition}'; set it there, or "
                    "give image in place of job_definition"
                )
        if self.secrets and self.execution_role_arn is None:
            raise ValueError("secrets are read by execution_role_arn; set it")
        if self.platform == "fargate":
            self._fits_fargate()
        return self

    def _fits_fargate(self) -> None:
        cpus, memory = self.resources.cpus, memory_mb(self.resources)
        if self.resources.gpus or self.shared_memory_mb is not None:
            raise ValueError("Fargate has neither GPUs nor shared_memory_mb; set platform to ec2")
        if self.image is not None and self.execution_role_arn is None:
            raise ValueError("Fargate pulls images as execution_role_arn; set it")
        if cpus not in FARGATE_MB:
            raise ValueError(f"Fargate has no {cpus} cpus; set resources.cpus to 1, 2, 4, 8 or 16")
        least, most, step = FARGATE_MB[cpus]
        if not least <= memory <= most or (memory - least) % step:
            raise ValueError(
                f"Fargate has no {memory} MB for {cpus} cpus; set resources.memory_mb to {least} to {most} "
                f"in steps of {step}"
            )

    def request(self, site: Site, job: Job) -> Request:
        """What Batch is asked to run for a job; the controller's own PYTHONPATH means nothing in an image."""
        request = super().request(site, job)
        own = {n: v for n, v in request.environment.items() if n != "PYTHONPATH" or n in self.environment}
        return replace(request, environment=own)

    def scheduler(self, folder: Path) -> BatchScheduler:
        """Batch itself; nothing is reached for yet."""
        del folder
        from ziggurat.launchers.batch_scheduler import BatchScheduler

        return BatchScheduler(self)


def memory_mb(resources: Resources) -> int:
    """Memory of a job in MB."""
    return resources.memory_mb or MEMORY_MB_OF_A_CPU * resources.cpus


def definition(setting: AwsBatch, resources: Resources) -> dict[str, Any]:
    """The arguments of `register_job_definition`; its name is the hash of the rest.

    Attempts, timeouts, commands and plain variables belong to each job and are not part of it.
    """
    linux: dict[str, Any] = {"initProcessEnabled": True}  # hands SIGTERM on, and buries orphans
    if setting.shared_memory_mb is not None:
        linux["sharedMemorySize"] = setting.shared_memory_mb
    container: dict[str, Any] = {
        "image": setting.image,
        "resourceRequirements": _requirements(resources, memory=True),
        "linuxParameters": linux,
        "jobRoleArn": setting.job_role_arn,
        "executionRoleArn": setting.execution_role_arn,
        "secrets": [{"name": n, "valueFrom": v} for n, v in sorted(setting.secrets.items())],
    }
    if setting.log_group is not None:
        options = {"awslogs-group": setting.log_group, "awslogs-stream-prefix": "ziggurat"}
        container["logConfiguration"] = {"logDriver": "awslogs", "options": options}
    rest: dict[str, Any] = {
        "type": "container",
        "platformCapabilities": [setting.platform.upper()],
        "containerProperties": {k: v for k, v in container.items() if v},
        "propagateTags": True,
    }
    if setting.tags:
        rest["tags"] = dict(sorted(setting.tags.items()))
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return {"jobDefinitionName": f"ziggurat-{digest[:16]}", **rest}


def submission(setting: AwsBatch, request: Request, job_definition: str) -> dict[str, Any]:
    """The arguments of `submit_job`."""
    environment = [{"name": n, "value": v} for n, v in sorted(request.environment.items())]
    asked = setting.job_definition is None or request.resources.memory_mb is not None
    overrides: dict[str, Any] = {
        "command": list(request.command),
        "environment": environment,
        "resourceRequirements": _requirements(request.resources, memory=asked),
    }
    retry: dict[str, Any] = {"attempts": setting.attempts}
    if setting.attempts > 1:
        retry["evaluateOnExit"] = [dict(rule) for rule in RETRY_ON_LOST_HOST]
    optional: Mapping[str, Any] = {
        "shareIdentifier": setting.share,
        "schedulingPriorityOverride": setting.priority if setting.share is not None else None,
        "tags": dict(sorted(setting.tags.items())) or None,
    }
    return {
        "jobName": request.name,
        "jobQueue": setting.queue,
        "jobDefinition": job_definition,
        "containerOverrides": overrides,
        "timeout": {"attemptDurationSeconds": max(SHORTEST_TIMEOUT_S, math.ceil(request.time_limit_s))},
        "retryStrategy": retry,
        "propagateTags": True,
        **{k: v for k, v in optional.items() if v is not None},
    }


def _requirements(resources: Resources, *, memory: bool) -> list[dict[str, str]]:
    found = [{"type": "VCPU", "value": str(resources.cpus)}]
    if memory:
        found.append({"type": "MEMORY", "value": str(memory_mb(resources))})
    if resources.gpus:
        found.append({"type": "GPU", "value": str(resources.gpus)})
    return found
