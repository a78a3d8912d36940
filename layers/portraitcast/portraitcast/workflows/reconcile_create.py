"""A create whose outcome nobody knows is searched for in the service's own list, before anything is paid again.

Two whole looks must agree before it counts as not taken. What the search finds is for dispatch to act on: nothing is
written here but how far the search has come.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from portraitcast.adapters.dashscope.client import EmoError
from portraitcast.domain.job import SUBMITTING, Job

if TYPE_CHECKING:
    from portraitcast.adapters.dashscope.client import Emo, ListedTask
    from portraitcast.domain.account import Creating, Slots
    from portraitcast.adapters.jobs_table import Table

log = logging.getLogger(__name__)

CLOCK_MARGIN: Final = 60.0  # the provider's clock against ours, when its list is compared with a create's time
SECOND_LOOK: Final = 5  # the second look comes at five times LookSeconds


@dataclass(frozen=True, slots=True)
class Later:
    """There is nothing to do before this time (epoch)."""

    at: float


@dataclass(frozen=True, slots=True)
class Taken:
    """The service took the create and this is its task; `certain` if the list names the create's own request."""

    job: Job
    task: ListedTask
    certain: bool


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Both looks agree that nothing was made."""

    job: Job


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Any of these tasks may be the create's, and nobody can tell which, or whether."""

    job: Job
    tasks: list[ListedTask]


Finding: TypeAlias = Later | Taken | NotTaken | Ambiguous


class Search:
    """Searches for the open create, a step a call."""

    def __init__(self, table: Table, emo: Emo, *, look_seconds: float) -> None:
        self._table = table
        self._emo = emo
        self._look_seconds = look_seconds

    def begin(self, creating: Creating, since: float, request_id: str | None) -> None:
        """Note that nobody knows what became of the create, which ended at `since` (epoch)."""
        creating.unknown_since, creating.request_id = since, request_id
        creating.next_look_at = since + self._look_seconds

    def go_on(self, slots: Slots, creating: Creating, now: float) -> Finding | None:
        """Take the next step; None when it was a step on the way, which is written, and another may follow at once."""
        since = creating.unknown_since
        if since is None:
            if now < creating.lease_until:
                return Later(creating.lease_until)
            self.begin(creating, creating.lease_until, None)  # its function died while submitting
            self._table.commit(slots=slots)
            return None
        if now < creating.next_look_at:
            return Later(creating.next_look_at)
        try:
            tasks = self._emo.list_tasks()
        except EmoError as error:
            log.warning("look failed", extra={"job": creating.job, "code": error.code, "detail": error.message})
            creating.next_look_at = now + self._look_seconds  # repeated, never counted
            self._table.commit(slots=slots)
            return None
        return self._judge(slots, creating, since, self._candidates(slots, creating, since, tasks))

    def _candidates(self, slots: Slots, creating: Creating, since: float, tasks: list[ListedTask]) -> list[ListedTask]:
        """Return the tasks that may be this create's: in its time, none that we know, and of our key if that is told.

        The list names keys by numbers of its own: ours is the one of our known tasks since the key was last changed.
        """
        earliest, latest = creating.sent_at - CLOCK_MARGIN, since + CLOCK_MARGIN
        in_time = [t for t in tasks if earliest <= t.created_at <= latest]
        found = [t for t in in_time if self._table.owner_of_task(t.task_id) is None]
        if not found:
            return []
        if creating.request_id and (certain := [t for t in found if t.request_id == creating.request_id]):
            return certain
        key_since = slots.key_since + CLOCK_MARGIN if slots.key_since else 0.0
        known = (
            t for t in tasks if t.created_at >= key_since and t.api_key_id and self._table.owner_of_task(t.task_id)
        )
        our_key = {t.api_key_id for t in known}
        return [t for t in found if not our_key or t.api_key_id is None or t.api_key_id in our_key]

    def _judge(self, slots: Slots, creating: Creating, since: float, candidates: list[ListedTask]) -> Finding | None:
        job = self._table.job(creating.job)
        if job is None or job.status != SUBMITTING or job.attempt != creating.attempt:
            slots.creating = None
            slots.free(creating.owner)
            self._table.commit(slots=slots)
            return None
        certain = len(candidates) == 1 and bool(creating.request_id) and candidates[0].request_id == creating.request_id
        measurable = job.voice is not None and job.voice.get("seconds") is not None
        if len(candidates) == 1 and (certain or measurable):
            return Taken(job, candidates[0], certain)
        if candidates:
            return Ambiguous(job, candidates)
        creating.looks += 1
        if creating.looks < 2:
            creating.next_look_at = since + SECOND_LOOK * self._look_seconds
            self._table.commit(slots=slots)
            return None
        return NotTaken(job)
