"""Reconcile a create of unknown outcome with the service's own list, before anything is paid again.

Two whole looks must agree before it counts as not taken. A look counts only if the list is consistent with the tasks
that we know: they are in it, at the times at which we know that they were created. What is found is for `CreateTask`
to act on; written here is only how far the reconciling has come.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Final, TypeAlias

from portraitcast.adapters.dashscope import ProviderError
from portraitcast.domain.job import TASK_LIFE_SECONDS, Job, Status
from portraitcast.domain.models import DEFAULT, Model, model_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.dashscope import DashScope, ListedTask
    from portraitcast.adapters.jobs_table import JobsTable
    from portraitcast.domain.account import Account, KnownTask, OpenCreate

log = logging.getLogger(__name__)

CLOCK_MARGIN: Final = 60.0  # s; the provider's clock against ours, when its list is compared with a create's time
UNPROVEN_MARGIN: Final = 600.0  # s, ours; the same while no known task shows how far the provider's clock is ahead
SECOND_LOOK: Final = 5  # the second look comes at five times ReconcileSeconds
LOOK_SECONDS: Final = 75.0  # ours: a look at the whole list, page by page
LOOK_RESERVE: Final = 10.0  # of the function's time: what is written behind a look
GIVE_UP_SECONDS: Final = 3600.0  # ours: no look has counted for so long: a person must decide
KNOWN_FOR: Final = TASK_LIFE_SECONDS - 3600.0  # the list shows the last 24 h; a task near that edge proves nothing


@dataclass(frozen=True, slots=True)
class Later:
    """There is nothing to do before this time (epoch)."""

    at: float


@dataclass(frozen=True, slots=True)
class Underway:
    """A step on the way was taken and written; another may follow at once."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The service took the create and this is its task; `certain` if the list names the create's own request."""

    job: Job
    create: OpenCreate
    task: ListedTask
    certain: bool


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Both looks agree that nothing was made."""

    job: Job


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Any of these tasks may be the create's (there may be none), and nobody can tell which, or whether.

    `why` is the trouble with the list, where it never came to candidates.
    """

    job: Job
    tasks: tuple[ListedTask, ...]
    why: str = ""


Finding: TypeAlias = Later | Underway | Taken | NotTaken | Ambiguous


def outcome_unknown(create: OpenCreate, ended_at: float, wait: float, request_id: str | None) -> OpenCreate:
    """Return a create of unknown outcome that ended at `ended_at` (epoch); it is looked for after `wait` seconds."""
    return replace(create, unknown_since=ended_at, request_id=request_id, next_look_at=ended_at + wait)


class ReconcileCreate:
    """Reconciles the open create, a step a call."""

    def __init__(
        self, table: JobsTable, service: DashScope, *, reconcile_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._table = table
        self._service = service
        self._reconcile_seconds = reconcile_seconds
        self._clock = clock

    def step(self, account: Account, create: OpenCreate, ends_at: float) -> Finding:
        """Take the next step; the function that takes it ends at `ends_at` (epoch)."""
        now = self._clock()
        if create.unknown_since is None:
            if now < create.lease_until:
                return Later(create.lease_until)
            if create.sent:  # its function died while it was creating
                self._write(account, outcome_unknown(create, create.lease_until, self._reconcile_seconds, None))
                return Underway()
        if now < create.next_look_at:
            return Later(create.next_look_at)
        job = self._table.job(create.job)
        if job is None or job.status is not Status.CREATING or job.attempt != create.attempt:
            self._table.save_account(account.drop_create(create.owner, now, paid=create.sent))
            return Underway()
        if create.unknown_since is None:
            return NotTaken(job)  # its function died while it uploaded: whatever the list has, it is none of ours
        if now - create.unknown_since > GIVE_UP_SECONDS:
            return Ambiguous(job, (), create.trouble)
        if ends_at - now < LOOK_SECONDS / 2:
            return Later(now + 1)
        # Written before it begins: a look that outlasts its function is a look, and the next comes later.
        began = self._write(account, replace(create, next_look_at=now + self._reconcile_seconds))
        try:
            tasks = self._service.list_tasks(self._model(job), seconds=min(LOOK_SECONDS, ends_at - now - LOOK_RESERVE))
        except ProviderError as error:
            log.warning("the list of tasks could not be read", extra=_extra(job, error.code, error.message))
            return self._without_count(began, f"the list of tasks could not be read: {error}")
        return self._judge(began, job, create, tasks)

    def _judge(self, account: Account, job: Job, create: OpenCreate, tasks: list[ListedTask]) -> Finding:
        now = self._clock()
        known = _known_tasks(account, create, now)
        skew = _clock_skew(known, tasks)
        if skew is None:
            log.warning("the list of tasks contradicts what is known", extra=_extra(job, None, f"{len(tasks)} tasks"))
            missing = len({task.id for task in known} - {task.task_id for task in tasks})
            what = f"it lacks {missing} of our tasks" if missing else "our tasks are in it at other times than ours"
            return self._without_count(account, f"the list of tasks can't be believed: {what}")
        if certain := self._named_by_request(account, create, tasks):
            return Taken(job, create, certain, certain=True)
        candidates = self._candidates(account, create, tasks, skew, CLOCK_MARGIN)
        # Nothing proves the provider's clock: what is a little outside the time is left to a person.
        unproven = not known and not candidates
        if unproven and (perhaps := self._candidates(account, create, tasks, skew, UNPROVEN_MARGIN)):
            return Ambiguous(job, tuple(perhaps))
        if len(candidates) == 1 and job.voice_seconds is not None:
            return Taken(job, create, candidates[0], certain=False)
        if candidates:
            return Ambiguous(job, tuple(candidates))
        if create.looks + 1 >= 2:
            return NotTaken(job)
        since = create.unknown_since or now
        second = since + SECOND_LOOK * self._reconcile_seconds
        self._write(account, replace(create, looks=create.looks + 1, next_look_at=max(second, now + 1)))
        return Underway()

    def _without_count(self, account: Account, trouble: str) -> Underway:
        """Keep why a look did not count, for the person who may have to decide."""
        if account.open_create is not None:
            self._write(account, replace(account.open_create, trouble=trouble))
        return Underway()

    def _named_by_request(self, account: Account, create: OpenCreate, tasks: list[ListedTask]) -> ListedTask | None:
        """Return the one task whose row names the create's own request."""
        named = [t for t in tasks if create.request_id and t.request_id == create.request_id]
        return named[0] if len(named) == 1 and not self._is_known(account, named[0].task_id) else None

    def _candidates(
        self, account: Account, create: OpenCreate, tasks: list[ListedTask], skew: float, margin: float
    ) -> list[ListedTask]:
        """Return the tasks that may be this create's: in its time, none that we know, and of our key if that is told.

        The list names keys by numbers of its own: ours is the one of our known tasks since the key was last changed.
        """
        ended = create.unknown_since if create.unknown_since is not None else create.lease_until
        # What came before the end of an earlier create that was never settled may be that one's.
        earliest = max(create.sent_at - margin, account.unsettled_until)
        in_time = [t for t in tasks if earliest <= t.created_at - skew <= ended + margin]
        found = [t for t in in_time if not self._is_known(account, t.task_id)]
        # Only tasks that certainly are ours tell our key: a candidate that is merely remembered may be anybody's.
        certain = {known.id for known in account.recent_tasks if known.key_mark == account.key_mark}
        key_since = account.key_since + CLOCK_MARGIN if account.key_since else 0.0
        our_keys = {t.api_key_id for t in tasks if t.task_id in certain and t.api_key_id and t.created_at >= key_since}
        return [t for t in found if not our_keys or t.api_key_id is None or t.api_key_id in our_keys]

    def _is_known(self, account: Account, task: str) -> bool:
        return any(known.id == task for known in account.recent_tasks) or self._table.is_known_task(task)

    def _write(self, account: Account, create: OpenCreate) -> Account:
        return self._table.save_account(replace(account, open_create=create))

    def _model(self, job: Job) -> Model:
        return job.inputs.settings.definition if job.inputs.settings else model_named(DEFAULT)


def _known_tasks(account: Account, create: OpenCreate, now: float) -> list[KnownTask]:
    """Return our newest tasks that the list must hold: of the create's model and key, and young enough."""
    recent = [t for t in account.recent_tasks if (t.model, t.key_mark) == (create.model, account.key_mark)]
    return [t for t in recent if now - t.accepted_at < KNOWN_FOR]


def _clock_skew(known: list[KnownTask], tasks: list[ListedTask]) -> float | None:
    """Return by how many seconds the provider's clock is ahead of ours, by the tasks that we know; None if they differ.

    A known task that the list lacks, or known tasks that disagree about the clock, say that the list can't be believed.
    """
    listed = {task.task_id: task.created_at for task in tasks}
    if any(task.id not in listed for task in known):
        return None
    if not known:
        return 0.0
    skews = [_skew(task, listed[task.id]) for task in known]
    middle = median(skews)
    if any(abs(skew - middle) > CLOCK_MARGIN for skew in skews):
        return None
    return middle if abs(middle) > CLOCK_MARGIN / 2 else 0.0


def _skew(task: KnownTask, listed_at: float) -> float:
    """Return how far a listed time lies outside the moments between which the task was certainly created."""
    if listed_at < task.sent_at:
        return listed_at - task.sent_at
    return max(0.0, listed_at - task.accepted_at)


def _extra(job: Job, code: str | None, detail: str) -> dict[str, object]:
    return {"job": job.id, "code": code, "detail": detail}
