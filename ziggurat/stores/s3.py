"""Settings of a store in a bucket of Amazon S3, or of any server that speaks its language.

Credentials come from boto3's own chain alone: environment, profile, role of the machine.
"""

from __future__ import annotations

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ziggurat.setting import Setting
from ziggurat.stores import key_rules
from ziggurat.stores.bucket import Bucket


class S3Store(Setting):
    """A bucket of Amazon S3, or of a server like it (MinIO, SeaweedFS, Ceph, R2); no credentials."""

    kind: Literal["s3"] = "s3"
    bucket: str = Field(description="The bucket.")
    prefix: str = Field(default="", description="What all keys begin with; every run has a part of its own.")
    endpoint: str | None = Field(
        default=None, description="URL of a server other than Amazon's, such as http://127.0.0.1:8333."
    )
    region: str | None = Field(
        default=None, pattern=r"^[a-z0-9-]{1,64}$", description="Region; by default that of the environment."
    )
    addressing: Literal["auto", "path", "virtual"] | None = Field(
        default=None,
        description="Where the bucket stands in URLs; by default in the path if there is an endpoint.",
    )
    part_size_mb: int = Field(
        default=16, ge=5, le=5120, description="Larger files are sent in parts of so many MB."
    )
    threads: int = Field(default=4, ge=1, le=64, description="Parts that are sent at the same time.")
    timeout_s: float = Field(
        default=60, gt=0, le=3600, description="Seconds without an answer after which a request has failed."
    )
    retry_s: float = Field(
        default=120, ge=0, le=86_400, description="Seconds for which what may pass is tried again."
    )
    sse: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="Encryption at rest; by default the bucket's own."
    )
    kms_key: str | None = Field(default=None, min_length=1, description="Key for sse 'aws:kms'.")

    @field_validator("bucket")
    @classmethod
    def _nameable(cls, bucket: str) -> str:
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", bucket) is None:
            raise ValueError(
                f"{bucket[:120]!r} cannot be the name of a bucket; give 3 to 63 letters, digits and . _ -"
            )
        return bucket

    @field_validator("prefix")
    @classmethod
    def _relative(cls, prefix: str) -> str:
        prefix = prefix.strip("/")
        if prefix and (problem := key_rules.fault(prefix)):
            raise ValueError(f"prefix {prefix[:120]!r} {problem}; give a path such as team/runs")
        return prefix

    @field_validator("endpoint")
    @classmethod
    def _reachable(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        parts = urlsplit(endpoint)
        if parts.username or parts.password:
            raise ValueError("endpoint holds credentials; leave them out and set AWS_ACCESS_KEY_ID")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"endpoint is {endpoint!r}; give a URL such as http://127.0.0.1:8333")
        return endpoint.rstrip("/")

    @model_validator(mode="after")
    def _keyed(self) -> Self:
        if self.kms_key and self.sse != "aws:kms":
            raise ValueError("kms_key needs sse 'aws:kms'; set both or none")
        return self

    def open(self, run_id: str) -> Bucket:
        """The store of one run."""
        path = "/".join(part for part in (self.prefix, key_rules.checked(run_id)) if part)
        return Bucket(self.model_copy(update={"prefix": path}))

    def url(self, run_id: str) -> str:
        """Where the store of a run is, as `open_url` takes it."""
        return self.open(run_id).url

    def runs(self) -> list[str]:
        """Names of the runs that are there, in order."""
        return Bucket(self).folders()
