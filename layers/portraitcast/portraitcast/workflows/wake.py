"""Wake submit at a time: one message for all that wait for it, so that a storm of jobs makes few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portraitcast.adapters.queues import MAX_DELAY

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.jobs_table import JobsTable
    from portraitcast.adapters.queues import Queue


class Wake:
    """Sends wake-up messages to the uploads queue; each is followed by dispatching."""

    def __init__(self, table: JobsTable, queue: Queue, *, clock: Callable[[], float]) -> None:
        self._table = table
        self._queue = queue
        self._clock = clock

    def now(self) -> None:
        """Wake submit at once."""
        self._queue.send({"wake": True})

    def at(self, moment: float, *, alone: bool = False) -> None:
        """Wake submit at a moment (epoch), unless a wake-up no later is on its way.

        For a job that is `alone` in the queue there is none, and none is looked for.
        """
        now = self._clock()
        # No timer reaches further than MAX_DELAY: whom it wakes too early sets the next one.
        due = min(max(moment, now), now + MAX_DELAY)
        if alone or self._table.claim_wake(due, now):
            self._queue.send({"wake": True}, after=due - now)
