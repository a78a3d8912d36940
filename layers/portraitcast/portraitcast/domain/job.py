"""The job: one voice (or one JSON with a voice's link) that becomes one video; and the file as the table knows it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

WAITING: Final = "waiting"  # something is missing or must be answered, or the folder hasn't settled
QUEUED: Final = "queued"
SUBMITTING: Final = "submitting"  # a create is open; shown as queued
RENDERING: Final = "rendering"
DONE: Final = "done"
REJECTED: Final = "rejected"  # the owner's to mend
FAILED: Final = "failed"  # ours or the provider's
WITHDRAWN: Final = "withdrawn"

AT_PROVIDER: Final = frozenset({SUBMITTING, RENDERING})
TOLD_BY_SNS: Final = frozenset({DONE, REJECTED, FAILED})


def iso(epoch: float | None) -> str | None:
    """Return UTC time as ISO 8601 with milliseconds, of fixed width (it sorts), or None for None."""
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def known_fields(kind: type, stored: dict[str, Any]) -> dict[str, Any]:
    """Return what this version of the code knows of a stored item.

    While a stack is updated, and after it was rolled back, a table holds what another version has written.
    """
    return {f.name: stored[f.name] for f in fields(kind) if f.name in stored}


@dataclass(slots=True)
class File:
    """A file of the upload bucket as the table knows it.

    Attributes
    ----------
    key, version, bytes
        The object's current version.
    sequencer
        S3's order of events of one key, "" when the file was found without an event.
    noticed_at
        When we noticed this version (epoch seconds): with a backlog this is the time that counts for settling.
    gone
        Deleted; kept a while so that an older event, delivered late, doesn't bring it back.
    text
        The content of a settings JSON, None for media.
    facts
        What probing this version found: ``{"sha256", "type", "seconds" | "width"+"height"}`` or ``{"problem": {...}}``.
    refused
        A second voice of a job that was already sent: told once, then left alone.
    """

    key: str
    version: str
    bytes: int
    noticed_at: float
    sequencer: str = ""
    gone: bool = False
    text: str | None = None
    facts: dict[str, Any] | None = None
    refused: bool = False

    @property
    def tag(self) -> str:
        """Key and version: what tells one upload from another."""
        return f"{self.key}\n{self.version}"


@dataclass(slots=True)
class Job:
    """A job as the table holds it. `version` is raised by every write, `revision` by every change that is told.

    Attributes
    ----------
    take
        Raised when a new video is asked for after an end; each take goes through all states.
    attempt
        Raised by every create; names the slot's owner and the execution.
    watch
        Number of the current execution of this attempt.
    seen
        Tags of the job's own files that some take has used: an event about them is never another try.
    identity
        Which versions of which files the current state came from.
    fingerprint, done_fingerprint
        What the video depends on, by content: of this take, and of the last delivered one.
    queue_key, place_key
        Sort key of the queue entry (time of becoming whole, then the id), None while there is no entry; and the same
        kept while the job is out of the queue, so that it comes back to its place.
    ready_at
        From when on the job may be sent: nothing of its own has arrived for PairSeconds.
    look_in
        Folder ids whose pictures or settings.json may still change this job.
    stored_queue_key, stored_look_in
        What the table holds of the two, so that a write knows which entries to move; not part of the item.
    """

    id: str
    name: str
    folder: str
    stem: str
    created_at: float
    status: str = WAITING
    version: int = 0
    revision: int = 0
    told: int = 0
    quiet: bool = False
    take: int = 1
    attempt: int = 0
    watch: int = 0
    tries: int = 0
    retried: bool = False
    follow_up: bool = False
    message: str = ""
    problem: dict[str, Any] | None = None
    candidates: dict[str, Any] | None = None
    seen: list[str] = field(default_factory=list)
    identity: str = ""
    fingerprint: str = ""
    done_fingerprint: str = ""
    voice: dict[str, Any] | None = None
    portrait: dict[str, Any] | None = None
    settings_files: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] | None = None
    queue_key: str | None = None
    place_key: str | None = None
    ready_at: float = 0.0
    held: str | None = None
    look_in: list[str] = field(default_factory=list)
    checks_paid: int = 0
    boxes: dict[str, list[int]] | None = None
    task: dict[str, Any] | None = None
    task_sent_at: float | None = None
    execution_input: dict[str, Any] | None = None
    adopted: bool = False
    lingering: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    video_cost: float | None = None
    asked_again_at: float | None = None
    changed_at: float = 0.0
    report_etag: str | None = None
    stored_queue_key: str | None = None
    stored_look_in: list[str] = field(default_factory=list)

    @property
    def untold(self) -> bool:
        """Whether a change has not been told yet."""
        return self.told < self.revision

    @property
    def shown_status(self) -> str:
        """The status that people see."""
        return QUEUED if self.status == SUBMITTING else self.status

    @property
    def owner(self) -> str:
        """The slot's owner: this job in this attempt."""
        return owner_of(self.id, self.attempt)

    @property
    def report_key(self) -> str:
        """Key of the report in the results bucket."""
        return self.stem + ".json"

    @property
    def video_key(self) -> str:
        """Key of the video in the results bucket."""
        return self.stem + ".mp4"

    def change(self, now: float, *, quiet: bool = False) -> None:
        """Mark a change that must be told; `quiet` rewrites the report without an event."""
        self.quiet = quiet and not self.untold
        self.revision += 1
        self.changed_at = now

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of the item as plain values."""
        stored = asdict(self)
        del stored["stored_queue_key"], stored["stored_look_in"]
        return stored

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Job:
        """Make one from `as_dict`'s answer, as it is stored."""
        known = known_fields(cls, stored)
        return cls(**known, stored_queue_key=stored["queue_key"], stored_look_in=list(stored["look_in"]))


def owner_of(job: str, attempt: int) -> str:
    """Return the name under which a job holds a slot in an attempt."""
    return f"{job}#{attempt}"


def execution_name(job: Job) -> str:
    """Return the name of the job's current execution: at most 80 of A-Z a-z 0-9 - _ (Step Functions' quota)."""
    return f"{job.id}-{job.attempt}-{job.watch}"
