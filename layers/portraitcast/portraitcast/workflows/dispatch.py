"""Dispatch: while a slot is free, choose the next job and have its task created. Models have queues of their own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from portraitcast.domain.job import Job, Status
from portraitcast.errors import ConflictError, PortraitcastError
from portraitcast.workflows.create_task import Blocked, Created, Outcome, Progress
from portraitcast.workflows.reconcile_create import Later, Underway

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.jobs_table import JobsTable, QueueEntry
    from portraitcast.adapters.queues import Queue
    from portraitcast.domain.account import Account, OpenCreate
    from portraitcast.workflows.create_task import CreateTask
    from portraitcast.workflows.evaluate import Evaluate
    from portraitcast.workflows.ingest import Ingest
    from portraitcast.workflows.publish import Publish
    from portraitcast.workflows.reconcile_create import ReconcileCreate
    from portraitcast.workflows.wake import Wake

log = logging.getLogger(__name__)

QUEUE_PAGE: Final = 25  # queue entries that are read at once
HELD_PAGE: Final = 25  # jobs whose reports are rewritten before the time is looked at
RESERVE_SECONDS: Final = 20.0  # of the function's time: what may be left to do behind a page


class Dispatch:
    """Sends queued jobs to the provider, oldest first."""

    def __init__(
        self,
        table: JobsTable,
        ingest: Ingest,
        evaluate: Evaluate,
        create_task: CreateTask,
        reconcile_create: ReconcileCreate,
        queue: Queue,
        wake: Wake,
        publish: Publish,
        *,
        max_tasks_in_flight: int,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._ingest = ingest
        self._evaluate = evaluate
        self._create_task = create_task
        self._reconcile_create = reconcile_create
        self._queue = queue
        self._wake = wake
        self._publish = publish
        self._max_tasks_in_flight = max_tasks_in_flight
        self._clock = clock

    def run(self, ends_at: float) -> None:
        """Dispatch until nothing can be sent, or the function's time (epoch `ends_at`) runs short."""
        passed: set[str] = set()
        while ends_at - self._clock() > self._create_task.seconds_needed:
            try:
                outcome = self._step(ends_at, passed)
            except ConflictError:
                continue  # somebody else has got on: look again
            if isinstance(outcome, Blocked):
                if outcome.until is not None:
                    self._wake.at(outcome.until)
                return
        self._wake.now()

    # ------------------------------------------------------------------ the next thing to do
    def _step(self, ends_at: float, passed: set[str]) -> Outcome:
        """Do one thing. `passed` holds jobs that are not to be tried again in this run."""
        account = self._table.account()
        now = self._clock()
        if account.open_create is not None:
            return self._settle(account, account.open_create, ends_at)
        if account.check is not None and now < account.check.until:
            return Blocked(account.check.until)
        if account.paused:
            return Blocked()
        if (until := account.not_before(now)) is not None:
            return Blocked(until)
        return self._send_oldest(account, ends_at, passed)

    def _settle(self, account: Account, create: OpenCreate, ends_at: float) -> Outcome:
        finding = self._reconcile_create.step(account, create, ends_at)
        if isinstance(finding, Later):
            return Blocked(finding.at)
        if not isinstance(finding, Underway):
            self._create_task.settle(finding)
        return Progress()

    def _send_oldest(self, account: Account, ends_at: float, passed: set[str]) -> Outcome:
        """Send the oldest job that is ready, of the first model that has a free slot."""
        blocked = Blocked()
        for model in account.models:
            if account.in_flight(model) >= self._max_tasks_in_flight:
                continue
            outcome = self._send_oldest_of(model, account, ends_at, passed)
            if isinstance(outcome, Created | Progress):
                return outcome
            blocked = _sooner(blocked, outcome)
        return blocked

    def _send_oldest_of(self, model: str, account: Account, ends_at: float, passed: set[str]) -> Outcome:
        """Look past what isn't ready, page by page, and past what goes wrong with one job."""
        blocked, after = Blocked(), None
        while True:
            page = self._table.queue(model, QUEUE_PAGE, after=after)
            ready = [entry for entry in page if entry.ready_at <= self._clock() and entry.job not in passed]
            later = [entry.ready_at for entry in page if entry.ready_at > self._clock()]
            blocked = _sooner(blocked, Blocked(min(later, default=None)))
            # While the account is in trouble, the job that met it least often is tried: one bad job stops no other.
            for entry in sorted(ready, key=lambda e: account.failures.get(e.job, 0)):
                job = self._last_look(entry, passed)
                if job is None:
                    return Progress()
                if job.ready_at > self._clock():
                    blocked = _sooner(blocked, Blocked(job.ready_at))
                    continue
                outcome = self._send(job, account, ends_at, passed)
                alone = len(page) == 1 and account.models == (model,)
                # With nothing else in the queue there is nothing to look for: what comes now has a wake-up of its own.
                return Blocked() if isinstance(outcome, Created) and alone else outcome
            if len(page) < QUEUE_PAGE:
                return blocked
            after = page[-1].key

    def _last_look(self, entry: QueueEntry, passed: set[str]) -> Job | None:
        """Evaluate a job right before it is sent, from its files as they are now; None if it can't be sent now.

        The bucket is asked for own files that no event has told of, and then the job is evaluated: what was noted
        meanwhile, and is still to be evaluated by whoever noted it, counts too. One job's trouble is logged, and others
        go on.
        """
        try:
            before = self._table.job(entry.job)
            due = before is not None and before.ready_at <= self._clock()
            if before is not None and due and self._ingest.find_missed(before):
                return None
            job = self._evaluate.job(entry.job)
            if job is None or job.status is not Status.QUEUED or job.queue_key != entry.key:
                passed.add(entry.job)
                return None
            if job.ready_at <= self._clock() and not (due and before is not None and job.inputs == before.inputs):
                return None  # the files that it is made of now were not asked for
        except ConflictError:
            raise
        except Exception:  # as above
            log.exception("a queued job could not be evaluated", extra={"job": entry.job})
            passed.add(entry.job)
            return None
        return job

    def _send(self, job: Job, account: Account, ends_at: float, passed: set[str]) -> Outcome:
        try:
            return self._create_task.send(job, account, ends_at)
        except ConflictError:
            raise
        except Exception:  # whatever it is, the jobs behind it are not to suffer for it
            log.exception("a queued job could not be sent", extra={"job": job.id})
            passed.add(job.id)
            return Progress()

    # ------------------------------------------------------------------ by hand, and what people are shown
    def pause(self, at: float, *, paused: bool) -> None:
        """Stop or start creates by hand, as ordered at `at` (epoch); what is at the provider goes on."""
        before, after = self._table.update_account(lambda account: account.pause(at, paused=paused))
        if before.paused != after.paused:
            self._queue.send({"held": True})

    def show_held(self, cursor: str | None, ends_at: float) -> None:
        """Say in the reports of what waits why it waits, as much as time allows; asked for when that changes.

        `cursor` is a model and its queue key, as an earlier message left it.
        """
        first, _, after = (cursor or "").partition(" ")
        all_models = self._table.account().models
        models = all_models[all_models.index(first) :] if first in all_models else all_models
        for model in models:
            if (left := self._show_held_of(model, after or None, ends_at)) is not None:
                self._queue.send({"held": True, "cursor": f"{model} {left}"})
                return
            after = ""

    def _show_held_of(self, model: str, after: str | None, ends_at: float) -> str | None:
        while True:
            held = self._table.account().held(self._clock())
            page = self._table.queue(model, HELD_PAGE, after=after)
            for entry in page:
                self._show(entry.job, held)
            if len(page) < HELD_PAGE:
                return None
            after = page[-1].key
            if ends_at - self._clock() < RESERVE_SECONDS:
                return after

    def _show(self, job_id: str, held: str | None) -> None:
        def show(job: Job) -> Job | None:
            return job.show_held(held, self._clock()) if job.status is Status.QUEUED and job.held != held else None

        try:
            if (written := self._table.update(job_id, show)) is not None:
                self._publish.job(written)
        except PortraitcastError:
            log.exception("a job could not be shown why it waits", extra={"job": job_id})


def _sooner(one: Outcome, other: Outcome) -> Blocked:
    """Return the block that ends sooner."""
    ends = [block.until for block in (one, other) if isinstance(block, Blocked) and block.until is not None]
    return Blocked(min(ends, default=None))
