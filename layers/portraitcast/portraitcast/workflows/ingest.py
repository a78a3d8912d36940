"""Ingest what was dropped or deleted: uploads become items of the table, and jobs are evaluated.

An upload is noted before it is read: whoever evaluates its job meanwhile waits for it instead of going without.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from portraitcast.adapters.buckets import NO_VERSION
from portraitcast.domain.uploads import KEY_MAX_BYTES, RESERVED_NAME, Facts, Kind, Name, Upload, classify, nfc, nfd
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
LIST_PAGE: Final = 1000  # Amazon S3, "ListObjectsV2": objects of one answer, whose price is one whatever it holds
OWN_PAGES: Final = 3  # ours: "line.0001.wav" and its like are listed with the files of a job "line"
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """What prepare answers about a version; no facts where it is gone."""

    key: str
    version: str
    etag: str
    facts: Facts | None

    def is_about(self, upload: Upload) -> bool:
        """Say whether the version is the one that is there now."""
        return self.version == upload.version and (self.version != "null" or self.etag == upload.etag)


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
        in_folder = name.kind in {Kind.PORTRAIT, Kind.FOLDER_SETTINGS}
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
                if not upload.sequencer or (known.sequencer and not known.is_older_event_than(upload)):
                    return known, known
                upload = self._known_again(upload, known)
            elif known is not None and upload.is_older_event_than(known):
                return known, known
            elif known is not None and upload.has_bytes_of(known):
                upload = replace(upload, facts=self._reading.of_same_bytes(upload, known))
            try:
                self._table.note_upload(upload, known)
            except ConflictError:
                continue
            return upload, known
        raise TryLaterError(f"{name.key} is being noted by too many at once")

    def _known_again(self, upload: Upload, known: Upload) -> Upload:
        """A newer event is about what is known: the order of events goes on, and nothing else does.

        Where versions have no ids, a second event about the same bytes is a second upload of them.
        """
        if known.deleted or known.version != NO_VERSION or not known.sequencer:
            return replace(known, sequencer=upload.sequencer)
        again, now = known.repeats + 1, self._clock()
        facts = self._reading.of_same_bytes(upload, known)
        return replace(known, sequencer=upload.sequencer, noticed_at=now, repeats=again, refused=False, facts=facts)

    def _upload(self, name: Name, arrival: Arrival, known: Upload | None) -> Upload:
        """Return what an event says is there; where that isn't certain, what the bucket says."""
        old = arrival.at is not None and self._clock() - arrival.at > STALE
        unclear = arrival.version == NO_VERSION and not arrival.etag
        if arrival.version is None or arrival.bytes is None or arrival.removed or old or unclear:
            return self._there_now(name, arrival)
        found = Upload(
            *(name, arrival.version, arrival.bytes, self._clock(), arrival.etag, arrival.sequencer),
            unread=name.kind.is_settings,
        )
        if known is None or found.is_same_version(known) or found.follows(known):
            return found
        return self._there_now(name, arrival)

    def _there_now(self, name: Name, arrival: Arrival) -> Upload:
        there = self._reading.there_now(name)
        is_its_event = there.deleted if arrival.removed else there.version == arrival.version
        return replace(there, sequencer=arrival.sequencer) if is_its_event else there

    def _read(self, upload: Upload) -> None:
        """Read a settings JSON, or what has taken its place meanwhile."""
        for _ in range(TRIES):
            try:
                self._reading.settings(upload)
            except NotFoundError:
                try:
                    upload = self._reading.look_again(upload)
                except ConflictError:
                    return  # somebody else has noted, and reads, what is there
                if upload.unread:
                    continue
            return

    # ------------------------------------------------------------------ what prepare has found
    def prepared(self, prepared: Prepared) -> None:
        """Keep what prepare has found in a version, and evaluate the jobs that may wait for it.

        An answer about a version that is no longer there changes nothing. What was found in one that has been read
        stays: who takes prepare over can't rewrite what is known. The jobs are evaluated all the same: the function may
        have died before.
        """
        name = classify(prepared.key)
        upload = self._table.upload(name) if name else None
        if name is None or upload is None or upload.deleted or not prepared.is_about(upload):
            return
        if prepared.facts is None:
            with suppress(ConflictError):  # somebody else has noted what is there
                self._reading.look_again(upload)
        elif upload.facts is None or not upload.facts.is_fresh(self._clock()):
            self._table.keep_reading(replace(upload, facts=replace(prepared.facts, read_at=self._clock())))
        self._evaluate.job(name.job, name)
        if name.kind is Kind.PORTRAIT:
            self._evaluate.folder_soon(name, now=True)

    # ------------------------------------------------------------------ what lies there already
    def scan(self, prefix: str, after: str | None, ends_at: float) -> None:
        """Ingest what lay in the bucket before the stack did, as much as time allows; one file never stops the rest."""
        while True:
            page = self._uploads.page(prefix, after, SCAN_PAGE)
            for there in page:
                self._scan_one(there.key)
            if len(page) < SCAN_PAGE:
                return
            after = page[-1].key
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
        """Ask the bucket, right before a create, whether a job's files are as they are known.

        An event may be late or lost. What differs is ingested; True when there was something, and the job must be
        evaluated before it is sent.
        """
        there = self._own_files(job)
        found = False
        for key in sorted({*there, *_etags(job)}):
            if self._is_as_known(job, key, there.get(key)):
                continue
            log.warning("a file came, or went, without an event", extra={"job": job.id, "key": key})
            name = classify(key)
            before = self._table.upload(name) if name else None
            self.arrive(Arrival(key))
            found = found or (name is not None and self._table.upload(name) != before)
        return found

    def _is_as_known(self, job: Job, key: str, etag: str | None) -> bool:
        """Say whether a listed object is the one that is known; `etag` is None for one that isn't there."""
        used = _etags(job)
        if key in used:
            return etag == used[key] or (etag is not None and not used[key])
        name = classify(key)
        if name is None or etag is None or (name.kind is not Kind.FOLDER_SETTINGS and name.job != job.id):
            return True
        known = self._table.upload(name)
        return known is not None and not known.deleted and (not known.etag or known.etag == etag)

    def _own_files(self, job: Job) -> dict[str, str]:
        """List what may be a job's: keys of its name in both Unicode forms, its folder's settings, its portrait.

        Keys and ETags. A used key that the listing didn't reach counts as it is known.
        """
        folder, slash, _ = job.stem.rpartition("/")
        stems = (job.stem, f"{folder}{slash}{RESERVED_NAME}")
        prefixes = {f"{form}." for stem in stems for form in (stem, nfc(stem), nfd(stem))}
        used = _etags(job)
        prefixes |= {key for key in used if not key.startswith(tuple(prefixes))}
        there: dict[str, str] = {}
        for prefix in sorted(prefixes):
            if len((self._uploads.prefix + prefix).encode()) <= KEY_MAX_BYTES:
                there |= self._list(prefix, used)
        return there

    def _list(self, prefix: str, used: dict[str, str]) -> dict[str, str]:
        there: dict[str, str] = {}
        after: str | None = None
        for _ in range(OWN_PAGES):
            page = self._uploads.page(prefix, after, LIST_PAGE)
            there |= {listed.key: listed.etag for listed in page}
            if len(page) < LIST_PAGE:
                return there
            after = page[-1].key
        return there | {key: etag for key, etag in used.items() if key.startswith(prefix) and key > (after or "")}


def _etags(job: Job) -> dict[str, str]:
    """Return the objects that a job is made from: keys, and ETags where they are known."""
    inputs = job.inputs
    media = [file for file in (inputs.voice, inputs.portrait) if file and file.key]
    return {str(file.key): file.etag for file in [*media, *inputs.settings_files]}
