"""Where checkpoints, results and journals are kept beside the run directory, whole or not at all.

`AnyStore` is the list of what can be written under `store:`.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field

from ziggurat.stores.base import ABSENT, ConflictError, Entry, Store, StoreError
from ziggurat.stores.bucket import Bucket
from ziggurat.stores.checkpoints import Checkpoints
from ziggurat.stores.directory import Directory, DirectoryStore
from ziggurat.stores.key_rules import fault
from ziggurat.stores.s3 import S3Store
from ziggurat.stores.urls import is_url, open_url, written_out

AnyStore = Annotated[
    Annotated[DirectoryStore | S3Store, Field(discriminator="kind")],
    BeforeValidator(written_out),
]
"""One store, told apart by `kind`; a URL or a path stands for its settings."""

__all__ = [
    "ABSENT",
    "AnyStore",
    "Bucket",
    "Checkpoints",
    "ConflictError",
    "Directory",
    "DirectoryStore",
    "Entry",
    "S3Store",
    "Store",
    "StoreError",
    "fault",
    "is_url",
    "open_url",
]
