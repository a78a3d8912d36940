"""Deliver what a task ended with, good or bad. Asks the provider itself: that gives a fresh link, and the truth.

Each step can be repeated: the slot is freed by its owner's name, the video is put by job, generation and attempt, and
changes are published by revision.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from portraitcast.adapters.dashscope import ProviderError, worth_one_more_try
from portraitcast.adapters.download import FetchError, fetched
from portraitcast.domain import problems
from portraitcast.domain.execution import BELIEVED_AFTER, Execution
from portraitcast.domain.job import Job, Status, Task, Video
from portraitcast.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from portraitcast.adapters.buckets import Results, StoredVideo
    from portraitcast.adapters.dashscope import DashScope, ProviderTask
    from portraitcast.adapters.download import Fetched
    from portraitcast.adapters.executions import ExecutionHistory
    from portraitcast.adapters.jobs_table import JobsTable
    from portraitcast.adapters.queues import Queue
    from portraitcast.domain.account import Account
    from portraitcast.domain.polling import Pace
    from portraitcast.domain.problems import Problem
    from portraitcast.workflows.monitor import PollBounds
    from portraitcast.workflows.publish import Publish

log = logging.getLogger(__name__)

PUT_TRIES: Final = 5  # of putting a video while something else is put under its name
LENGTH_MARGIN: Final = 0.5  # s; an adopted video must be as long as the voice
BROKEN_WAIT: Final = 5.0  # s; doubled with each execution that broke
RETRY_WAIT: Final = 60.0  # most seconds until a video that couldn't be brought is tried again
TIMEOUT_CODE: Final = "InternalError.Timeout"  # Model Studio: no result three hours after submit; worth a new attempt


@dataclass(frozen=True, slots=True)
class EndedExecution:
    """An execution that ended FAILED, TIMED_OUT or ABORTED, as Step Functions' event tells; `state` is its input."""

    status: str
    name: str
    arn: str
    state: Execution


class Deliver:
    """Brings what tasks end with to those who asked for it."""

    def __init__(
        self,
        table: JobsTable,
        results: Results,
        service: DashScope,
        queue: Queue,
        history: ExecutionHistory,
        publish: Publish,
        bounds: PollBounds,
        *,
        extra_video_hosts: str,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._results = results
        self._service = service
        self._queue = queue
        self._history = history
        self._publish = publish
        self._bounds = bounds
        self._extra_video_hosts = extra_video_hosts
        self._clock = clock

    # ------------------------------------------------------------------ the state machine's call
    def task(self, state: Execution) -> Execution:
        """Deliver what a task ended with; ``published`` says if all is done, else when to come again."""
        job = self._table.job(state.job)
        if job is None or job.attempt != state.attempt or job.status is not Status.RENDERING:
            return self._finish(job, state)  # another call has ended this attempt; what may be missing is publishing
        if state.is_long:
            return self._hand_over(job, state)
        try:
            task = self._service.query(state.task)
        except ProviderError as error:
            if not self._is_over(job):
                detail = {"job": job.id, "code": error.code, "detail": error.message}
                log.warning("provider did not answer", extra=detail)
                return self._poll_on(state)
            task = None
        if task is None or (self._is_over(job) and task.status != "SUCCEEDED"):
            self._release_slot(job)
            why = state.fetch_error  # it was made then, and only its task's end made it vanish
            over = problems.not_delivered(state.task, why) if why else problems.task_life_over(state.task)
            return self._fail(job, state, over, task)
        if task.status == "UNKNOWN":
            return self._lost_sight(job, state)
        if not task.ended:
            return self._poll_on(state)
        self._release_slot(job)
        if task.status == "SUCCEEDED":
            return self._succeeded(job, state, task)
        return self._task_failed(job, state, task)

    def _poll_on(self, state: Execution) -> Execution:
        """Go back to polling. UNKNOWN is counted anew: it calls deliver once, when the count is reached."""
        return replace(state, unknown=0).again(self._bounds.least)

    def _finish(self, job: Job | None, state: Execution) -> Execution:
        """Publish what is not published, and see to files that came while the job was at the provider."""
        if job is not None:
            self._publish.job(job)
            if job.follow_up and not job.at_provider:
                self._queue.send({"reconcile": job.id})
        return state.finish()

    def _hand_over(self, job: Job, state: Execution) -> Execution:
        """Let another execution go on, before this one's history is full."""
        self._table.update(job.id, lambda current: self._next_execution(current, state))
        self._queue.send({"reconcile": job.id})
        return state.finish()

    def _next_execution(self, current: Job, state: Execution) -> Job | None:
        mine = (current.status, current.attempt, current.execution) == (
            Status.RENDERING,
            state.attempt,
            state.execution,
        )
        return current.next_execution() if mine else None

    def _is_over(self, job: Job) -> bool:
        return job.task is not None and job.task.is_over(self._clock())

    def _release_slot(self, job: Job) -> None:
        """Release the task's slot and wake submit, so that the next job starts at once."""
        # The slot first, then the queue: who comes into the queue meanwhile finds the slot free.
        if self._table.release_slot(job.owner) and self._table.queue(job.inputs.model, 1):
            self._queue.send({"wake": True})

    def _lost_sight(self, job: Job, state: Execution) -> Execution:
        """UNKNOWN before the task's life is over: a rotated key answers so. The slot is released, the job stays."""
        if state.unknown >= BELIEVED_AFTER:

            def release(account: Account) -> Account:
                if job.owner not in account.tasks_in_flight:
                    return account
                return account.release_slot(job.owner).notify(
                    "a task is out of sight",
                    f"The video service doesn't know task {state.task} of {job.name}. If its key was changed, its "
                    "tasks can't be seen with the new one. The job is polled until the task's 24 h are over.",
                )

            before, after = self._table.update_account(release)
            if before != after:
                self._queue.send({"wake": True})
            self._publish.operators()
        return state.again(self._bounds.most)

    # ------------------------------------------------------------------ good ends
    def _succeeded(self, job: Job, state: Execution, task: ProviderTask) -> Execution:
        if task.video_url is None:
            if state.no_link < BELIEVED_AFTER:
                return state.again(2 * self._bounds.least)
            return self._fail(job, state, problems.no_video_link(task.task_id, task.request_id), task)
        there = self._results.video(job.video_key) if job.video is not None else None
        if there is not None and there.mark == job.video_mark and there.video is not None:
            return self._done(job, there.video, state, task)  # put by a call that died before it could say so
        try:
            with fetched(task.video_url, extra_hosts=self._extra_video_hosts) as video:
                if job.adopted and not _fits(job, video):
                    wrong = problems.wrong_length(job.voice_seconds or 0.0, video.video.seconds, LENGTH_MARGIN)
                    return self._fail(job, state, wrong, task)
                delivered = self._put(job, video, there)
        except FetchError as error:
            return self._not_fetched(job, state, task, str(error))
        if delivered is None:
            return self._finish(self._table.job(job.id), state)
        return self._done(*delivered, state, task)

    def _put(self, job: Job, brought: Fetched, there: StoredVideo | None) -> tuple[Job, Video] | None:
        """Put the video in place of the one that was there; None if the job has got on meanwhile.

        The job is read once more right before, and the PUT is conditional: an old video never replaces a newer one.
        """
        found = brought.video
        video = Video(
            key=self._results.prefix + job.video_key,
            bytes=found.bytes,
            seconds=round(found.seconds, 3),
            width=found.width,
            height=found.height,
            sha256=brought.sha256,
            bucket=self._results.bucket,
        )
        for _ in range(PUT_TRIES):
            current = self._table.job(job.id)
            if current is None or not _is_mine(current, job):
                return None
            try:
                self._results.put_video(video, job.id, job.video_mark, brought.file, over=there)
            except ConflictError:
                there = self._results.video(job.video_key)
                if there is not None and there.mark == job.video_mark and there.video is not None:
                    return current, there.video  # another call of this very delivery was quicker
                continue
            return current, video
        raise FetchError("something else is put under the video's name again and again")

    def _not_fetched(self, job: Job, state: Execution, task: ProviderTask, why: str) -> Execution:
        log.warning("video could not be brought", extra={"job": job.id, "detail": why})
        if self._is_over(job):
            return self._fail(job, state, problems.not_delivered(state.task, why), task)
        tries = state.fetch_tries + 1
        later = replace(state, fetch_tries=tries, fetch_error=why[:300])
        return later.again(min(self._bounds.least * 2**tries, RETRY_WAIT))

    def _done(self, job: Job, video: Video, state: Execution, task: ProviderTask) -> Execution:
        seconds = task.video_seconds or video.seconds

        def done(current: Job) -> Job | None:
            settings = current.inputs.settings
            if not _is_mine(current, job) or settings is None:
                return None
            cost = settings.definition.video_fee(seconds, settings.parameters)
            return current.deliver(video, _with_times(current.task, task, state), cost, self._clock())

        written = self._table.update(job.id, done, known=job, pace=self._learnt(job, task))
        return self._finish(written or self._table.job(job.id), state)

    def _learnt(self, job: Job, task: ProviderTask) -> tuple[str, Pace] | None:
        """Return a model's pace after what this task took, for polling the next ones; None if it teaches nothing."""
        if not job.voice_seconds or not (task.scheduled_time and task.end_time):
            return None
        work = (task.end_time - task.scheduled_time).total_seconds()
        model = job.inputs.model
        return (model, self._table.pace(model).learn(job.voice_seconds, work)) if work > 0 else None

    # ------------------------------------------------------------------ bad ends
    def _task_failed(self, job: Job, state: Execution, task: ProviderTask) -> Execution:
        code, message = task.code or "", task.message or ""
        if not job.retried and (worth_one_more_try(code, message) or code == TIMEOUT_CODE):
            return self._one_more_attempt(job, state, task)
        return self._fail(job, state, problems.task_failed(task.code, task.message, task.request_id), task)

    def _one_more_attempt(self, job: Job, state: Execution, task: ProviderTask) -> Execution:
        log.info("one more attempt", extra={"job": job.id, "code": task.code})

        def again(current: Job) -> Job | None:
            return current.retry(self._clock(), home=current.inputs.folders) if _is_mine(current, job) else None

        written = self._table.update(job.id, again)
        self._queue.send({"wake": True})
        return self._finish(written or self._table.job(job.id), state)

    def _fail(self, job: Job, state: Execution, problem: Problem, task: ProviderTask | None) -> Execution:
        def fail(current: Job) -> Job | None:
            if not _is_mine(current, job):
                return None
            return current.fail(problem, self._clock(), task=_with_times(current.task, task, state))

        return self._finish(self._table.update(job.id, fail) or self._table.job(job.id), state)

    # ------------------------------------------------------------------ executions that ended where no Catch can see
    def ended(self, execution: EndedExecution) -> Execution:
        """Take up a job whose execution ended FAILED, TIMED_OUT or ABORTED and was not caught."""
        state = execution.state
        job = self._table.job(state.job)
        if job is None or job.attempt != state.attempt or job.status is not Status.RENDERING:
            return self._finish(job, state)
        log.warning(
            "execution ended badly", extra={"job": job.id, "execution": execution.name, "status": execution.status}
        )
        if execution.status != "ABORTED":
            return self._broken(job, execution)
        if state.execution != job.execution:
            return state.finish()  # an old execution; a newer one is at work
        return self._aborted(job, state)

    def _broken(self, job: Job, execution: EndedExecution) -> Execution:
        """Have the task monitored anew, later each time, and tell the operator why the execution broke."""
        cause = self._history.cause(execution.arn) or "its history names no cause"
        log.warning("its cause", extra={"job": job.id, "detail": cause})
        after = BROKEN_WAIT * 2 ** min(execution.state.execution, 10)
        self._queue.send({"reconcile": job.id}, after=after)
        self._publish.operator(
            "an execution broke",
            f"Execution {execution.name} of {job.name} ended {execution.status}: {cause}\n\nNo job is lost: its task "
            "is monitored anew.",
        )
        return execution.state.finish()

    def _aborted(self, job: Job, state: Execution) -> Execution:
        try:
            task: ProviderTask | None = self._service.query(state.task)
        except ProviderError as error:
            log.warning("provider did not answer", extra={"job": job.id, "code": error.code})
            task = None
        if task is not None and task.ended and task.status != "UNKNOWN":
            result = self.task(state)  # the task ended: what is paid is delivered
            if not result.published:
                self._table.update(job.id, lambda current: self._next_execution(current, state))
                self._queue.send({"reconcile": job.id}, after=result.wait_seconds)
            return result
        cancelled = task is not None and task.status == "PENDING" and self._cancel(state.task)

        def fail(current: Job, account: Account) -> tuple[Job, Account] | None:
            if not _is_mine(current, job):
                return None
            orphaned = current if cancelled else current.orphan_task()
            problem = problems.execution_aborted(cancelled=cancelled)
            failed = orphaned.fail(problem, self._clock(), task=_with_times(current.task, task, state))
            return failed, account.release_slot(job.owner) if cancelled else account

        changed = self._table.update_both(job.id, fail)
        if changed is not None and changed.job.orphans:
            self._queue.send({"reconcile": job.id}, after=self._bounds.most)
        self._queue.send({"wake": True})
        return self._finish(changed.job if changed else self._table.job(job.id), state)

    def _cancel(self, task: str) -> bool:
        try:
            return self._service.cancel(task)
        except ProviderError:
            return False


def _is_mine(current: Job, job: Job) -> bool:
    return current.status is Status.RENDERING and current.attempt == job.attempt


def _fits(job: Job, video: Fetched) -> bool:
    seconds = job.voice_seconds
    return seconds is not None and abs(video.video.seconds - seconds) <= LENGTH_MARGIN


def _with_times(known: Task | None, task: ProviderTask | None, state: Execution) -> Task:
    """Return the job's task with the times that the provider tells."""
    known = known or Task(state.task, state.sent_at)
    if task is None:
        return known

    def epoch(when: datetime | None) -> float | None:
        return when.timestamp() if when else None

    times = (epoch(task.submit_time), epoch(task.scheduled_time), epoch(task.end_time))
    return replace(known, submit_time=times[0], scheduled_time=times[1], end_time=times[2])
