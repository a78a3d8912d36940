"""Monitor a task: one execution of the wait loop for each, found again or started anew whatever happened to it.

Also what has no execution any more: the orphaned task of an execution that was aborted by hand.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from portraitcast.adapters.dashscope import JobRefusedError, ProviderError
from portraitcast.domain.execution import Execution
from portraitcast.domain.job import Job, OrphanedTask, Status, owner_of
from portraitcast.domain.polling import next_poll

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.dashscope import DashScope
    from portraitcast.adapters.executions import Executions
    from portraitcast.adapters.jobs_table import JobsTable
    from portraitcast.adapters.queues import Queue
    from portraitcast.domain.account import Account

log = logging.getLogger(__name__)

TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class PollBounds:
    """The stack's parameters MinPollSeconds and MaxPollSeconds."""

    least: float
    most: float


class Monitor:
    """Starts executions; their names make it safe to repeat."""

    def __init__(
        self,
        table: JobsTable,
        service: DashScope,
        executions: Executions,
        queue: Queue,
        bounds: PollBounds,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._service = service
        self._executions = executions
        self._queue = queue
        self._bounds = bounds
        self._clock = clock

    def start(self, job: Job, account: Account) -> None:
        """Start the execution of a rendering job; one of this name that has ended is followed by the next."""
        current: Job | None = job
        for _ in range(TRIES):
            if current is None or current.status is not Status.RENDERING or current.task is None:
                return
            if self._executions.start(current.execution_name, self._first_state(current, account)):
                return
            current = self._raise_execution(current)

    def ensure_monitored(self, job: Job) -> None:
        """Find out whether a rendering job is monitored (Step Functions' events are best effort), and mend it."""
        if job.status is not Status.RENDERING or self._executions.status(job.execution_name) == "RUNNING":
            return
        log.warning("a rendering job was not monitored", extra={"job": job.id, "execution": job.execution_name})
        self.start(job, self._table.account())

    def _first_state(self, job: Job, account: Account) -> Execution:
        if job.task is None:
            raise ValueError(f"job {job.id} renders without a task")
        in_flight = max(1, account.in_flight(job.inputs.model))
        elapsed = max(0.0, self._clock() - job.task.sent_at)
        wait = next_poll(
            elapsed=0 if elapsed < 1 else elapsed,
            expected=job.task.expected_seconds,
            waiting_behind_others=in_flight > 1,
            least=self._bounds.least,
            most=self._bounds.most,
            in_flight=in_flight,
        )
        return Execution(
            job=job.id,
            attempt=job.attempt,
            task=job.task.id,
            sent_at=job.task.sent_at,
            expected_seconds=round(job.task.expected_seconds, 1),
            in_flight=in_flight,
            execution=job.execution,
            wait_seconds=wait,
        )

    def _raise_execution(self, job: Job) -> Job | None:
        def raise_it(current: Job) -> Job | None:
            same = (current.status, current.attempt, current.execution) == (job.status, job.attempt, job.execution)
            return current.next_execution() if same else None

        return self._table.update(job.id, raise_it)

    # ------------------------------------------------------------------ orphaned tasks
    def release_orphans(self, job: Job) -> None:
        """Ask after the orphaned tasks of a job: one that has ended frees its slot, the others are asked again later.

        A task that made its video is remembered while it lives: the same files dropped again have it delivered.
        """
        for orphan in job.orphans:
            self._ask_orphan(job.id, orphan)

    def _ask_orphan(self, job_id: str, orphan: OrphanedTask) -> None:
        over = orphan.task.is_over(self._clock())
        if orphan.made and not over:
            return
        status = "UNKNOWN" if over else self._ended_with(orphan.task.id)
        if status is None:
            self._queue.send({"reconcile": job_id}, after=self._bounds.most)
            return
        made = status == "SUCCEEDED" and not over

        def release(current: Job, account: Account) -> tuple[Job, Account] | None:
            if orphan not in current.orphans:
                return None
            kept = current.with_orphan(orphan.attempt, replace(orphan, made=True) if made else None)
            return kept, account.release_slot(owner_of(job_id, orphan.attempt))

        changed = self._table.update_both(job_id, release)
        if changed is not None and changed.account.tasks_in_flight != changed.account_before.tasks_in_flight:
            self._queue.send({"wake": True})

    def _ended_with(self, task: str) -> str | None:
        """Return the status that a task has ended with, None while it goes on or the service can't tell."""
        try:
            found = self._service.query(task)
        except JobRefusedError:
            return "UNKNOWN"
        except ProviderError:
            return None
        return found.status if found.ended else None
