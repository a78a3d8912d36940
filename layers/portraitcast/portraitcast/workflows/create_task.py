"""Create the task of a queued job: within the budget, with a checked portrait, once.

A create is paid once accepted, and there is no idempotency key. So one create is open at a time in a stack, it is sent
once, and when its outcome is unknown it is reconciled with the service's list before anything is paid again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from portraitcast.adapters.buckets import NO_VERSION
from portraitcast.adapters.dashscope import (
    AccountError,
    CheckPassed,
    JobRefusedError,
    NotConnectedError,
    ProviderError,
    ProviderIllError,
    ThrottledError,
    UnknownOutcome,
)
from portraitcast.adapters.presign import CONTENT_TYPES, LINK_SECONDS, LinkedObject
from portraitcast.domain.account import Account, KnownTask, OpenCreate, next_beijing_day
from portraitcast.domain.job import Job, PortraitCheck, Status, Task
from portraitcast.domain.models import Boxes
from portraitcast.domain.problems import (
    Problem,
    ProblemError,
    account_refuses_job,
    create_ambiguous,
    no_usable_answer,
    over_budget,
    portrait_refused,
    provider_refused,
)
from portraitcast.domain.uploads import short_hash
from portraitcast.errors import ConflictError
from portraitcast.workflows.reconcile_create import Ambiguous, NotTaken, Taken, outcome_unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.dashscope import DashScope
    from portraitcast.adapters.jobs_table import Changed, JobsTable
    from portraitcast.adapters.presign import Links
    from portraitcast.adapters.queues import Queue
    from portraitcast.adapters.temporary_storage import TemporaryStorage
    from portraitcast.domain.job import Portrait, Voice
    from portraitcast.domain.models import Model
    from portraitcast.domain.settings import Effective
    from portraitcast.workflows.monitor import Monitor
    from portraitcast.workflows.publish import Publish

log = logging.getLogger(__name__)

CREATE_SECONDS: Final = 42.0  # a create's own timeouts (`DashScope.call_seconds`) and what must be written behind it
CHECK_SECONDS: Final = 37.0
UPLOAD_SECONDS: Final = 90.0  # ours: the least that uploads before a create or a check are given, 15 MB at 1.4 Mbit/s
UPLOAD_MARGIN: Final = 5.0  # ours: behind uploads' own bound, for a bucket that is slow to give a file
LEASE_MARGIN: Final = 30.0  # behind the end of the function's time: until then a create may be on the wire
LINK_MARGIN: Final = 600.0  # of a link's hour, kept free for the download itself and for a slow provider
REMEMBERED_TASKS: Final = 50  # candidates of an ambiguous create; a transaction has at most 100 writes (DynamoDB)


@dataclass(frozen=True, slots=True)
class Limits:
    """The stack's parameters that bound creates: tasks of a model, CNY a Beijing day (0 is no ceiling), seconds.

    A job that costs more than `approve_above_cny` is queued only with an approval (0 asks never).
    """

    max_tasks_in_flight: int
    daily_budget_cny: float
    approve_above_cny: float
    reconcile_seconds: float
    breaker_seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Something was done: look again what is to be done next."""


@dataclass(frozen=True, slots=True)
class Created:
    """The job's task was created."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Nothing can be sent now; `until` is when time alone changes that (epoch), None if only an event does."""

    until: float | None = None


Outcome: TypeAlias = Created | Progress | Blocked


@dataclass(frozen=True, slots=True)
class _Order:
    """A job with all that its create needs."""

    job: Job
    voice: Voice
    portrait: Portrait
    settings: Effective
    model: Model
    seconds: float
    expected: float

    @property
    def has_links(self) -> bool:
        """Whether an input is the owner's own link, which nobody but the owner can mend."""
        return self.voice.link is not None or self.portrait.link is not None

    @property
    def fee(self) -> float:
        """The video's price, CNY."""
        return self.model.video_fee(self.seconds, self.settings.parameters)


class CreateTask:
    """Creates tasks, and brings creates of unknown outcome to their end.

    Inputs go to the service by presigned links or, where there is a `storage`, through the service's own storage.
    """

    def __init__(
        self,
        table: JobsTable,
        service: DashScope,
        links: Links,
        monitor: Monitor,
        queue: Queue,
        publish: Publish,
        limits: Limits,
        *,
        clock: Callable[[], float],
        storage: TemporaryStorage | None = None,
    ) -> None:
        self._table = table
        self._service = service
        self._links = links
        self._storage = storage
        self._monitor = monitor
        self._queue = queue
        self._publish = publish
        self._limits = limits
        self._clock = clock

    @property
    def seconds_needed(self) -> float:
        """The least of a function's time, s, in which a portrait can be checked and a create be sent."""
        return CHECK_SECONDS + CREATE_SECONDS + self._upload_seconds

    @property
    def _upload_seconds(self) -> float:
        return UPLOAD_SECONDS if self._storage else 0.0

    # ------------------------------------------------------------------ the way to a create
    def send(self, job: Job, account: Account, ends_at: float) -> Outcome:
        """Send a queued job, if the account bears it now. The function's time ends at `ends_at` (epoch)."""
        order = self._order(job)
        ahead = account.in_flight(order.model.name)
        if self._storage is None and ahead and (ahead + 1) * order.expected + LINK_MARGIN > LINK_SECONDS:
            return Blocked()  # its links would end before its turn: it goes when a task ahead has ended
        if (held_back := self._within_budget(order, account)) is not None:
            return held_back
        inputs = _SignedLinks(self._links, order) if self._storage is None else _StoredCopies(self._storage, order)
        if not job.checked:
            checked = self._checked(order, account, inputs)
            if not isinstance(checked, Job):
                return checked
            if checked.version != job.version:
                account = self._table.account()  # the provider was asked, which took its time
            order = replace(order, job=checked)
        return self._create_if_free(order, account, inputs, ends_at)

    def _order(self, job: Job) -> _Order:
        voice, portrait, settings = job.inputs.voice, job.inputs.portrait, job.inputs.settings
        if voice is None or portrait is None or settings is None:
            raise ValueError(f"job {job.id} is queued without its inputs")
        model = settings.definition
        seconds = model.voice.at_most(voice.seconds)
        return _Order(job, voice, portrait, settings, model, seconds, self._table.pace(model.name).expected(seconds))

    def _within_budget(self, order: _Order, account: Account) -> Outcome | None:
        """Hold the job back, or reject it, if the day's budget doesn't bear it; None when it does."""
        now, ceiling = self._clock(), self._limits.daily_budget_cny
        price = round(order.fee + (0.0 if order.job.checked else order.model.check_cny), 6)
        if not ceiling or account.spent_today(now) + price <= ceiling:
            return None
        if price > ceiling:  # no day will ever bear it
            self._reject(order.job, over_budget(price, ceiling), shared=False)
            return Progress()
        before, after = self._table.update_account(lambda a: a.reach_budget(ceiling, price, now))
        if before != after:
            self._publish.operators()
            self._queue.send({"held": True})
        return Blocked(next_beijing_day(now))

    def _create_if_free(self, order: _Order, account: Account, inputs: _Inputs, ends_at: float) -> Outcome:
        try:
            in_flight = account.in_flight(order.model.name)
            if not (account.open_create or account.paused or in_flight >= self._limits.max_tasks_in_flight):
                return self._create(order, account, inputs, ends_at)
        except ConflictError:
            self._end_check(order.job)
            raise
        self._end_check(order.job)
        return Progress()

    # ------------------------------------------------------------------ the portrait check
    def _checked(self, order: _Order, account: Account, inputs: _Inputs) -> Job | Outcome:
        """Find out whether the portrait will do: given boxes, from memory, or by the provider.

        After a passed check the lease stays until the create's transaction takes it over.
        """
        job, settings = order.job, order.settings
        if settings.face_bbox and settings.ext_bbox:
            return job.pass_check(Boxes(settings.face_bbox, settings.ext_bbox))
        content, upload = _check_keys(order)
        if content and (known := self._table.check(content)):
            return job.pass_check(known.boxes)
        if content and (known := self._table.check(upload)) and known.problem:
            self._reject(job, known.problem, shared=order.portrait.is_shared, answered=False)
            return Progress()
        now, fee = self._clock(), order.model.check_cny
        # One check at a time, or every submit of a storm would pay for the same one.
        lease = self._upload_seconds + CHECK_SECONDS
        self._table.save_account(account.lease_check(job.id, now + lease, fee, now))
        image = self._image_to_check(order, inputs)
        if not isinstance(image, str):
            return image
        try:
            answer = self._service.check_portrait(order.model, image, settings.parameters)
        except ProviderError as error:
            self._end_check(job, refund=0.0 if isinstance(error, ProviderIllError) else fee)
            return self._not_sent(order, error)
        if isinstance(answer, CheckPassed):
            if content:
                self._table.put_check(content, PortraitCheck(answer.boxes), self._clock())
            return self._pay_check(job, job.pass_check(answer.boxes, fee), fee)
        problem = portrait_refused(answer.code, answer.message, answer.request_id, order.portrait.key)
        if content:
            self._table.put_check(upload, PortraitCheck(problem=problem), self._clock())
        paid = self._pay_check(job, job.pay_check(fee), fee)
        self._end_check(job)
        if isinstance(paid, Job):
            self._reject(paid, problem, shared=order.portrait.is_shared)
        return Progress()

    def _image_to_check(self, order: _Order, inputs: _Inputs) -> str | Outcome:
        """Return the link to the portrait, uploaded inside the check's lease; whatever goes wrong is not paid."""
        job, fee = order.job, order.model.check_cny
        try:
            return inputs.for_check(self._upload_seconds)
        except ProblemError as error:
            self._end_check(job, refund=fee)
            self._reject(job, error.problem, shared=order.portrait.is_shared, answered=False)
            return Progress()
        except ProviderError as error:
            self._end_check(job, refund=fee)
            return self._not_sent(order, error)
        except Exception:  # of AWS: the jobs behind it go on
            self._end_check(job, refund=fee)
            raise

    def _pay_check(self, job: Job, paid: Job, fee: float) -> Job | Outcome:
        """Count a check as paid at once: a job that was changed meanwhile is evaluated anew, from memory."""
        try:
            return self._table.save(paid, was=job)[0]
        except ConflictError:
            self._table.update(job.id, lambda current: current.pay_check(fee))
            self._end_check(job)
            return Progress()

    def _end_check(self, job: Job, *, refund: float = 0.0) -> None:
        now = self._clock()
        self._table.update_account(lambda a: (a.spend(-refund, now) if refund else a).end_check(job.id))

    def _not_sent(self, order: _Order, error: ProviderError) -> Outcome:
        """The provider did not take a check: sort whose trouble it is."""
        job = order.job
        if not isinstance(error, JobRefusedError) or _befalls_all(order, error, self._table.account()):
            self._trouble(job, error)
        elif error.worth_one_more_try and not job.retried:
            self._table.save(job.use_retry(), was=job)
        else:
            problem = provider_refused(error.code, error.message, error.request_id)
            self._reject(job, problem, shared=False, words=str(error))
        return Progress()

    def _reject(self, job: Job, problem: Problem, *, shared: bool, answered: bool = True, words: str = "") -> None:
        """Reject a queued job.

        `answered` if the provider's answer shows the account to be well, `words` if these may befall every job.
        """
        now = self._clock()

        def reject(current: Job, account: Account) -> tuple[Job, Account] | None:
            if current.version != job.version:
                return None  # changed meanwhile: the next step looks at it again
            home = current.inputs.folders if shared else ()
            account = account.close_breaker(job.id) if answered else account
            return current.refuse(problem, now, home=home), account.note_refusal(job.id, words) if words else account

        self._publish_changed(self._table.update_both(job.id, reject))

    # ------------------------------------------------------------------ the create
    def _create(self, order: _Order, account: Account, inputs: _Inputs, ends_at: float) -> Outcome:
        inputs.begin()
        now = self._clock()
        if ends_at - now < CREATE_SECONDS + self._upload_seconds:
            self._end_check(order.job)
            return Progress()
        job = order.job.start_create()
        lease = ends_at + LEASE_MARGIN
        sent = self._storage is None
        create = OpenCreate(job.id, job.attempt, order.model.name, now, lease, order.fee, sent=sent)
        account = account.begin_create(create, self._service.key_mark())
        job, begun = self._table.save(job, was=order.job, account=account)
        links = self._hand_over(order, job, inputs, ends_at)
        if links is None:
            return Progress()
        if self._storage is not None:  # uploading took its time: a task that was created meanwhile is none of ours
            now, begun = self._clock(), None
            account = self._table.update_account(lambda a: a.send_create(job.owner, now))[1]
            if account.open_create is None or account.open_create.owner != job.owner:
                return Progress()  # the lease ended meanwhile
        image, audio = links
        log.info("create is sent", extra={"job": job.id, "attempt": job.attempt})
        try:
            answer = self._service.create(
                order.model,
                image_url=image,
                audio_url=audio,
                boxes=job.boxes,
                parameters=order.settings.parameters,
            )
        except JobRefusedError as error:
            self._refused(order, job, error)
        except ProviderError as error:
            self._trouble(job, error)
        else:
            if isinstance(answer, UnknownOutcome):
                self._unknown(job, answer)
            else:
                known = KnownTask(answer.task_id, order.model.name, now, self._clock(), account.key_mark)
                task = Task(answer.task_id, now, order.expected)
                self._accept(job, task, known, adopted=False, read=(job, begun) if begun else None)
                return Created()
        return Progress()

    def _hand_over(self, order: _Order, job: Job, inputs: _Inputs, ends_at: float) -> tuple[str, str] | None:
        """Return the links to portrait and voice, uploaded inside the create's lease; None if that went wrong.

        Whatever goes wrong here, nothing was paid: the create has not been sent.
        """
        try:
            links = inputs.for_create(ends_at - self._clock() - CREATE_SECONDS - UPLOAD_MARGIN)
        except JobRefusedError as error:
            self._refused(order, job, error)
        except ProviderError as error:
            self._trouble(job, error)
        except ProblemError as error:
            self._put_back(job, error.problem)
        except Exception:  # of AWS: the jobs behind it go on
            self._put_back(job, None)
            raise
        else:
            if self._storage is None or ends_at - self._clock() >= CREATE_SECONDS:
                return links
            self._trouble(job, NotConnectedError("NotConnected", "uploading took too long, and no create was sent"))
        return None

    def _put_back(self, job: Job, problem: Problem | None) -> None:
        """Close a create that was not sent: the job goes back to its place, or is rejected for a problem of its own."""
        now = self._clock()

        def back(current: Job, account: Account) -> tuple[Job, Account] | None:
            if current.status is not Status.CREATING or current.attempt != job.attempt:
                return None
            account = account.drop_create(current.owner, now)
            if problem is not None:
                portrait = current.inputs.portrait
                home = current.inputs.folders if portrait and portrait.is_shared else ()
                return current.refuse(problem, now, home=home), account
            return current.requeue(now, held=account.held(now), home=current.inputs.folders), account

        self._publish_changed(self._table.update_both(job.id, back))

    def _accept(
        self, job: Job, task: Task, known: KnownTask, *, adopted: bool, read: tuple[Job, Account] | None = None
    ) -> None:
        """The task is paid: store its id, start its execution, publish. Each step can be repeated.

        `read` is the job and the account as they were written a moment ago.
        """

        def accept(current: Job, account: Account) -> tuple[Job, Account] | None:
            if current.status is not Status.CREATING or current.attempt != job.attempt:
                return None
            if current.held == "budget":  # another day, or a higher ceiling
                account = account.leave_budget()
            settled = account.settle_create(known, certain=not adopted).close_breaker(current.id)
            return current.accept(task, self._clock(), adopted=adopted), settled

        changed = self._table.update_both(job.id, accept, tasks=(task.id,), known=read)
        if changed is None:
            return
        log.info("task is accepted", extra={"job": job.id, "attempt": job.attempt, "task": task.id})
        self._monitor.start(changed.job, changed.account)
        self._publish_changed(changed)

    def _refused(self, order: _Order, job: Job, error: JobRefusedError) -> None:
        if _befalls_all(order, error, self._table.account()):
            self._trouble(job, error)
            return
        now = self._clock()

        def refuse(current: Job, account: Account) -> tuple[Job, Account] | None:
            if current.status is not Status.CREATING or current.attempt != job.attempt:
                return None
            account = account.drop_create(current.owner, now).close_breaker(current.id)
            if error.worth_one_more_try and not current.retried:
                return current.use_retry().requeue(now, held=account.held(now), home=current.inputs.folders), account
            refused = current.refuse(provider_refused(error.code, error.message, error.request_id), now)
            return refused, account.note_refusal(current.id, str(error))

        self._publish_changed(self._table.update_both(job.id, refuse))

    def _trouble(self, job: Job, error: ProviderError) -> None:
        """Nothing was paid and it looks like the account's trouble: the job keeps its place, the account waits."""
        log.warning("provider took no call", extra={"job": job.id, "code": error.code, "detail": error.message})
        now = self._clock()

        def keep(current: Job, account: Account) -> tuple[Job, Account] | None:
            if current.status not in {Status.CREATING, Status.QUEUED} or current.attempt != job.attempt:
                return None
            if current.status is Status.CREATING:  # a queued job's owner may be that of its orphaned task
                account = account.drop_create(current.owner, now)
            if not isinstance(error, ThrottledError | NotConnectedError):
                if account.blames(current.id):
                    problem = account_refuses_job(error.code, error.message, error.request_id)
                    return current.refuse(problem, now), account.forget_suspect(current.id)
                account = account.note_failure(current.id)
            if isinstance(error, AccountError):
                interval = self._limits.breaker_seconds
                account = account.open_breaker(now, interval=interval, code=error.code, message=error.message)
            else:
                account = self._struck(account, error.code, error.message, error.retry_after)
            return current.requeue(now, held=account.held(now), home=current.inputs.folders), account

        self._publish_changed(self._table.update_both(job.id, keep))

    def _struck(self, account: Account, code: str, message: str, retry_after: float | None) -> Account:
        interval = self._limits.breaker_seconds
        return account.strike(self._clock(), retry_after=retry_after, interval=interval, code=code, message=message)

    # ------------------------------------------------------------------ a create of unknown outcome
    def _unknown(self, job: Job, answer: UnknownOutcome) -> None:
        log.warning("create has no known outcome", extra={"job": job.id, "detail": answer.reason})
        now = self._clock()

        def note(account: Account) -> Account:
            create = account.open_create
            if create is None or create.owner != job.owner:
                return account
            unknown = outcome_unknown(create, now, self._limits.reconcile_seconds, answer.request_id)
            return replace(account, open_create=unknown)

        self._table.update_account(note)

    def settle(self, finding: Taken | NotTaken | Ambiguous) -> None:
        """Act on what reconciling a create has found."""
        match finding:
            case Taken(job, create, task, certain):
                order = self._order(job)
                ended = create.unknown_since if create.unknown_since is not None else create.lease_until
                mark = self._table.account().key_mark
                known = KnownTask(task.task_id, create.model, create.sent_at, ended, mark)
                self._accept(job, Task(task.task_id, create.sent_at, order.expected), known, adopted=not certain)
            case NotTaken(job):
                self._not_taken(job)
            case Ambiguous(job, tasks, why):
                self._give_up(job, tuple(task.task_id for task in tasks), why)

    def _not_taken(self, job: Job) -> None:
        """Nothing was made: the job goes back to its place, the service counts as ill."""
        log.info("create was not taken", extra={"job": job.id, "attempt": job.attempt})
        now = self._clock()

        def back(current: Job, account: Account) -> tuple[Job, Account] | None:
            if current.status is not Status.CREATING or current.attempt != job.attempt:
                return None
            account = account.drop_create(current.owner, now)
            if account.blames(current.id):
                return current.fail(no_usable_answer(), now), account.forget_suspect(current.id)
            account = account.note_failure(current.id)
            account = self._struck(
                account, "NoUsableAnswer", "creates get no usable answer, and no task comes of them", None
            )
            return current.requeue(now, held=account.held(now), home=current.inputs.folders), account

        self._publish_changed(self._table.update_both(job.id, back))

    def _give_up(self, job: Job, tasks: tuple[str, ...], why: str) -> None:
        """Nobody can tell: a person must look. All candidates are remembered, so that no later create adopts one."""
        now = self._clock()
        problem = create_ambiguous(list(tasks), why)
        log.warning("a create is left to a person", extra={"job": job.id, "detail": why or ", ".join(tasks[:20])})

        def fail(current: Job, account: Account) -> tuple[Job, Account] | None:
            if current.status is not Status.CREATING or current.attempt != job.attempt:
                return None
            account = account.drop_create(current.owner, now, paid=True).notify(
                "a create is left to you",
                f"Nobody knows whether the video service took {current.name}: "
                f"{why or problem.measured or 'no look at its list of tasks counted within an hour'}.\n\nThe job has "
                "ended as CreateAmbiguous. If a task of it is there, it is paid: look at the service's tasks of that "
                "time. The same files dropped again have the video made in any case.",
            )
            return current.fail(problem, now), account

        self._publish_changed(self._table.update_both(job.id, fail, tasks=tasks[:REMEMBERED_TASKS]))

    # ------------------------------------------------------------------ after a change
    def _publish_changed(self, changed: Changed | None) -> None:
        """Publish a change of a job and the account, and wake whom it concerns."""
        if changed is None:
            return
        if changed.account.notices:
            self._publish.operators()
        if changed.account.held(self._clock()) != changed.account_before.held(self._clock()):
            self._queue.send({"held": True})
        if changed.job.follow_up and not changed.job.at_provider:
            self._queue.send({"reconcile": changed.job.id})  # new files came while it was being sent
        self._publish.job(changed.job, self._publish.turn(changed.job, changed.account))


def _befalls_all(order: _Order, error: JobRefusedError, account: Account) -> bool:
    """Say whether a refusal is the stack's trouble though its code is a job's: no owner can mend it.

    The way to our own bucket, words that name no input of a job, and what other jobs in a row were just refused with.
    What the service says of a content is each job's own, however often.
    """
    if error.worth_one_more_try:
        return not order.has_links
    if not error.names_an_input:
        return True
    return not error.judges_content and account.is_refused_like_others(order.job.id, str(error))


class _Inputs(Protocol):
    """How a job's portrait and voice reach the service; the owner's own links are passed on as they are written."""

    def for_check(self, seconds: float) -> str:
        """Return a link to the portrait for the model of the check, within so many seconds."""

    def begin(self) -> None:
        """Do what can be done before a create's lease begins."""

    def for_create(self, seconds: float) -> tuple[str, str]:
        """Return links to portrait and voice for the model itself, within so many seconds."""


class _SignedLinks:
    """Presigned links, signed when first asked for, both at once."""

    def __init__(self, links: Links, order: _Order) -> None:
        self._links = links
        self._inputs = (order.portrait, order.voice)
        self._signed: list[str] = []

    def for_check(self, _seconds: float) -> str:
        return self._both()[0]

    def begin(self) -> None:
        self._both()

    def for_create(self, _seconds: float) -> tuple[str, str]:
        return self._both()

    def _both(self) -> tuple[str, str]:
        if not self._signed:
            ours = [_linked(file) for file in self._inputs if not file.link]
            signed = iter(self._links.sign(*ours)) if ours else iter(())
            self._signed = [file.link or next(signed) for file in self._inputs]
        image, audio = self._signed
        return image, audio


class _StoredCopies:
    """Copies in the service's temporary storage: each is bound to one model, so the check has a portrait of its own."""

    def __init__(self, storage: TemporaryStorage, order: _Order) -> None:
        self._storage = storage
        self._model = order.model
        self._portrait = order.portrait
        self._voice = order.voice

    def for_check(self, seconds: float) -> str:
        (image,) = self._stored(self._model.check_model, [self._portrait], seconds)
        return image

    def begin(self) -> None:
        """Nothing: files are uploaded inside the lease, one create at a time."""

    def for_create(self, seconds: float) -> tuple[str, str]:
        image, audio = self._stored(self._model.name, [self._portrait, self._voice], seconds)
        return image, audio

    def _stored(self, model: str, files: list[Portrait | Voice], seconds: float) -> list[str]:
        ours = [_linked(file) for file in files if not file.link]
        stored = iter(self._storage.put(model, *ours, seconds=seconds))
        return [file.link or next(stored) for file in files]


def _linked(file: Voice | Portrait) -> LinkedObject:
    """Return the object that is passed on: the upload's very version, or its asset."""
    if file.asset is not None:
        return LinkedObject(file.asset.key, NO_VERSION, file.asset.type, is_asset=True)
    return LinkedObject(
        file.key or "", file.version or NO_VERSION, CONTENT_TYPES[file.type or ""], etag=file.etag or ""
    )


def _check_keys(order: _Order) -> tuple[str, str]:
    """Return under what a passed and a refused check are remembered; "" for a link, whose content nobody knows.

    A pass by content, for fifty voices one check; a fault for that upload only, so that dropping it again tries again.
    """
    portrait, model = order.portrait, order.model
    if not portrait.sha256:
        return "", ""
    how = f"{model.check_model}#{order.settings.ratio if model.takes_boxes else ''}"
    content = portrait.asset.sha256 if portrait.asset else portrait.sha256
    return f"{content}#{how}", f"{short_hash(str(portrait.key))}#{portrait.version}#{portrait.etag}#{how}"
