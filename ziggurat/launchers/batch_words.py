"""What AWS Batch says, read: the state of a job from its description, and errors of its API as one line.

Batch tells why a job ended in prose, in two places: `statusReason` of the job, and `reason` of its container.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ziggurat.errors import ZigguratError
from ziggurat.launchers.scheduler import Condition, State

CANCELLED = "cancelled by Ziggurat"
"""Reason given when a job is terminated."""
WAITS = {"SUBMITTED", "PENDING", "RUNNABLE", "STARTING"}
_CAUSES: tuple[tuple[str, State, str], ...] = (
    (r"attempt duration exceeded timeout", State.TIMEOUT, ""),
    (
        r"MISCONFIGURATION|ACTION_REQUIRED|INSUFFICIENT_INSTANCE_CAPACITY",
        State.FAILED,
        "lower launcher.resources, or give the queue machines that are large enough and to be had",
    ),
    (r"OutOfMemory", State.OUT_OF_MEMORY, "raise launcher.resources.memory_mb"),
    (r"Host EC2|Spot (Task|Instance|interruption)|interrupted by EC2", State.PREEMPTED, ""),
    (
        r"CannotPull|ImageNotFound|manifest unknown|pull access denied",
        State.FAILED,
        "check launcher.image, its tag, and that the execution role (or the instances) may pull it",
    ),
    (
        r"ResourceInitializationError",
        State.FAILED,
        "check that launcher.execution_role_arn may read the secrets, and that the subnets reach AWS",
    ),
    (
        r"exec format error",
        State.FAILED,
        "build launcher.image for the processors of the queue's machines",
    ),
    (
        r"executable file not found|no such file or directory",
        State.FAILED,
        "set launcher.python to the Python in launcher.image",
    ),
)
"""Patterns in the order in which they are believed, with what is to be done about them."""
_CURES = {
    "AccessDenied": "give these credentials the permissions of infra/aws-batch",
    "ExpiredToken": "sign in again",
    "InvalidClientTokenId": "check AWS_ACCESS_KEY_ID, or the profile in AWS_PROFILE",
    "InvalidSignature": "check AWS_SECRET_ACCESS_KEY, and that the clock is right",
    "RequestExpired": "set the clock of this machine",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY, and that the clock is right",
    "UnrecognizedClient": "check AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN and launcher.region",
}
_WRONG = {
    r"job queue|jobqueue": "check launcher.queue",
    r"job ?definition": "check launcher.job_definition",
    r"share ?identifier|scheduling ?polic|fair.?share": "check launcher.share",
    r"\brole\b": "check launcher.job_role_arn and launcher.execution_role_arn",
    r"override": "shorten launcher.environment: AWS takes 8192 characters of command and variables",
}
"""What a request that AWS calls wrong (`ClientException`) is wrong about."""
_SECRET_NAME = re.compile(
    r"passw|pwd|secret|token|credential|(^|_)keys?(_|$)|apikey|auth|cookie|private|dsn|webhook", re.IGNORECASE
)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
HIDDEN = "(hidden)"


def condition(job: Mapping[str, Any]) -> Condition:
    """Where a job stands, by its description from `describe_jobs`."""
    status = str(job.get("status", ""))
    reason = str(job.get("statusReason") or "")
    if status in WAITS:
        return Condition(State.PENDING, reason)
    if status == "RUNNING":
        return Condition(State.RUNNING, reason)
    if status == "SUCCEEDED":
        return Condition(State.SUCCEEDED, "")
    return _ended_badly(job, reason)


def _ended_badly(job: Mapping[str, Any], reason: str) -> Condition:
    container = job.get("container") or {}
    code = container.get("exitCode")
    inner = str(container.get("reason") or "")
    words = [reason, inner, f"exit code {code}" if code is not None else ""]
    text = (
        "; ".join(dict.fromkeys(" ".join(w.split())[:300] for w in words if w)) or "failed without a reason"
    )
    for pattern, state, cure in _CAUSES:
        if re.search(pattern, f"{reason}\n{inner}", re.IGNORECASE):
            return Condition(state, f"{text}; {cure}" if cure else text)
    if reason.startswith(CANCELLED) or job.get("isCancelled") or job.get("isTerminated"):
        return Condition(State.CANCELLED, text)
    return Condition(State.FAILED, text)


def complaint(error: Exception, doing: str) -> str:
    """An error of botocore as one line, with the cure where there is one.

    Args:
        error: A `ClientError` or another `BotoCoreError`.
        doing: What was asked for, such as "describe the queue".
    """
    response: Mapping[str, Any] = getattr(error, "response", {}).get("Error", {})
    code = str(response.get("Code", "")) or type(error).__name__
    text = " ".join(str(response.get("Message") or error).split()).rstrip(".")[:300]
    return f"AWS Batch: cannot {doing} ({code}: {text}); {_cure(code, text)}"


def _cure(code: str, text: str) -> str:
    match code:
        case "NoRegionError":
            return "set launcher.region, or AWS_REGION"
        case "NoCredentialsError" | "PartialCredentialsError" | "CredentialRetrievalError":
            return (
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
            )
        case "ProfileNotFound":
            return "set AWS_PROFILE to a profile of ~/.aws/config"
        case "EndpointConnectionError" | "ConnectTimeoutError" | "ConnectionClosedError" | "ReadTimeoutError":
            return "check launcher.region, launcher.endpoint and the way out to the network"
        case "SSLError" | "ProxyConnectionError":
            return "check the proxy and its certificates (HTTPS_PROXY, AWS_CA_BUNDLE)"
    known = next((cure for start, cure in _CURES.items() if code.startswith(start)), None)
    wrong = (cure for pattern, cure in _WRONG.items() if re.search(pattern, text, re.IGNORECASE))
    return known or next(wrong, "check the settings under launcher")


def shown(name: str, value: str) -> str:
    """The value of a variable as a dry run may print it: without what its name says is secret."""
    if name.startswith("ZIGGURAT_"):
        return value
    return HIDDEN if _SECRET_NAME.search(name) else _LOGIN.sub(f"{HIDDEN}@", value)


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn botocore's errors into one line.

    Raises:
        ZigguratError: AWS has refused, or cannot be reached.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise ZigguratError(complaint(error, doing)) from None
