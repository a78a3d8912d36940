"""What an execution of the wait loop carries from step to step: its input, and what earlier polls left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

BELIEVED_AFTER: Final = 3  # polls that must agree before SUCCEEDED without a link, or UNKNOWN, is believed
POLLS_MAX: Final = (
    1_500  # ours: some 9 events a poll, of the 25,000 that one execution may have (Step Functions, Quotas)
)


@dataclass(frozen=True, slots=True)
class Execution:
    """The state of one execution; names are those of the state machine's paths.

    Attributes
    ----------
    job, attempt, task
        What is polled.
    execution
        The execution's number, the last part of its name.
    sent_at, expected_seconds, in_flight
        When the task was created (epoch), the work it should take, and the tasks at the provider then.
    wait_seconds
        Until the next poll, whole seconds.
    ended, published
        The task has ended (deliver comes next); everything is done (the execution ends).
    status, running_since
        The provider's last word, and since when (epoch) the task runs.
    no_link, unknown
        Polls in a row that found SUCCEEDED without a link, or UNKNOWN.
    fetch_tries, fetch_error
        Downloads of the video that failed, and why the last one did.
    polls
        Polls so far: after `POLLS_MAX` another execution takes over.
    """

    job: str
    attempt: int
    task: str
    sent_at: float
    expected_seconds: float = 60.0
    in_flight: int = 1
    execution: int = 1
    wait_seconds: int = 1
    ended: bool = False
    published: bool = False
    status: str = ""
    running_since: float | None = None
    no_link: int = 0
    unknown: int = 0
    fetch_tries: int = 0
    fetch_error: str | None = None
    polls: int = 0

    @property
    def is_long(self) -> bool:
        """Whether its history grows too long: another execution must take over."""
        return self.polls >= POLLS_MAX

    def again(self, seconds: float) -> Self:
        """Go back to the wait, for so many seconds."""
        return replace(self, ended=False, published=False, wait_seconds=max(1, round(seconds)))

    def finish(self) -> Self:
        """Everything is done."""
        return replace(self, published=True)
