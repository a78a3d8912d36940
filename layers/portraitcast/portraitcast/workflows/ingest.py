"""Intake: what was dropped or deleted becomes files in the table, and files become jobs.

A file's own item is written first, then its partners are read consistently: of two files that belong together and
arrive at once, at least one sees the other.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from portraitcast.media.checks import check_portrait, check_portrait_bytes, check_voice, check_voice_bytes
from portraitcast.errors import ConflictError, NotFoundError, Problem, RefusalError, TryLaterError
from portraitcast.domain.job import (
    AT_PROVIDER,
    DONE,
    FAILED,
    QUEUED,
    REJECTED,
    RENDERING,
    WAITING,
    WITHDRAWN,
    File,
    Job,
    iso,
)
from portraitcast.domain.limits import LIST_MAX, SETTINGS_MAX_BYTES
from portraitcast.domain.uploads import Kind, Name, classify, same_key, short_hash
from portraitcast.domain.matching import WITHDRAWN_OR_NOTHING, Decision, Gathered, Pictures, decide
from portraitcast.domain.report import build_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.buckets import Results, Uploads
    from portraitcast.adapters.queues import Queue
    from portraitcast.adapters.jobs_table import Folder, Table
    from portraitcast.workflows.publish import Teller

TRIES: Final = 30  # of a compare-and-swap; each round somebody else has got on
WALK_PAGE: Final = 20  # jobs a message of a walk over a folder
SCAN_PAGE: Final = 50  # keys a message of a scan
TELLING_SECONDS: Final = 60.0  # after a change; who has not told by then has died


class Intake:
    """Takes in what lies in the upload bucket and decides about its jobs."""

    def __init__(
        self,
        table: Table,
        uploads: Uploads,
        results: Results,
        queue: Queue,
        teller: Teller,
        *,
        pair_seconds: float,
        settle_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._uploads = uploads
        self._results = results
        self._queue = queue
        self._teller = teller
        self._pair_seconds = pair_seconds
        self._settle_seconds = settle_seconds
        self._clock = clock

    # ------------------------------------------------------------------ arrivals
    def arrive(
        self,
        key: str,
        *,
        version: str | None = None,
        size: int | None = None,
        sequencer: str = "",
        removed: bool = False,
    ) -> None:
        """Take in what an event says of a key: a new version, or a deletion.

        Without a version (a scan, a deletion: an old version may have been deleted) the bucket itself is asked.
        """
        name = classify(key)
        if name is None:
            return
        file = self._file(name, version, size, sequencer, removed=removed)
        in_folder = name.kind.is_picture or name.kind is Kind.FOLDER_SETTINGS
        if in_folder:
            self._table.note_change(short_hash(name.folder), pictures=name.kind.is_picture, now=self._clock())
        self._table.put_file(name, file)
        if name.kind is not Kind.FOLDER_SETTINGS:
            self.evaluate(name.job, name)
        if in_folder:  # also when it was known: the function that took it in may have died before this line
            self._walk_soon(name)

    def _file(self, name: Name, version: str | None, size: int | None, sequencer: str, *, removed: bool) -> File:
        now = self._clock()
        if version is None or size is None or removed:
            there = self._uploads.head(name.key)
            if there is None:
                return File(name.key, "", 0, now, sequencer, gone=True)
            version, size = there.version, there.bytes
        file = File(name.key, version, size, now, sequencer)
        if name.kind in {Kind.JOB_SETTINGS, Kind.FOLDER_SETTINGS}:
            try:
                file.text = self._text(name.key, version)
            except NotFoundError:
                file.gone = True
        return file

    def _text(self, key: str, version: str) -> str | None:
        data = self._uploads.read(key, version, SETTINGS_MAX_BYTES)
        if len(data) > SETTINGS_MAX_BYTES:
            return None
        try:
            return data.decode()
        except UnicodeDecodeError:
            return None

    def scan(self, prefix: str, after: str | None) -> None:
        """Take in what lay in the bucket before the stack did, page by page."""
        keys = self._uploads.page(prefix, after, SCAN_PAGE)
        for key in keys:
            self.arrive(key)
        if len(keys) == SCAN_PAGE:
            self._queue.send({"scan": prefix, "after": keys[-1]})

    # ------------------------------------------------------------------ a folder's jobs
    def _walk_soon(self, name: Name) -> None:
        folder = short_hash(name.folder)
        if set(self._table.open_in(folder, None, 2)[0]) <= {name.job}:
            return  # nobody but the job of the picture's own name, which has just been decided about
        self._walk_at(folder, self._clock() + (self._settle_seconds if name.kind.is_picture else self._pair_seconds))

    def _walk_at(self, folder: str, due: float) -> None:
        """See that a walk over the folder's jobs comes then; one on its way already is enough."""
        now = self._clock()
        if self._table.begin_walk(folder, due=due, now=now):
            self._queue.send({"folder": folder}, after=due - now)

    def walk(self, folder: str, cursor: str | None) -> None:
        """Decide anew about the jobs that a folder's pictures or settings may still change, a page a message."""
        if cursor is None:
            now = self._clock()
            rest = self._table.folder(folder).images_at + self._settle_seconds - now
            if rest > 0:
                self._table.postpone_walk(folder, now + rest)
                self._queue.send({"folder": folder}, after=rest)
                return
            self._table.end_walk(folder)
        jobs, more = self._table.open_in(folder, cursor, WALK_PAGE)
        for job in jobs:
            self.evaluate(job)
        if more:
            self._queue.send({"folder": folder, "cursor": more})

    # ------------------------------------------------------------------ one job
    def evaluate(self, job_id: str, name: Name | None = None) -> Job | None:
        """Decide about a job from what is there now, write it if that changes it, and tell it.

        Returns the job as it is now, or None when the files make none.
        """
        for _ in range(TRIES):
            job, sounds, jsons = self._table.job_and_files(job_id)
            revision = job.revision if job else 0
            about = name or (classify(job.stem + ".json") if job else None)
            if about is None or (job is None and not sounds and not jsons):
                return None
            sounds = self._without_second_voices(job, [f for f in sounds if not f.refused])
            reader = _Reader(self._table, self._uploads, about, self.facts, self._clock())
            try:
                decision = decide(self._gather(about, sounds, jsons, reader), reader)
                job = self._apply(about, job, decision)
            except ConflictError:
                continue
            except NotFoundError:
                self._look_again(reader.last)
                continue
            if job is None:
                return None
            if job.revision != revision or self._clock() - job.changed_at > TELLING_SECONDS:
                self._teller.tell(job)  # whoever else changed it a moment ago is telling it
            if job.status == WAITING and reader.changed_since():
                continue
            if job.status == WAITING and decision.ready_at is not None:
                self._walk_at(short_hash(about.folder), decision.ready_at)
            return job
        raise TryLaterError(f"job {job_id} is being changed by too many at once")

    def _look_again(self, file: File | None) -> None:
        """A version vanished while it was read: the bucket says what is there now."""
        if file is not None and (name := classify(file.key)):
            self._table.put_file(name, self._file(name, None, None, "", removed=False))

    def _gather(self, name: Name, sounds: list[File], jsons: list[File], reader: _Reader) -> Gathered:
        folder = reader.folder(short_hash(name.folder))
        return Gathered(
            name=name,
            sounds=sounds,
            jsons=jsons,
            folder_settings=folder.settings or [],
            images_at=folder.images_at,
            settings_at=folder.settings_at,
            now=self._clock(),
            pair_seconds=self._pair_seconds,
            settle_seconds=self._settle_seconds,
        )

    def _without_second_voices(self, job: Job | None, sounds: list[File]) -> list[File]:
        """Refuse, by notice, a second voice of a job that was sent; it changes nothing."""
        if job is None or job.status not in {*AT_PROVIDER, DONE, FAILED} or job.voice is None:
            return sounds
        keys = [f.key for f in sounds]
        if job.voice["key"] not in keys:
            return sounds
        kept = []
        for file in sounds:
            name = classify(file.key)
            if file.key == job.voice["key"] or name is None or name.kind is not Kind.VOICE:
                kept.append(file)
                continue
            self._refuse_second_voice(job, file)
            file.refused = True
            self._table.update_file(name, file)
        return kept

    def _refuse_second_voice(self, job: Job, file: File) -> None:
        """Send a notice with a revision of its own, so that it can be told apart; the report stays as it is."""
        assert job.voice is not None  # noqa: S101  # the caller has looked
        problem = Problem(
            "JobAmbiguous",
            f"{file.key} was refused: {job.voice['key']} of the same name was sent already.",
            "Give the second voice another name, or delete the first one and drop the second again.",
        )
        shown = Job.from_dict(job.as_dict())
        shown.status, shown.problem = REJECTED, problem.as_dict()
        job.told += not job.untold
        job.revision += 1
        shown.revision = job.revision
        self._table.commit(job=job)
        self._teller.publish(shown, build_report(shown, now=self._clock()))

    def _apply(self, name: Name, job: Job | None, decision: Decision) -> Job | None:
        now = self._clock()
        nothing = decision.status == WITHDRAWN_OR_NOTHING
        if job is None:
            if nothing:
                return None
            job = Job(name.job, name.name, name.folder, decision.stem, created_at=now, status="")
            return self._set(job, decision, now)
        if job.status in AT_PROVIDER | {DONE, FAILED}:
            fresh = not nothing and bool(set(decision.own) - set(job.seen))
            return self._again(job, decision, now) if fresh else job
        if nothing:
            return self._withdraw(job, now)
        if job.status == REJECTED and decision.identity == job.identity:
            return job  # a repeated event is never another try
        if self._made_already(job, decision):
            return self._asked_again(job, decision, now)
        return self._set(job, decision, now)

    def _again(self, job: Job, decision: Decision, now: float) -> Job:
        """Own files have come anew for a job that was sent."""
        if job.status in AT_PROVIDER:
            if not job.follow_up:
                job.follow_up = True  # the paid video is delivered first; deliver then asks for another look
                self._table.commit(job=job)
            return job
        if self._made_already(job, decision):
            return self._asked_again(job, decision, now)
        same = decision.status == QUEUED and decision.fingerprint == job.fingerprint
        living = job.lingering and job.lingering["attempt"] == job.attempt and now < job.lingering["until"]
        if same and living:
            return self._take_up(job, decision, now)
        job.take += 1
        job.task = job.execution_input = job.task_sent_at = job.asked_again_at = job.boxes = job.video_cost = None
        job.checks_paid, job.retried, job.adopted, job.follow_up, job.place_key = 0, False, False, False, None
        return self._set(job, decision, now)  # a task that lingers keeps its slot until it has ended

    def _made_already(self, job: Job, decision: Decision) -> bool:
        """Whether the very video that is asked for has been delivered and is still there."""
        same = decision.status == QUEUED and decision.fingerprint == job.done_fingerprint
        return same and self._results.metadata(job.video_key) is not None

    def _asked_again(self, job: Job, decision: Decision, now: float) -> Job:
        """Same bytes and settings as the video that is there: nothing is made or paid."""
        quiet = job.status == DONE
        job.status, job.problem, job.candidates, job.message, job.follow_up = DONE, None, None, "", False
        job.voice, job.portrait, job.settings_files = decision.voice, decision.portrait, decision.settings_files
        job.settings, job.fingerprint = decision.settings, decision.fingerprint
        job.seen, job.identity, job.asked_again_at = decision.own, decision.identity, now
        job.queue_key, job.place_key, job.held, job.look_in = None, None, None, []
        job.change(now, quiet=quiet)
        self._table.commit(job=job)
        return job

    def _take_up(self, job: Job, decision: Decision, now: float) -> Job:
        """The task of an execution aborted by hand still lives: watch it instead of paying for another."""
        job.status, job.problem, job.message = RENDERING, None, ""
        job.seen, job.identity, job.follow_up, job.lingering = decision.own, decision.identity, False, None
        job.watch += 1
        job.change(now)
        self._table.commit(job=job)
        self._queue.send({"watch": job.id, "attempt": job.attempt})
        return job

    def _withdraw(self, job: Job, now: float) -> Job:
        if job.status == WITHDRAWN:
            return job
        job.status, job.problem, job.candidates, job.message = WITHDRAWN, None, None, ""
        job.queue_key, job.place_key, job.look_in, job.identity, job.held = None, None, [], "", None
        job.change(now)
        self._table.commit(job=job)
        return job

    def _set(self, job: Job, decision: Decision, now: float) -> Job:
        before, shown_before = job.as_dict(), _shown(job)
        if decision.fingerprint != job.fingerprint:
            job.boxes = None  # they were found in another picture, or for another ratio
        job.status, job.follow_up = decision.status, False
        job.identity, job.fingerprint, job.seen = decision.identity, decision.fingerprint, decision.own
        job.voice, job.portrait, job.settings_files = decision.voice, decision.portrait, decision.settings_files
        job.settings, job.candidates, job.message = decision.settings, decision.candidates, decision.message
        job.problem = decision.problem.as_dict() if decision.problem else None
        if job.video is None:
            job.stem = decision.stem
        changeable = decision.status in {WAITING, QUEUED} or decision.shared
        job.look_in = sorted(decision.look_in) if changeable else []
        if decision.status == QUEUED:
            job.ready_at = decision.ready_at or now
            job.place_key = job.queue_key = job.place_key or f"{iso(job.ready_at)}#{job.id}"
            if job.queue_key != job.stored_queue_key:
                job.held = self._table.slots().holds_jobs(now)
        else:
            job.queue_key = job.place_key = job.held = None
        if _shown(job) != shown_before:
            job.change(now)
        if job.as_dict() != before:
            self._table.commit(job=job)
        return job

    # ------------------------------------------------------------------ facts of a file
    def facts(self, file: File) -> dict[str, Any]:
        """Return what probing a file found, from the table or by probing it now. Raises `NotFoundError`."""
        if file.facts is None:
            file.facts = self._probe(file)
            name = classify(file.key)
            if name is not None:
                self._table.update_file(name, file)
        return file.facts

    def _probe(self, file: File) -> dict[str, Any]:
        name = classify(file.key)
        sound = name is not None and name.kind.is_sound
        facts: dict[str, Any] = {}
        try:
            (check_voice_bytes if sound else check_portrait_bytes)(file.bytes, file.key)
            with self._uploads.download(file.key, file.version) as (data, digest):
                facts["sha256"] = digest
                if sound:
                    voice = check_voice(data, file.key)
                    return {**facts, "seconds": round(voice.seconds, 3), "type": voice.type}
                picture = check_portrait(data, file.key)
                return {**facts, "width": picture.width, "height": picture.height, "type": picture.type}
        except RefusalError as refusal:
            return {**facts, "problem": asdict(refusal.problem)}


class _Reader:
    """What `decide` asks, read from the table and the bucket; remembers what it has read."""

    def __init__(
        self, table: Table, uploads: Uploads, name: Name, facts: Callable[[File], dict[str, Any]], now: float
    ) -> None:
        self._table = table
        self._uploads = uploads
        self._name = name
        self._facts = facts
        self._now = now
        self._changes: dict[str, str] = {}
        self._same_name: list[File] | None = None
        self.last: File | None = None

    def folder(self, folder: str) -> Folder:
        """Read a folder's state and remember which state it was."""
        state = self._table.folder(folder)
        self._changes[folder] = state.changed
        return state

    def same_name(self) -> list[File]:
        if self._same_name is None:
            self._same_name = self._table.same_name_images(short_hash(self._name.folder), self._name.job)
        return self._same_name

    def named(self, key: str) -> File | None:
        name = classify(key)
        if name is None:
            return None
        folder = short_hash(name.folder)
        if folder not in self._changes:
            self._changes[folder] = self._table.folder_changes(folder)
        for file in self._table.same_name_images(folder, name.job):
            if same_key(file.key, key):
                return file
        there = self._uploads.head(key)  # it may lie there since before the stack did
        return File(key, there.version, there.bytes, self._now) if there else None

    def pictures(self) -> Pictures:
        files, count = self._table.images(short_hash(self._name.folder), LIST_MAX)
        return Pictures(files, count)

    def facts(self, file: File) -> dict[str, Any]:
        self.last = file
        return self._facts(file)

    def changed_since(self) -> bool:
        """Whether a folder changed after it was read; asked after the job's OPEN entries are written."""
        return any(self._table.folder_changes(folder) != seen for folder, seen in self._changes.items())


def _shown(job: Job) -> tuple[Any, ...]:
    return (
        job.status,
        job.problem,
        job.message,
        job.candidates,
        job.voice,
        job.portrait,
        job.settings_files,
        job.settings,
        job.held,
    )
