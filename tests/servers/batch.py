"""A fake of AWS Batch on loopback that really runs its jobs, as processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

QUEUE = {
    "jobQueueName": "spot",
    "jobQueueArn": "arn:aws:batch:eu-central-1:123456789012:job-queue/spot",
    "state": "ENABLED",
    "status": "VALID",
    "priority": 1,
    "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "machines"}],
}


class Batch(ThreadingHTTPServer):
    """Jobs by id: what was submitted, the process, and why it was ended if somebody did."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.definitions: list[dict[str, Any]] = []
        self.jobs: dict[str, tuple[dict[str, Any], subprocess.Popen[bytes], float]] = {}
        self.reasons: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def describejobqueues(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"jobQueues": [QUEUE] if asked.get("jobQueues", ["spot"]) == ["spot"] else []}

    def describecomputeenvironments(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"computeEnvironments": []}

    def describejobdefinitions(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["jobDefinitionName"]
        return {"jobDefinitions": [d for d in self.definitions if d["jobDefinitionName"] == name]}

    def registerjobdefinition(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["jobDefinitionName"]
        made = {
            "jobDefinitionName": name,
            "jobDefinitionArn": f"arn:{name}:1",
            "revision": 1,
            "type": "container",
        }
        self.definitions.append(made | {"status": "ACTIVE"})
        return made

    def submitjob(self, asked: dict[str, Any]) -> dict[str, Any]:
        overrides, number = asked["containerOverrides"], str(uuid.uuid4())
        environment = {pair["name"]: pair["value"] for pair in overrides["environment"]}
        process = subprocess.Popen(
            overrides["command"],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.jobs[number] = (asked, process, time.time())
        return {"jobName": asked["jobName"], "jobId": number}

    def _described(self, number: str) -> dict[str, Any]:
        asked, process, created = self.jobs[number]
        code = process.poll()
        status = "RUNNING" if code is None else "SUCCEEDED" if code == 0 else "FAILED"
        reason = "" if code is None else self.reasons.get(number, "Essential container in task exited")
        return {
            "jobId": number,
            "jobName": asked["jobName"],
            "jobQueue": asked["jobQueue"],
            "jobDefinition": asked["jobDefinition"],
            "status": status,
            "statusReason": reason,
            "createdAt": int(created * 1000),
            "startedAt": int(created * 1000),
            "container": {} if code is None else {"exitCode": code if code >= 0 else 128 - code},
        }

    def describejobs(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"jobs": [self._described(n) for n in asked["jobs"] if n in self.jobs]}

    def listjobs(self, asked: dict[str, Any]) -> dict[str, Any]:
        (wanted,) = asked["filters"][0]["values"]
        return {
            "jobSummaryList": [
                self._described(n) for n, job in self.jobs.items() if job[0]["jobName"] == wanted
            ]
        }

    def terminatejob(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.end(asked["jobId"], asked["reason"], signal.SIGTERM)
        return {}

    def end(self, number: str, reason: str, how: signal.Signals) -> None:
        """End a job that runs, and say why."""
        process = self.jobs[number][1]
        if process.poll() is None:
            self.reasons[number] = reason
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)

    def take_host(self, number: str) -> None:
        """Take the machine of a job away, without a notice."""
        self.end(number, "Host EC2 (instance i-0123456789abcdef0) terminated.", signal.SIGKILL)
        self.jobs[number][1].wait(20)


class Handler(BaseHTTPRequestHandler):
    server: Batch
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        answer = json.dumps(getattr(self.server, self.path.removeprefix("/v1/"))(asked)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def batch() -> Iterator[Batch]:
    """The server, until the block ends; so do all its jobs."""
    with Batch() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
            for number, (_, process, _) in server.jobs.items():
                server.end(number, "the test is over", signal.SIGKILL)
                process.wait(20)
