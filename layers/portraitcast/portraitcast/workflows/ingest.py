"""Ingest what was dropped or deleted: uploads become items of the table, and jobs are evaluated.

An upload is noted before it is read: whoever evaluates its job meanwhile waits for it instead of going without.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from portraitcast.domain.uploads import RESERVED_NAME, SETTINGS_SUFFIX, Kind, Name, Upload, classify
from portraitcast.errors import ConflictError, NotFoundError, PortraitcastError, TryLaterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.buckets import Uploads
    from portraitcast.adapters.jobs_table import JobsTable
    from portraitcast.adapters.queues import Queue
    from portraitcast.domain.job import Job
    from portraitcast.workflows.evaluate import Evaluate
    from portraitcast.workflows.read_upload import ReadUpload

log = logging.getLogger(__name__)

TRIES: Final = 30  # of a compare-and-swap; each round somebody else has got on
SCAN_PAGE: Final = 50  # keys that are listed at once
OWN_FILES: Final = 20  # keys of a job's name that are looked for before its create
# s after which an event is old news: it was a dead letter, or lay in the queue for long. The bucket is asked instead.
STALE: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """What an event says of a key; without a version (a scan, a deletion) the bucket itself is asked.

    `at` is when it happened (epoch seconds), None when nobody says.
    """

    key: str
    version: str | None = None
    etag: str = ""
    bytes: int | None = None
    sequencer: str = ""
    removed: bool = False
    at: float | None = None


class Ingest:
    """Ingests what lies in the upload bucket."""

    def __init__(
        self,
        table: JobsTable,
        uploads: Uploads,
        queue: Queue,
        reading: ReadUpload,
        evaluate: Evaluate,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._uploads = uploads
        self._queue = queue
        self._reading = reading
        self._evaluate = evaluate
        self._clock = clock

    def arrive(self, arrival: Arrival) -> None:
        """Ingest what an event says of a key, a new version or a deletion, and evaluate the jobs that it may change."""
        name = classify(arrival.key)
        if name is None:
            return
        upload, before = self._note(name, arrival)
        if upload.unread:
            self._read(upload)
        if name.kind is not Kind.FOLDER_SETTINGS:
            self._evaluate.job(name.job, name)
        in_folder = name.kind.is_picture or name.kind is Kind.FOLDER_SETTINGS
        # Also for a version that is known: the process that noted it may have crashed before this line.
        if in_folder and (before is None or self._clock() - upload.noticed_at < STALE):
            self._evaluate.folder_soon(name)

    def _note(self, name: Name, arrival: Arrival) -> tuple[Upload, Upload | None]:
        """Note what is under the key now; return it, and what was known before."""
        known: Upload | None = None
        for turn in range(TRIES):
            if turn:  # most uploads are new: whether there is one is read only if writing it conflicts
                known = self._table.upload(name)
            upload = self._upload(name, arrival, known)
            if known is not None and upload.is_same_version(known):
                if known.is_older_event_than(upload):  # the order of events goes on, and nothing else does
                    upload = replace(known, sequencer=upload.sequencer)
                else:
                    return known, known
            elif known is not None and upload.is_older_event_than(known):
                return known, known
            try:
                self._table.note_upload(upload, known)
            except ConflictError:
                continue
            return upload, known
        raise TryLaterError(f"{name.key} is being noted by too many at once")

    def _upload(self, name: Name, arrival: Arrival, known: Upload | None) -> Upload:
        sequencer = arrival.sequencer or (known.sequencer if known else "")
        old = arrival.at is not None and self._clock() - arrival.at > STALE
        if arrival.version is None or arrival.bytes is None or arrival.removed or old:
            return self._reading.there_now(name, sequencer=sequencer)
        unread = name.kind in {Kind.JOB_SETTINGS, Kind.FOLDER_SETTINGS}
        return Upload(
            *(name, arrival.version, arrival.bytes, self._clock(), arrival.etag), sequencer=sequencer, unread=unread
        )

    def _read(self, upload: Upload) -> None:
        try:
            self._reading.settings(upload)
        except NotFoundError:
            self._reading.look_again(upload)

    # ------------------------------------------------------------------ what lies there already
    def scan(self, prefix: str, after: str | None, ends_at: float) -> None:
        """Ingest what lay in the bucket before the stack did, as much as time allows; one file never stops the rest."""
        while True:
            keys = self._uploads.page(prefix, after, SCAN_PAGE)
            for key in keys:
                self._scan_one(key)
            if len(keys) < SCAN_PAGE:
                return
            after = keys[-1]
            if self._clock() > ends_at:
                self._queue.send({"scan": prefix, "after": after})
                return

    def _scan_one(self, key: str) -> None:
        try:
            self.arrive(Arrival(key))
        except PortraitcastError:
            log.exception("a file could not be ingested", extra={"key": key})
            self._queue.send({"ingest": key}, after=30)
        except ValueError:  # a key that no file of ours can have
            log.exception("a key can't be read", extra={"key": key[:200]})

    def find_missed(self, job: Job) -> bool:
        """Ask the bucket, right before a create, for own files of a job that no event has told of.

        Such a file is ingested; True when there was one, and the job must be evaluated before it is sent.
        """
        keys = self._own_files(job)
        used = {job.inputs.voice and job.inputs.voice.key, job.inputs.portrait and job.inputs.portrait.key}
        used |= {file.key for file in job.inputs.settings_files}
        found = False
        for key in keys:
            name = classify(key)
            if key in used or name is None or (name.kind is not Kind.FOLDER_SETTINGS and name.job != job.id):
                continue
            known = self._table.upload(name)
            if known is None or known.deleted:
                log.warning("a file came without an event", extra={"job": job.id, "key": key})
                self.arrive(Arrival(key))
                found = True
        return found

    def _own_files(self, job: Job) -> list[str]:
        folder, slash, _ = job.stem.rpartition("/")
        settings = f"{folder}{slash}{RESERVED_NAME}{SETTINGS_SUFFIX}"
        there = self._uploads.page(f"{job.stem}.", None, OWN_FILES)
        return [*there, *self._uploads.page(settings, None, 1)]
