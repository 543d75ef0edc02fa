"""What can go wrong with a store: what may pass by itself, and what else is one line with the cure."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ziggurat.stores.base import StoreError

log = logging.getLogger(__name__)
T = TypeVar("T")

PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
PASSING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
ABSENT_CODES = frozenset({"404", "NoSuchKey", "NotFound"})
CONFLICT = 412
FORBIDDEN = 403
FULL = 507
FULL_CODES = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})
LONGEST = 200
PERMISSIONS = {
    "written": "s3:PutObject on {objects}",
    "read": "s3:GetObject on {objects} and s3:ListBucket on {whole}",
    "listed": "s3:ListBucket on {whole}",
    "deleted": "s3:DeleteObject on {objects}",
    "tidied": "s3:ListBucketMultipartUploads on {whole} and s3:AbortMultipartUpload on {objects}",
}
_REGION = "the bucket is in another region{region}; set store.region"
_TOKEN = "the session token has expired or is not valid; renew the credentials of this process"  # noqa: S105 - words
CODES: Mapping[str, str] = {
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": _TOKEN,
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": "the access key is not known there; check AWS_ACCESS_KEY_ID, or the profile",
    "InvalidToken": _TOKEN,
    "NoSuchBucket": "there is no bucket '{bucket}'; create it, or correct store.bucket",
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": "the clock of this machine is off; set it",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY, or the profile",
    "TokenRefreshRequired": _TOKEN,
}
_CREDENTIALS = (
    "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
    "or give the machine a role"
)
BOTOCORE: Mapping[str, str] = {
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "ProfileNotFound": "AWS_PROFILE names a profile that is not there; correct it, or unset it",
    "ResponseParserError": "what answers there is no S3 server; check store.endpoint",
    "SSLError": (
        "no encrypted connection could be made; check the scheme of store.endpoint, or name the server's "
        "certificate in AWS_CA_BUNDLE"
    ),
}
DISK: Mapping[int, str] = {
    errno.ENOSPC: "the disk is full; free some space, or name another folder",
    errno.EDQUOT: "the quota is used up; free some space, or name another folder",
    errno.EACCES: "permission denied; let this user write there, or name another folder",
    errno.EPERM: "permission denied; let this user write there, or name another folder",
    errno.EROFS: "the file system is read-only; name another folder",
    errno.ENOTDIR: "a part of the path is a file; name another path",
    errno.EISDIR: "there is a folder of that name; name another path",
    errno.EEXIST: "there is a file where a folder must be; name another path",
    errno.ENOLCK: "the file system gives no locks; mount it with locks (Lustre: -o flock)",
    errno.ENOTSUP: "the file system gives no locks; mount it with locks (Lustre: -o flock)",
}


class Passing(Exception):  # noqa: N818 - something that may pass
    """Something that another try may not meet."""


def answer_of(error: BaseException) -> tuple[str, int]:
    """Code and status of a server's refusal; nothing and 0 for any other error."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    return code, int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def passes(error: BaseException) -> bool:
    """Whether another try may succeed: throttling, errors of the server, connections that break or fail."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        code, status = answer_of(error)
        return code in PASSING_CODES or (status in PASSING_STATUS and code not in FULL_CODES)
    if isinstance(error, exceptions.SSLError):
        return False
    broken = (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.ResponseStreamingError,
    )
    return isinstance(error, (*broken, Passing, ConnectionError, TimeoutError))


def again(call: Callable[[], T], seconds: float, where: str) -> T:
    """Call, and call again with growing pauses while what fails may pass, for so many seconds."""
    import stamina

    logger = logging.getLogger("stamina")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)  # what it says of a retry names nothing; the warning below does
    told = False

    def worth_it(error: Exception) -> bool:
        nonlocal told
        if seconds <= 0 or not passes(error):
            return False
        if not told:
            log.warning("%s: %s; trying again for up to %g s", where, said(error), seconds)
        told = True
        return True

    for attempt in stamina.retry_context(
        worth_it, attempts=None, timeout=max(seconds, 1e-3), wait_initial=0.1, wait_max=5.0, wait_jitter=0.5
    ):
        with attempt:
            return call()
    raise AssertionError("the last try returns or raises")


def said(error: BaseException) -> str:
    """What an error says, on one line of bounded length."""
    code, status = answer_of(error)
    if status:
        message = str(getattr(error, "response", {}).get("Error", {}).get("Message", ""))
        text = f"{status} {code}: {message}" if code != str(status) else f"{status} {message}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())[:LONGEST]


def refused(error: BaseException, deed: str, *, bucket: str, prefix: str, seconds: float) -> str:
    """Why something could not be done in S3, and the cure.

    Args:
        error: What botocore raised.
        deed: What was to be done, as a participle, such as `written`.
        bucket: The bucket.
        prefix: What all keys begin with.
        seconds: For how long what may pass is tried again.
    """
    code, status = answer_of(error)
    known = CODES.get(code) or BOTOCORE.get(type(error).__name__)
    if known is not None:
        region = getattr(error, "response", {}).get("Error", {}).get("Region")
        return known.format(bucket=bucket, region=f" ({region})" if region else "")
    if status == FORBIDDEN:
        whole = f"arn:aws:s3:::{bucket}"
        rights = PERMISSIONS[deed].format(whole=whole, objects=f"{whole}/{prefix}*")
        return f"access denied; grant {rights} to these credentials"
    if status == FULL or code in FULL_CODES:
        return "the store is full; free some space there, or name another one"
    cure = "check the keys under store:"
    if passes(error):
        cure = "check store.endpoint and the network, or raise store.retry_s"
    after = f" after {seconds:g} s" if passes(error) else ""
    return f"it answers {said(error)}{after}; {cure}" if status else f"{said(error)}{after}; {cure}"


def disk(error: OSError, where: str, what: str) -> StoreError:
    """An error of the file system, for a store or for what is read from it."""
    words = error.strerror or str(error) or type(error).__name__
    cure = DISK.get(error.errno or 0, f"{words}; check the folder and its file system")
    return StoreError(f"{where}: {what}: {cure}")


def damaged(where: str, key: str) -> StoreError:
    """What lies under a key is not what was written there."""
    return StoreError(
        f"{where}: '{key}' does not have the checksum it was written with; it is damaged: restore it, or "
        "delete it"
    )
