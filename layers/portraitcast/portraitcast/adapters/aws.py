"""Turns botocore's errors into the project's own, once, and makes clients with timeouts."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from portraitcast.errors import ConflictError, NotFoundError, TryLaterError, UnreadableObjectError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_FOUND: Final = frozenset({"404", "NoSuchKey", "NoSuchVersion", "405", "MethodNotAllowed"})  # 405: a delete marker
CONFLICTS: Final = frozenset(
    {
        "412",
        "PreconditionFailed",
        "ConditionalRequestConflict",
        "ConditionalCheckFailedException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_READING: Final = frozenset({"GetObject", "HeadObject"})
CANCELLED_BY_CONFLICT: Final = frozenset({"ConditionalCheckFailed", "TransactionConflict"})

# What S3 answers when it will never hand an object out (Amazon S3, "List of error codes"): archive classes, objects
# under a customer's own key (SSE-C), and under a KMS key that we may not use.
_ARCHIVED: Final = frozenset({"InvalidObjectState"})
# Of KMS' own answers (AWS KMS, "Decrypt"), those that no second call changes; a throttled or ill KMS is a passing one.
_KMS_FOR_GOOD: Final = frozenset(
    f"KMS.{name}Exception" for name in ("Disabled", "NotFound", "InvalidState", "KMSInvalidState", "InvalidKeyUsage")
)
_KMS: Final = re.compile(r"\bkms\b|\bciphertext\b", re.IGNORECASE)
_SSE_C: Final = re.compile(r"server[- ]side encryption|SSE-C", re.IGNORECASE)


def has_private_endpoint() -> bool:
    """Say whether another address than AWS's is asked, as in a container of SAM CLI beside a local engine.

    There the buckets stand in the path of an address of Amazon S3: below such a host there are no names for them.
    """
    return bool(os.environ.get("AWS_ENDPOINT_URL"))


def client_config() -> Config:
    """Return what every client uses: short timeouts (calls stay in the region) and botocore's standard retries."""
    config = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})
    return config.merge(Config(s3={"addressing_style": "path"})) if has_private_endpoint() else config


@contextmanager
def aws_errors() -> Iterator[None]:
    """Turn botocore's errors into `ConflictError`, `NotFoundError`, `UnreadableObjectError` or `TryLaterError`.

    A missing right is a `TryLaterError` too: it is mended by a deployment, and until then nothing may be lost.
    """
    try:
        yield
    except ClientError as error:
        response: dict[str, Any] = dict(error.response)
        code = str(response.get("Error", {}).get("Code", ""))
        reasons = {r.get("Code") for r in response.get("CancellationReasons", [])}
        if code in CONFLICTS or (code == "TransactionCanceledException" and reasons & CANCELLED_BY_CONFLICT):
            raise ConflictError(f"{error.operation_name}: {code}") from error
        if code in NOT_FOUND:
            raise NotFoundError(f"{error.operation_name}: {code}") from error
        if error.operation_name in _READING and (
            reason := _never_readable(code, str(response["Error"].get("Message")))
        ):
            raise UnreadableObjectError(reason) from error
        raise TryLaterError(f"{error.operation_name} answered {code}") from error
    except BotoCoreError as error:
        raise TryLaterError(f"AWS could not be asked: {type(error).__name__}") from error


def _never_readable(code: str, message: str) -> str | None:
    """Say, in words for the file's owner, why S3 will never hand an object out; None when it may do so later."""
    if code in _ARCHIVED:
        return "it lies in an archive storage class and must be restored first"
    if code in {"InvalidRequest", "InvalidArgument", "400"} and (code == "400" or _SSE_C.search(message)):
        return "it is encrypted with a key of its uploader's own (SSE-C)"
    if code in _KMS_FOR_GOOD or (code == "AccessDenied" and _KMS.search(message)):
        return "it is encrypted with a KMS key that this stack may not use"
    return None
