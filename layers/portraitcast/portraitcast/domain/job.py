"""The job: one voice (or one JSON with a voice's link) that becomes one video; its states, and what is legal.

A job is frozen. It changes by its transitions, each of which checks that it is legal from the present status
(`TRANSITIONS`) and returns the job as it is then. What a job looks like stored is the adapter's affair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

from portraitcast.domain.models import DEFAULT, Boxes
from portraitcast.domain.problems import Problem  # noqa: TC001  # what is stored is read back by its fields' types
from portraitcast.domain.settings import Effective  # noqa: TC001  # as above
from portraitcast.domain.uploads import Asset  # noqa: TC001  # as above

TASK_LIFE_SECONDS: Final = 24 * 3600.0  # Model Studio, asynchronous tasks: a task's id and its links die after 24 h


class Status(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"  # something is missing, must be answered, is being read, or the folder isn't quiet yet
    QUEUED = "queued"
    CREATING = "creating"  # a create is open; shown as queued
    RENDERING = "rendering"
    DONE = "done"
    REJECTED = "rejected"  # the owner's to mend
    FAILED = "failed"  # ours or the provider's
    WITHDRAWN = "withdrawn"


AT_PROVIDER: Final = frozenset({Status.CREATING, Status.RENDERING})
_EVALUATED: Final = frozenset(
    {Status.WAITING, Status.QUEUED, Status.REJECTED, Status.WITHDRAWN, Status.DONE, Status.FAILED}
)

TRANSITIONS: Final[dict[str, tuple[frozenset[Status], Status]]] = {
    # what a job's files come to
    "wait": (_EVALUATED, Status.WAITING),
    "queue": (_EVALUATED, Status.QUEUED),
    "reject": (_EVALUATED | {Status.CREATING}, Status.REJECTED),
    "withdraw": (frozenset({Status.WAITING, Status.QUEUED, Status.REJECTED}), Status.WITHDRAWN),
    "confirm": (_EVALUATED, Status.DONE),  # the very video that is asked for is there already
    # the way through the provider
    "start_create": (frozenset({Status.QUEUED}), Status.CREATING),
    "requeue": (frozenset({Status.CREATING, Status.QUEUED}), Status.QUEUED),  # nothing was paid: back to its place
    "accept": (frozenset({Status.CREATING}), Status.RENDERING),
    "retry": (frozenset({Status.RENDERING}), Status.QUEUED),  # the task failed for a passing reason
    "deliver": (frozenset({Status.RENDERING}), Status.DONE),
    "fail": (frozenset({Status.CREATING, Status.RENDERING}), Status.FAILED),
    "take_up": (_EVALUATED, Status.RENDERING),  # the task of an aborted execution lives: monitor it again
}
"""Every legal transition: from which states, and to which."""


class IllegalTransitionError(Exception):
    """A transition that the job's status doesn't allow: a fault of ours, never of a file or of the provider."""

    def __init__(self, transition: str, job: Job) -> None:
        super().__init__(f"job {job.id} is {job.status} and can't {transition}")


def iso(epoch: float) -> str:
    """Return UTC time as ISO 8601 with milliseconds, of fixed width (it sorts)."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ---------------------------------------------------------------------- what a job is made of
@dataclass(frozen=True, slots=True)
class Voice:
    """A job's voice: an object of the upload bucket, or an http(s) link that we never fetch (`seconds` is None).

    `asset` is what is passed on in its place, `metadata` the object's own (S3 user metadata), None until it is read.
    """

    key: str | None = None
    version: str | None = None
    etag: str = ""
    link: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    seconds: float | None = None
    type: str | None = None
    changes: tuple[str, ...] = ()
    asset: Asset | None = None
    metadata: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Portrait:
    """A job's portrait: an object of the upload bucket, or a link; `asset` is what is passed on in its place.

    `chosen_by` is ``own_settings``, ``same_name``, ``folder_settings`` or ``only_image``.
    """

    chosen_by: str
    key: str | None = None
    version: str | None = None
    etag: str = ""
    link: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    type: str | None = None
    changes: tuple[str, ...] = ()
    asset: Asset | None = None

    @property
    def is_shared(self) -> bool:
        """Whether other jobs may use it too: a new one mends them all."""
        return self.chosen_by != "same_name" and self.link is None


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings JSON that a job was made with; no digest where it couldn't be read."""

    key: str
    version: str
    sha256: str | None
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a job is made from, as far as it is known.

    Attributes
    ----------
    stem
        The outputs' stem, in the bytes of the voice's key, else of the JSON's.
    own
        Tags of the job's own files in use (`Upload.tag`): an event about one of them is never another try.
    all_own
        Tags of all its voices and JSONs.
    folders
        Ids of the folders whose pictures or settings may still change this job.
    reference
        What the owner's own systems call the job; no part of what the video depends on.
    """

    stem: str
    voice: Voice | None = None
    portrait: Portrait | None = None
    settings_files: tuple[SettingsFile, ...] = ()
    settings: Effective | None = None
    own: tuple[str, ...] = ()
    all_own: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    reference: str | None = None

    @property
    def model(self) -> str:
        """The model's name, as requests carry it."""
        return self.settings.model if self.settings else DEFAULT


@dataclass(frozen=True, slots=True)
class Candidates:
    """Files of which one must be chosen: up to 20 keys, and how many there are."""

    keys: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class PortraitCheck:
    """A portrait check's answer: passed, with boxes for a model that takes them, or the problem."""

    boxes: Boxes | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A paid task at the provider; times in epoch seconds."""

    id: str
    sent_at: float
    expected_seconds: float = 0.0
    submit_time: float | None = None
    scheduled_time: float | None = None
    end_time: float | None = None

    def is_over(self, now: float) -> bool:
        """Say whether the task's life is over: its id and its links work no longer."""
        return now - self.sent_at > TASK_LIFE_SECONDS


@dataclass(frozen=True, slots=True)
class OrphanedTask:
    """A task whose execution was aborted by hand: it goes on, is paid, and keeps its slot until it has ended.

    Attributes
    ----------
    generation, attempt, fingerprint
        Of the job when the task was created: dropped again, the same files take the task up.
    made
        It has made its video; the task is remembered only for being taken up.
    """

    task: Task
    generation: int
    attempt: int
    fingerprint: str
    adopted: bool = False
    made: bool = False


@dataclass(frozen=True, slots=True)
class Video:
    """A delivered video as it lies in a bucket; `key` is the object's whole key."""

    key: str
    bytes: int
    seconds: float
    width: int
    height: int
    sha256: str
    bucket: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """A price that an operator approved, for the content that was shown: its fingerprint, and CNY."""

    fingerprint: str
    cny: float


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `version` is raised by every write, `revision` by every change that is published.

    Attributes
    ----------
    published, quiet
        The latest revision that was published; whether the latest change rewrites the report without an event.
    generation
        Raised when a new video is asked for after an end; each generation goes through all states.
    attempt, attempts
        Number of the current create, and of creates in all: names the slot's owner and the execution.
    execution
        Number of the current execution; never used twice, so that names of executions are new.
    used
        Tags of the job's own files that some generation has used.
    identity
        Which versions of which files the current state came from.
    fingerprint, done_fingerprint
        What the video depends on, by content: of this generation, and of the last delivered video.
    queue_key, place_key
        Sort key of the queue entry (time of becoming whole, then the id), None while there is no entry; and the same
        kept while the job is out of the queue, so that it comes back to its place.
    ready_at
        From when on the job may be sent: nothing of its own has arrived for PairSeconds.
    follow_up
        New files came while the job was at the provider: it is evaluated when it comes back.
    being_read
        A waiting job waits for prepare, which may have died of it: the sweep asks again.
    held
        Why queued jobs wait, as the report shows it: ``account``, ``budget`` or ``paused``.
    checked, boxes
        The portrait passed its check, and what was found in it.
    retried
        The one more try that a passing trouble of the provider's download is worth was made.
    adopted
        The task was found in the provider's list without its request id: its video must be as long as the voice.
    refused
        What to say of an upload that was refused and changed nothing else (a second voice after the job was sent).
    approval
        The latest price that an operator approved.
    check_cost, video_cost, paid_before
        Fees of this generation's portrait checks and of its video, and of all earlier generations (CNY).
    """

    id: str
    name: str
    folder: str
    created_at: float
    inputs: Inputs
    status: Status = Status.WAITING
    version: int = 0
    revision: int = 0
    published: int = 0
    quiet: bool = False
    generation: int = 1
    attempt: int = 0
    attempts: int = 0
    execution: int = 0
    tries: int = 0
    retried: bool = False
    follow_up: bool = False
    being_read: bool = False
    reading_in: tuple[str, ...] = ()
    message: str = ""
    problems: tuple[Problem, ...] = ()
    refused: Problem | None = None
    candidates: Candidates | None = None
    used: tuple[str, ...] = ()
    identity: str = ""
    fingerprint: str = ""
    done_fingerprint: str = ""
    queue_key: str | None = None
    place_key: str | None = None
    ready_at: float = 0.0
    held: str | None = None
    open_folders: tuple[str, ...] = ()
    check_cost: float = 0.0
    checked: bool = False
    boxes: Boxes | None = None
    task: Task | None = None
    adopted: bool = False
    orphans: tuple[OrphanedTask, ...] = ()
    video: Video | None = None
    video_cost: float | None = None
    paid_before: float = 0.0
    approval: Approval | None = None
    asked_again_at: float | None = None
    changed_at: float = 0.0
    report_etag: str | None = None

    # ------------------------------------------------------------------ what follows from it
    @property
    def unpublished(self) -> bool:
        """Whether a change has not been published yet."""
        return self.published < self.revision

    @property
    def at_provider(self) -> bool:
        """Whether a create is open or a task runs."""
        return self.status in AT_PROVIDER

    @property
    def shown_status(self) -> Status:
        """The status that people see."""
        return Status.QUEUED if self.status is Status.CREATING else self.status

    @property
    def owner(self) -> str:
        """The slot's owner: this job in this attempt."""
        return owner_of(self.id, self.attempt)

    @property
    def execution_name(self) -> str:
        """Name of the current execution: at most 80 of A-Z a-z 0-9 - _ (AWS Step Functions, "Quotas")."""
        return f"{self.id}-{self.attempt}-{self.execution}"

    @property
    def video_mark(self) -> str:
        """What the video's metadata says of its origin: job, generation, attempt."""
        return f"{self.id}-{self.generation}-{self.attempt}"

    @property
    def stem(self) -> str:
        """The outputs' stem."""
        return self.inputs.stem

    @property
    def report_key(self) -> str:
        """Key of the report in the results bucket."""
        return self.stem + ".json"

    @property
    def video_key(self) -> str:
        """Key of the video in the results bucket."""
        return self.stem + ".mp4"

    @property
    def voice_seconds(self) -> float | None:
        """The voice's length; None for a link, which nobody has measured."""
        return self.inputs.voice.seconds if self.inputs.voice else None

    @property
    def ratio(self) -> str:
        """The effective ratio."""
        return self.inputs.settings.ratio if self.inputs.settings else "1:1"

    @property
    def cost(self) -> float:
        """What this generation has cost so far, CNY."""
        return round(self.check_cost + (self.video_cost or 0.0), 6)

    @property
    def evaluated_with(self) -> frozenset[str]:
        """Ids of the folders whose re-evaluation is also this job's."""
        return frozenset(self.open_folders + (self.reading_in if self.being_read else ()))

    @property
    def needs_attention(self) -> bool:
        """Whether the sweep must look at it."""
        return self.unpublished or self.at_provider or self.follow_up or self.being_read or bool(self.orphans)

    @property
    def awaits_approval(self) -> bool:
        """Whether it waits for somebody to approve its price."""
        return self.status is Status.WAITING and any(p.code == "ApprovalNeeded" for p in self.problems)

    def approved(self, fingerprint: str) -> float:
        """Return the price that was approved for this content, CNY."""
        return self.approval.cny if self.approval and self.approval.fingerprint == fingerprint else 0.0

    def can(self, transition: str) -> bool:
        """Say whether a transition is legal now."""
        return self.status in TRANSITIONS[transition][0]

    def orphan_of(self, fingerprint: str, now: float) -> OrphanedTask | None:
        """Return the living orphaned task that makes, or has made, the video of this content; the newest of several."""
        living = [o for o in self.orphans if o.fingerprint == fingerprint and not o.task.is_over(now)]
        return living[-1] if living else None

    # ------------------------------------------------------------------ what its files come to
    @classmethod
    def new(cls, job_id: str, name: str, folder: str, inputs: Inputs, now: float) -> Self:
        """Return a job that was not there before."""
        return cls(id=job_id, name=name, folder=folder, created_at=now, inputs=inputs)

    def wait(self, inputs: Inputs, identity: str, now: float, **shown: Any) -> Self:
        """Wait for files, an answer or quiet; `shown` is ``problems``, ``message``, ``candidates``, ``being_read``.

        While new bytes of its files are read, a job keeps its place in the queue.
        """
        place = self.place_key if shown.get("being_read") else None
        return self._evaluated("wait", inputs, identity, "", now, open_folders=inputs.folders, place_key=place, **shown)

    def approve(self, fingerprint: str, cny: float) -> Self:
        """Note that a price was approved for this content; whether the job may go on shows when it is evaluated."""
        return replace(self, approval=Approval(fingerprint, cny))

    def await_reading(self, folders: tuple[str, ...]) -> Self:
        """Stay at its end while new bytes of its files, or of a picture of these folders, are read."""
        return replace(self, being_read=True, reading_in=folders)

    def queue(
        self, inputs: Inputs, identity: str, fingerprint: str, now: float, *, ready_at: float, held: str | None = None
    ) -> Self:
        """Stand in the queue, at the place that the job had or the one of `ready_at`; `held` says why it waits."""
        place = self._place(ready_at)
        return self._evaluated(
            "queue",
            inputs,
            identity,
            fingerprint,
            now,
            open_folders=inputs.folders,
            ready_at=ready_at,
            queue_key=place,
            place_key=place,
            held=held,
        )

    def reject(self, inputs: Inputs, identity: str, problems: tuple[Problem, ...], now: float, *, shared: bool) -> Self:
        """Be rejected for what its files or settings are; `shared` if a file of other jobs too is to be mended."""
        return self._evaluated(
            "reject",
            inputs,
            identity,
            "",
            now,
            problems=problems,
            open_folders=inputs.folders if shared else (),
        )

    def withdraw(self, now: float) -> Self:
        """Its voice was deleted before the job was sent."""
        return self._out_of_queue()._to("withdraw", now, problems=(), candidates=None, message="", identity="")

    def confirm(self, inputs: Inputs, identity: str, fingerprint: str, now: float) -> Self:
        """Same bytes and settings as the video that is there: nothing is made or paid.

        Without an event where nothing else is new; asked for under another reference, the owner's systems are told.
        """
        return self._out_of_queue()._to(
            "confirm",
            now,
            inputs=self._with_my_stem(inputs),
            quiet=self.status is Status.DONE and _labels(inputs) == _labels(self.inputs),
            identity=identity,
            fingerprint=fingerprint,
            used=inputs.own,
            problems=(),
            candidates=None,
            message="",
            follow_up=False,
            asked_again_at=now,
        )

    def next_generation(self) -> Self:
        """Return the job at the beginning of a new video; an orphaned task keeps its slot until it has ended."""
        return replace(
            self,
            generation=self.generation + 1,
            task=None,
            checked=False,
            boxes=None,
            video_cost=None,
            asked_again_at=None,
            check_cost=0.0,
            retried=False,
            adopted=False,
            follow_up=False,
            place_key=None,
            paid_before=round(self.paid_before + self.cost, 6),
            approval=self.approval if self.video_cost is None else None,  # one order, one paid video
        )

    def want_follow_up(self) -> Self:
        """Note that new files came while the job is at the provider: the paid video is delivered first."""
        return replace(self, follow_up=True)

    def end_follow_up(self) -> Self:
        """Note that new files which came meanwhile have been looked at, and change nothing."""
        return replace(self, follow_up=False, being_read=False)

    def refuse_upload(self, problem: Problem, now: float) -> Self:
        """Say of an upload that it was refused; nothing else changes."""
        return self._published_anew(now, refused=problem)

    # ------------------------------------------------------------------ the way through the provider
    def pass_check(self, boxes: Boxes | None, fee: float = 0.0) -> Self:
        """The portrait passed its check; keep the boxes, and count what the check cost (CNY)."""
        return replace(self, checked=True, boxes=boxes, check_cost=round(self.check_cost + fee, 6))

    def pay_check(self, fee: float) -> Self:
        """Count what a check cost (CNY) that the portrait did not pass."""
        return replace(self, check_cost=round(self.check_cost + fee, 6))

    def use_retry(self) -> Self:
        """Use up the one more try."""
        return replace(self, retried=True)

    def start_create(self) -> Self:
        """Leave the queue: a create is open from now on, under a number of its own."""
        return self._quietly(
            "start_create", attempt=self.attempts + 1, attempts=self.attempts + 1, queue_key=None, open_folders=()
        )

    def requeue(self, now: float, *, held: str | None, home: tuple[str, ...]) -> Self:
        """Go back to its place; nothing was paid. `home` are the folders that may change the job again."""
        back = self._quietly("requeue", queue_key=self.place_key, open_folders=home)
        return back if back.held == held else back._published_anew(now, held=held)

    def refuse(self, problem: Problem, now: float, *, home: tuple[str, ...] = ()) -> Self:
        """Be rejected by the provider's word; `home` are the folders where a shared portrait may be mended."""
        return self._out_of_queue()._to("reject", now, problems=(problem,), message="", open_folders=home)

    def accept(self, task: Task, now: float, *, adopted: bool) -> Self:
        """The task is made, and paid."""
        return self._to(
            "accept",
            now,
            task=task,
            adopted=adopted,
            execution=self.execution + 1,
            tries=self.tries + 1,
            held=None,
            problems=(),
        )

    def next_execution(self) -> Self:
        """Have the task monitored by another execution."""
        return replace(self, execution=self.execution + 1)

    def retry(self, now: float, *, home: tuple[str, ...]) -> Self:
        """The task failed for a passing reason: one more create, from the same place."""
        place = self._place(self.ready_at)  # a task that was taken up has left its place
        return self._to("retry", now, retried=True, task=None, queue_key=place, place_key=place, open_folders=home)

    def deliver(self, video: Video, task: Task, cost: float, now: float) -> Self:
        """The video lies in the results bucket."""
        return self._to(
            "deliver",
            now,
            problems=(),
            task=task,
            video=video,
            video_cost=cost,
            done_fingerprint=self.fingerprint,
        )

    def fail(self, problem: Problem, now: float, *, task: Task | None = None) -> Self:
        """End without a video; `task` with the times that the provider told, where there is one."""
        return self._out_of_queue()._to("fail", now, problems=(problem,), message="", task=task or self.task)

    def orphan_task(self) -> Self:
        """Keep the task of an aborted execution in mind: it goes on, and is paid."""
        if self.task is None:
            raise IllegalTransitionError("orphan_task", self)
        orphan = OrphanedTask(self.task, self.generation, self.attempt, self.fingerprint, adopted=self.adopted)
        return replace(self, orphans=(*self.orphans, orphan))

    def with_orphan(self, attempt: int, orphan: OrphanedTask | None) -> Self:
        """Replace, or forget, the orphaned task of an attempt."""
        kept = [o if o.attempt != attempt else orphan for o in self.orphans]
        return replace(self, orphans=tuple(o for o in kept if o is not None))

    def take_up(self, orphan: OrphanedTask, inputs: Inputs, identity: str, now: float) -> Self:
        """Monitor the task of an aborted execution again instead of paying for another."""
        same = orphan.attempt == self.attempt and self.status is Status.FAILED
        job = self if same else self.next_generation()
        return job._out_of_queue()._to(
            "take_up",
            now,
            inputs=self._with_my_stem(inputs),
            identity=identity,
            fingerprint=orphan.fingerprint,
            used=inputs.own,
            problems=(),
            candidates=None,
            message="",
            follow_up=False,
            task=orphan.task,
            attempt=orphan.attempt,
            adopted=orphan.adopted,
            video_cost=None,
            execution=self.execution + 1,
            orphans=tuple(o for o in self.orphans if o != orphan),
        )

    # ------------------------------------------------------------------ showing and publishing
    def show_held(self, held: str | None, now: float) -> Self:
        """Show why queued jobs wait, or that they no longer do."""
        return self if self.held == held else self._published_anew(now, held=held)

    def mark_published(self, etag: str | None) -> Self:
        """Note that the latest revision was published."""
        return replace(self, published=self.revision, report_etag=etag)

    # ------------------------------------------------------------------ how a change is made
    def _out_of_queue(self) -> Self:
        """Return the job without its place in the queue; no folder may change it then."""
        return replace(self, queue_key=None, place_key=None, held=None, being_read=False, open_folders=())

    def _place(self, ready_at: float) -> str:
        """Return the sort key of the queue entry: the job's own place, else the one of `ready_at`."""
        return self.place_key or f"{iso(ready_at)}#{self.id}"

    def _with_my_stem(self, inputs: Inputs) -> Inputs:
        """Keep the first stem: a job has one report, whichever Unicode form of its name came later."""
        return inputs if self.revision == 0 else replace(inputs, stem=self.stem)

    def _evaluated(
        self, transition: str, inputs: Inputs, identity: str, fingerprint: str, now: float, **fields: Any
    ) -> Self:
        blank = replace(self._out_of_queue(), message="", problems=(), candidates=None)
        same = bool(fingerprint) and fingerprint == self.fingerprint
        changed = blank._quietly(
            transition,
            inputs=self._with_my_stem(inputs),
            identity=identity,
            fingerprint=fingerprint,
            used=inputs.own,
            follow_up=False,
            # A check is of one picture, for one model and ratio.
            checked=self.checked and same,
            boxes=self.boxes if same else None,
            **fields,
        )
        return changed if self.revision and changed._shown == self._shown else changed._published_anew(now)

    @property
    def _shown(self) -> tuple[object, ...]:
        inputs = self.inputs
        return (
            *(self.status, self.problems, self.message, self.candidates, self.held),
            *(inputs.voice, inputs.portrait, inputs.settings_files, inputs.settings, inputs.reference),
        )

    def _quietly(self, transition: str, **fields: Any) -> Self:
        """Go over to another status; nothing is published of it."""
        froms, to = TRANSITIONS[transition]
        if self.status not in froms:
            raise IllegalTransitionError(transition, self)
        return replace(self, status=to, **fields)

    def _to(self, transition: str, now: float, *, quiet: bool = False, **fields: Any) -> Self:
        return self._quietly(transition, **fields)._published_anew(now, quiet=quiet)

    def _published_anew(self, now: float, *, quiet: bool = False, **fields: Any) -> Self:
        """Raise the revision: a change to publish; `quiet` rewrites the report without an event."""
        # What nobody has read yet of a refused upload stays until it is published.
        fields.setdefault("refused", self.refused if self.unpublished else None)
        return replace(self, revision=self.revision + 1, changed_at=now, quiet=quiet and not self.unpublished, **fields)


def _labels(inputs: Inputs) -> tuple[object, ...]:
    """Return what the owner's systems know the job by."""
    return inputs.reference, inputs.voice.metadata if inputs.voice else None


def owner_of(job: str, attempt: int) -> str:
    """Return the name under which a job holds a slot in an attempt."""
    return f"{job}#{attempt}"
