"""Evaluate a job: match what is there now, change the job accordingly, and publish it.

A file's own item is written before its partners are read, consistently: of two files that belong together and arrive
at once, at least one sees the other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from portraitcast.domain.job import Job, Status
from portraitcast.domain.matching import (
    Gathered,
    Match,
    Nothing,
    Pictures,
    Ready,
    Rejected,
    Waiting,
    fingerprint_of,
    identity_of,
    match,
)
from portraitcast.domain.price import estimate
from portraitcast.domain.problems import Problem, approval_needed
from portraitcast.domain.uploads import Facts, Kind, Name, Upload, classify, same_key, short_hash
from portraitcast.errors import ConflictError, TryLaterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.buckets import Results, Uploads
    from portraitcast.adapters.jobs_table import Folder, JobsTable
    from portraitcast.adapters.queues import Queue
    from portraitcast.domain.account import Account
    from portraitcast.domain.models import StackModels
    from portraitcast.workflows.publish import Publish
    from portraitcast.workflows.read_upload import ReadUpload
    from portraitcast.workflows.wake import Wake

log = logging.getLogger(__name__)

TRIES: Final = 30  # of a compare-and-swap; each round somebody else has got on
REEVALUATION_PAGE: Final = 20  # jobs of a folder that are read at once
RETRY_SECONDS: Final = 30.0  # until a job that could not be re-evaluated is looked at by itself
PUBLISHING_SECONDS: Final = 60.0  # after a change; who has not published by then has died


@dataclass(frozen=True, slots=True)
class QuietPeriods:
    """The stack's parameters PairSeconds and SettleSeconds."""

    pair_seconds: float
    settle_seconds: float


class Evaluate:
    """Evaluates jobs, one by one or all that a folder's files may change."""

    def __init__(
        self,
        table: JobsTable,
        uploads: Uploads,
        results: Results,
        queue: Queue,
        wake: Wake,
        reading: ReadUpload,
        publish: Publish,
        quiet: QuietPeriods,
        models: StackModels,
        *,
        approve_above_cny: float,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._uploads = uploads
        self._results = results
        self._queue = queue
        self._wake = wake
        self._reading = reading
        self._publish = publish
        self._quiet = quiet
        self._models = models
        self._approve_above = approve_above_cny
        self._clock = clock

    # ------------------------------------------------------------------ one job
    def job(self, job_id: str, name: Name | None = None) -> Job | None:  # one compare-and-swap, whole
        """Evaluate a job from what is there now; write and publish it if that changes it.

        Returns the job as it is now, or None when the files make none.
        """
        asked: dict[str, Upload] = {}
        for _ in range(TRIES):
            files = self._table.job_files(job_id)
            about = name or (classify(files.job.stem + ".json") if files.job else None)
            if about is None or (files.job is None and not files.sounds and not files.jsons):
                return None
            before = files.job
            lookup = _Lookup(self._table, self._uploads, about, self._reading, files.pictures, asked, self._clock())
            try:
                job, sounds = self._without_second_voices(before, files.sounds, lookup)
                gathered = self._gather(about, sounds, files.jsons, lookup)
                found = match(gathered, lookup)
                account = self._account_for(job, found)
                after = self._apply(about, job, found, account)
                if after is not None and after != job:
                    after = self._table.save(after, was=job, read=lookup.to_keep())[0]
                else:
                    for upload in lookup.to_keep():
                        self._table.keep_reading(upload)
            except ConflictError:
                continue
            if after is None:
                return None
            self._publish_change(before, after, account)
            if after.status is Status.WAITING and lookup.changed_since():
                continue
            if after.status is Status.WAITING and isinstance(found, Waiting) and found.again_at is not None:
                self.folder_at(short_hash(about.folder), found.again_at)
            return after
        raise TryLaterError(f"job {job_id} is being changed by too many at once")

    def _account_for(self, job: Job | None, found: Match) -> Account | None:
        """Read the account where a job comes into a model's queue: its report says why it waits there.

        The account must know the model, or nobody looks into that queue.
        """
        if not isinstance(found, Ready):
            return None
        model = found.inputs.model
        if job is not None and job.queue_key is not None and job.inputs.model == model:
            return None
        account = self._table.account()
        if model in account.models:
            return account
        return self._table.update_account(lambda current: current.use_model(model))[1]

    def _publish_change(self, before: Job | None, after: Job, account: Account | None) -> None:
        """Publish what changed just now, and have a job that came into the queue sent when it is ready.

        What somebody else changed a moment ago is being published by them.
        """
        queued = (after.queue_key, after.ready_at) if after.queue_key else None
        comes = queued is not None and (before is None or (before.queue_key, before.ready_at) != queued)
        turn = self._publish.turn(after, account) if comes else None
        mine = before is None or after.revision != before.revision
        if mine or self._clock() - after.changed_at > PUBLISHING_SECONDS:
            self._publish.job(after, turn)
        if comes:
            self._wake.at(after.ready_at, alone=turn is not None and (turn.place, turn.of) == (1, 1))

    def _gather(self, name: Name, sounds: tuple[Upload, ...], jsons: tuple[Upload, ...], lookup: _Lookup) -> Gathered:
        folder = lookup.folder
        return Gathered(
            name=name,
            sounds=sounds,
            jsons=jsons,
            folder_settings=folder.settings,
            images_at=folder.images_at,
            settings_at=folder.settings_at,
            now=self._clock(),
            pair_seconds=self._quiet.pair_seconds,
            settle_seconds=self._quiet.settle_seconds,
            models=self._models,
            results_prefix=self._results.prefix,
        )

    # ------------------------------------------------------------------ a second voice
    def _without_second_voices(
        self, job: Job | None, sounds: tuple[Upload, ...], lookup: _Lookup
    ) -> tuple[Job | None, tuple[Upload, ...]]:
        """Leave out second voices of a job that was sent; one that is new is refused, and the job says so."""
        sounds = tuple(sound for sound in sounds if not sound.refused)
        voice = job.inputs.voice if job else None
        if job is None or voice is None or not (job.at_provider or job.status in {Status.DONE, Status.FAILED}):
            return job, sounds
        if voice.key not in [sound.key for sound in sounds]:
            return job, sounds
        kept = []
        for sound in sounds:
            if sound.key == voice.key or _is_twin(job, sound, lookup):
                kept.append(sound)
            else:
                job = self._refuse_second_voice(job, sound)
        return job, tuple(kept)

    def _refuse_second_voice(self, job: Job, sound: Upload) -> Job:
        first = job.inputs.voice.key if job.inputs.voice else None
        problem = Problem(
            "JobAmbiguous",
            f"{sound.key} was refused: {first} of the same name was sent already.",
            "Give the second voice another name, or delete the first one and drop the second again.",
        )
        sound = replace(sound, refused=True)
        return self._table.save(job.refuse_upload(problem, self._clock()), was=job, read=(sound,))[0]

    # ------------------------------------------------------------------ what a match does to a job
    def _apply(self, name: Name, job: Job | None, found: Match, account: Account | None) -> Job | None:
        """Return the job as the match has it; unchanged where it changes nothing."""
        now = self._clock()
        if isinstance(found, Nothing):
            if job is None or job.can("withdraw"):
                return job and job.withdraw(now)
            return self._seen(job)
        held = account.held(now) if account else (job.held if job else None)
        if job is None:
            return self._evaluated(Job.new(name.job, name.name, name.folder, found.inputs, now), found, now, held)
        if job.at_provider or job.status in {Status.DONE, Status.FAILED}:
            fresh = bool(set(found.inputs.own) - set(job.used))
            return self._again(job, found, now, held) if fresh else self._seen(job)
        if job.status is Status.REJECTED and identity_of(found.inputs) == job.identity:
            return self._seen(job)  # a repeated event is never another try
        if job.status is Status.REJECTED and isinstance(found, Waiting) and found.being_read:
            return job.await_reading(found.inputs.folders)  # whether it is another try shows when the file is read
        if self._is_made_already(job, found):
            return job.confirm(found.inputs, identity_of(found.inputs), fingerprint_of(found.inputs), now)
        return self._taken_up(job, found, now) or self._evaluated(job, found, now, held)

    def _seen(self, job: Job) -> Job:
        """Return the job as it is; what was to follow the provider's end, or a reading, has been looked at now."""
        return job.end_follow_up() if (job.follow_up or job.being_read) and not job.at_provider else job

    def _again(self, job: Job, found: Waiting | Rejected | Ready, now: float, held: str | None) -> Job:
        """Own files have come anew for a job that was sent."""
        if job.at_provider:
            return job.want_follow_up()  # the paid video is delivered first
        if isinstance(found, Waiting) and found.being_read:
            return job.await_reading(found.inputs.folders)  # the bytes may be those of the video that is there
        if self._is_made_already(job, found):
            return job.confirm(found.inputs, identity_of(found.inputs), fingerprint_of(found.inputs), now)
        return self._taken_up(job, found, now) or self._evaluated(job.next_generation(), found, now, held)

    def _taken_up(self, job: Job, found: Waiting | Rejected | Ready, now: float) -> Job | None:
        """Take up the living task of an aborted execution that makes this very video, instead of paying for another."""
        orphan = job.orphan_of(fingerprint_of(found.inputs), now) if isinstance(found, Ready) else None
        if orphan is None:
            return None
        log.info("an orphaned task is taken up", extra={"job": job.id, "task": orphan.task.id})
        self._queue.send({"reconcile": job.id}, after=1)
        return job.take_up(orphan, found.inputs, identity_of(found.inputs), now)

    def _is_made_already(self, job: Job, found: Waiting | Rejected | Ready) -> bool:
        """Say whether the very video that is asked for was delivered, and lies there with the bytes that were."""
        if not isinstance(found, Ready) or job.video is None or fingerprint_of(found.inputs) != job.done_fingerprint:
            return False
        there = self._results.video(job.video_key)
        return there is not None and there.video is not None and there.video.sha256 == job.video.sha256

    def _evaluated(self, job: Job, found: Waiting | Rejected | Ready, now: float, held: str | None) -> Job:
        identity = identity_of(found.inputs)
        match found:
            case Waiting(inputs, problem, message, candidates, _, being_read):
                problems = (problem,) if problem else ()
                return job.wait(
                    inputs,
                    identity,
                    now,
                    problems=problems,
                    message=message,
                    candidates=candidates,
                    being_read=being_read,
                )
            case Rejected(inputs, problems, shared):
                return job.reject(inputs, identity, problems, now, shared=shared)
            case Ready(inputs, ready_at, approved):
                fingerprint, price = fingerprint_of(inputs), estimate(inputs) or 0.0
                if self._approve_above and price > max(self._approve_above, approved or 0.0, job.approved(fingerprint)):
                    return job.wait(inputs, identity, now, problems=(approval_needed(price, self._approve_above),))
                return job.queue(inputs, identity, fingerprint, now, ready_at=ready_at, held=held)

    # ------------------------------------------------------------------ a price
    def approve(self, job_id: str, revision: int, cny: float) -> None:
        """Approve the price that a job's report of this revision shows; it counts for those very files and settings.

        What was changed meanwhile, costs more, or doesn't wait for it, is left as it is.
        """

        def approve(job: Job) -> Job | None:
            if not job.awaits_approval or job.revision != revision or (estimate(job.inputs) or 0.0) > cny:
                return None
            return job.approve(fingerprint_of(job.inputs), cny)

        if self._table.update(job_id, approve) is None:
            log.warning("an approval is for nothing that waits", extra={"job": job_id, "revision": revision})
            return
        self.job(job_id)

    # ------------------------------------------------------------------ a folder's jobs
    def folder_soon(self, name: Name, *, now: bool = False) -> None:
        """Re-evaluate the jobs that a picture or a settings.json may change, once it is quiet, or `now`."""
        folder = short_hash(name.folder)
        if set(self._table.open_in(folder, None, 2)[0]) <= {name.job}:
            return  # nobody but the job of the picture's own name, which has just been evaluated
        quiet = self._quiet.settle_seconds if name.kind is Kind.PORTRAIT else self._quiet.pair_seconds
        self.folder_at(folder, self._clock() + (0 if now else quiet))

    def folder_at(self, folder: str, due: float) -> None:
        """Schedule a re-evaluation of the folder then, unless one is pending."""
        now = self._clock()
        if self._table.claim_reevaluation(folder, due=due, now=now):
            self._queue.send({"folder": folder}, after=due - now)

    def folder(self, folder: str, cursor: str | None, ends_at: float) -> None:
        """Re-evaluate the jobs that a folder's pictures or settings may still change, as many as time allows.

        What is left goes on with the cursor of another message. One job's trouble never stops the others.
        """
        if cursor is None:
            now = self._clock()
            rest = self._table.folder(folder).images_at + self._quiet.settle_seconds - now
            if rest > 0:
                self._table.postpone_reevaluation(folder, now + rest)
                self._queue.send({"folder": folder}, after=rest)
                return
            self._table.end_reevaluation(folder)
        while True:
            jobs, cursor = self._table.open_in(folder, cursor, REEVALUATION_PAGE)
            for job in each(jobs, self.job, "a job could not be re-evaluated"):
                self._queue.send({"reconcile": job}, after=RETRY_SECONDS)
            if cursor is None:
                return
            if self._clock() > ends_at:
                self._queue.send({"folder": folder, "cursor": cursor})
                return


def each(ids: list[str] | tuple[str, ...], do: Callable[[str], object], trouble: str) -> list[str]:
    """Do something with each; what goes wrong with one is logged and never ends the loop. Returns those that failed."""
    failed = []
    for one in ids:
        try:
            do(one)
        except Exception:  # whatever it is, the others are not to suffer for it
            failed.append(one)
            log.exception(trouble, extra={"job": one})
    return failed


def _is_twin(job: Job, sound: Upload, lookup: _Lookup) -> bool:
    """Say whether a sound is the job's own voice under the other Unicode form of its name, or may be: it is read."""
    voice = job.inputs.voice
    if voice is None or voice.key is None or not same_key(voice.key, sound.key) or voice.bytes != sound.bytes:
        return False
    facts = lookup.facts(sound)
    return facts is None or (facts.sha256 is not None and facts.sha256 == voice.sha256)


class _Lookup:
    """What `match` asks, read from the table and the bucket.

    `asked` takes up, by their tags, the uploads that prepare was asked to read: that is kept with the job.
    """

    def __init__(
        self,
        table: JobsTable,
        uploads: Uploads,
        name: Name,
        reading: ReadUpload,
        same_name: tuple[Upload, ...],
        asked: dict[str, Upload],
        now: float,
    ) -> None:
        self._table = table
        self._uploads = uploads
        self._name = name
        self._reading = reading
        self._asked = asked
        self._now = now
        self._id = short_hash(name.folder)
        self.folder: Folder = table.folder(self._id)
        self._changes = {self._id: self.folder.changes}
        self._same_name = tuple(f for f in same_name if f.name.folder == name.folder)

    def same_name(self) -> tuple[Upload, ...]:
        """Return the pictures that have the job's name; they were read with the job."""
        return self._same_name

    def named(self, key: str) -> Upload | None:
        """Return the picture of a key; one that lies there since before the stack did is noted now."""
        name = classify(key)
        if name is None:
            return None
        folder = short_hash(name.folder)
        if folder not in self._changes:
            self._changes[folder] = self._table.folder_changes(folder)
        for upload in self._table.pictures_of(name.job):
            if same_key(upload.key, key):
                return upload
        found = self._reading.there_now(name)
        if found.deleted:
            return None
        if found.facts is None:  # S3 hands it out, so it is to be read
            # Raises `ConflictError` if its event is being ingested at this moment: the job is evaluated again.
            self._table.note_upload(found, self._table.upload(name))
        return found

    def forms(self, key: str) -> tuple[Upload, ...]:
        """Return the noted pictures of a key, in whatever Unicode form."""
        name = classify(key)
        return tuple(f for f in self._table.pictures_of(name.job) if same_key(f.key, key)) if name else ()

    def to_keep(self) -> tuple[Upload, ...]:
        """Return the uploads that prepare was asked to read."""
        return tuple(self._asked.values())

    def pictures(self) -> Pictures:
        """Return the folder's pictures."""
        return self._table.pictures(self._id, self.folder.pictures)

    def facts(self, upload: Upload) -> Facts | None:
        """Return what reading an upload found; None while prepare reads it, which is asked to if it has not been."""
        if upload.facts is not None and upload.facts.is_fresh(self._now):
            return upload.facts
        if upload.tag not in self._asked and (asked := self._reading.ask(upload)) is not None:
            self._asked[upload.tag] = asked
        return None

    def changed_since(self) -> bool:
        """Say whether a folder changed after it was read; asked after the job's OPEN entries are written."""
        return any(self._table.folder_changes(folder) != seen for folder, seen in self._changes.items())
