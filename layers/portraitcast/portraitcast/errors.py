"""The project's own errors. Adapters turn botocore's and requests' errors into these, once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


class PortraitcastError(Exception):
    """Base of every error that this project raises."""


class TryLaterError(PortraitcastError):
    """A passing fault of AWS or of the network: the same call may succeed later."""


class ConflictError(PortraitcastError):
    """Somebody else has changed an item or an object since it was read: read again and decide again."""


class NotFoundError(PortraitcastError):
    """An object, or this version of it, isn't there."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What a person is told about a job that waits, was refused, or failed: `error` in the report.

    Attributes
    ----------
    code
        One of the codes of the report (docs/reports.md), such as ``PortraitTooSmall``.
    message
        One plain sentence: what is wrong.
    what_to_do
        One plain sentence: the way out.
    limit, measured
        The limit and the value that broke it, in words with their unit ("60 s", "61.2 s"), or None.
    provider_code, provider_message, request_id
        The provider's own words, where it has said something.
    """

    code: str
    message: str
    what_to_do: str
    limit: str | None = None
    measured: str | None = None
    provider_code: str | None = None
    provider_message: str | None = None
    request_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, for the table and the report."""
        return asdict(self)


class RefusalError(PortraitcastError):
    """Something about a file or a setting is wrong and its owner must mend it; carries the `Problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem
