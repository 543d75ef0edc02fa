"""AWS Batch as a scheduler: registers, submits, describes and terminates jobs through boto3.

It keeps nothing but the job definitions it has found, so any controller with the same settings can go on with
the jobs of another. botocore repeats what AWS has throttled or dropped; boto3 is imported when AWS is first
asked for something.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ziggurat.errors import SpecError, ZigguratError
from ziggurat.launchers import batch_checks
from ziggurat.launchers import batch_words as words
from ziggurat.launchers.aws_batch import LOG_GROUP, definition, submission
from ziggurat.launchers.batch_words import told
from ziggurat.launchers.scheduler import Condition, Request, Resources, State

if TYPE_CHECKING:
    from ziggurat.launchers.aws_batch import AwsBatch

DESCRIBED_AT_ONCE = 100
"""As many jobs as one question to Batch may be about."""
LAST_LINES = 20
LONGEST_WORDS = 300
TRIES = 6


class BatchScheduler:
    """Jobs of one queue."""

    def __init__(self, setting: AwsBatch) -> None:
        """Nothing is reached for yet."""
        self._setting = setting
        self._definitions: dict[str, str] = {}

    @cached_property
    def _batch(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return self._client("batch", self._setting.endpoint)

    def _client(self, service: str, endpoint: str | None = None, region: str | None = None) -> Any:  # noqa: ANN401
        import boto3
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": TRIES}, connect_timeout=5, read_timeout=30
        )
        with told(f"reach {service}"):
            # a session of its own: boto3's shared one is not for several threads, and keeps old credentials
            session = boto3.session.Session(region_name=region or self._setting.region)
            return session.client(service, endpoint_url=endpoint, config=config)

    def check(self) -> None:
        """Look at the queue, its machines, and the image or the job definition.

        Raises:
            SpecError: One of them is not there or takes no jobs, or AWS cannot be asked.
        """
        try:
            batch_checks.check(self._setting, self._batch, lambda region: self._client("ecr", region=region))
        except SpecError:
            raise
        except ZigguratError as error:
            raise SpecError(str(error)) from None

    def plan(self, request: Request) -> str:
        """The arguments of both calls as JSON; values that look secret are hidden."""
        setting = self._setting
        names = request.environment
        shown = replace(request, environment={n: words.shown(n, v) for n, v in names.items()})
        calls: dict[str, Any] = {}
        if setting.job_definition is None:
            calls["register_job_definition"] = definition(setting, request.resources)
            name = calls["register_job_definition"]["jobDefinitionName"]
        else:
            name = setting.job_definition
        calls["submit_job"] = submission(setting, shown, name)
        return json.dumps({"aws_batch": {"region": setting.region, **calls}}, indent=2)

    def submit(self, request: Request) -> str:
        """Submit a job; its id is the handle.

        Raises:
            ZigguratError: AWS has refused it.
        """
        name = self._setting.job_definition or self._definition(request.resources)
        with told(f"submit {request.name}"):
            return str(self._batch.submit_job(**submission(self._setting, request, name))["jobId"])

    def _definition(self, resources: Resources) -> str:
        """The ARN of the definition of this content, registered by whoever needs it first."""
        wanted = definition(self._setting, resources)
        name = wanted["jobDefinitionName"]
        if name not in self._definitions:
            with told("register a job definition"):
                asked = {"jobDefinitionName": name, "status": "ACTIVE"}
                found = self._batch.describe_job_definitions(**asked)["jobDefinitions"]
                # two that register at the same time make two revisions with the same content
                one = found[0] if found else self._batch.register_job_definition(**wanted)
            self._definitions[name] = one["jobDefinitionArn"]
        return self._definitions[name]

    def look_up(self, name: str) -> str | None:
        """The youngest job of a name, of those that Batch still knows: for a day or more after their end."""
        asked = {"jobQueue": self._setting.queue, "filters": [{"name": "JOB_NAME", "values": [name]}]}
        with told("list jobs"):
            pages = self._batch.get_paginator("list_jobs").paginate(**asked)
            found = [job for page in pages for job in page["jobSummaryList"] if job["jobName"] == name]
        alive = [j for j in found if j.get("status") in {*words.WAITS, "RUNNING"}]
        youngest = max(alive or found, key=lambda j: int(j.get("createdAt", 0)), default=None)
        return None if youngest is None else str(youngest["jobId"])

    def conditions(self, handles: Sequence[str]) -> Mapping[str, Condition]:
        """Where jobs stand, a hundred with each question."""
        known = {job["jobId"]: words.condition(job) for job in self._described(handles)}
        gone = Condition(State.GONE, "AWS Batch does not know this job (any more)")
        return {handle: known.get(handle, gone) for handle in handles}

    def _described(self, handles: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        for first in range(0, len(handles), DESCRIBED_AT_ONCE):
            with told("describe jobs"):
                some = list(handles[first : first + DESCRIBED_AT_ONCE])
                yield from self._batch.describe_jobs(jobs=some)["jobs"]

    def cancel(self, handle: str) -> None:
        """Terminate a job: one that runs gets SIGTERM, and is killed after what ECS allows (30 s)."""
        with told(f"terminate {handle}"):
            self._batch.terminate_job(jobId=handle, reason=words.CANCELLED)

    def last_words(self, handle: str) -> str:
        """The last line in CloudWatch that says something; empty if it may not be read."""
        with contextlib.suppress(ZigguratError):
            for job in self._described([handle]):
                return self._last_line(job.get("container") or {})
        return ""

    def _last_line(self, container: Mapping[str, Any]) -> str:
        stream = container.get("logStreamName")
        if not stream:
            return ""
        options = (container.get("logConfiguration") or {}).get("options") or {}
        group = self._setting.log_group or options.get("awslogs-group") or LOG_GROUP
        with told("read the log"):
            asked = {"logGroupName": group, "logStreamName": stream, "limit": LAST_LINES}
            lines = self._client("logs").get_log_events(**asked, startFromHead=False)["events"]
        said = (" ".join(str(line.get("message", "")).split()) for line in reversed(lines))
        return next((line[:LONGEST_WORDS] for line in said if line), "")

    def close(self, *, leave: bool = False) -> None:
        """Close the connections; jobs go on in any case."""
        del leave
        if "_batch" in self.__dict__:
            self._batch.close()
