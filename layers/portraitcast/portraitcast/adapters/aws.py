"""Turns botocore's errors into the project's own, once, and makes clients with timeouts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from portraitcast.errors import ConflictError, NotFoundError, TryLaterError

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
CANCELLED_BY_CONFLICT: Final = frozenset({"ConditionalCheckFailed", "TransactionConflict"})


def client_config() -> Config:
    """Return what every client uses: short timeouts (calls stay in the region) and botocore's standard retries."""
    return Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})


@contextmanager
def aws_errors() -> Iterator[None]:
    """Turn what botocore raises inside into `ConflictError`, `NotFoundError` or `TryLaterError`.

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
        raise TryLaterError(f"{error.operation_name} answered {code}") from error
    except BotoCoreError as error:
        raise TryLaterError(f"AWS could not be asked: {type(error).__name__}") from error
