"""Read an upload: what a settings JSON says, and, by asking prepare, what a voice or a picture is.

What is found is kept with the version that it was found in, so a file is read once. What S3 will never hand out is a
problem of that file, told to its owner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from portraitcast.domain.problems import file_unreadable
from portraitcast.domain.settings import SETTINGS_MAX_BYTES
from portraitcast.domain.uploads import Facts, Kind, Name, Upload
from portraitcast.errors import UnreadableObjectError

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.buckets import Uploads
    from portraitcast.adapters.jobs_table import JobsTable
    from portraitcast.adapters.queues import Queue

ASK_AGAIN_SECONDS: Final = 1_000.0  # after an order to prepare: its message was lost, or is among the dead letters


class ReadUpload:
    """Reads uploads, once a version."""

    def __init__(self, table: JobsTable, uploads: Uploads, media_queue: Queue, *, clock: Callable[[], float]) -> None:
        self._table = table
        self._uploads = uploads
        self._media_queue = media_queue
        self._clock = clock

    def there_now(self, name: Name) -> Upload:
        """Return what the bucket has under a key now: an upload, or a deleted marker. S3's order is not known of it."""
        try:
            there = self._uploads.head(name.key)
        except UnreadableObjectError as error:  # S3 tells nothing of it, not even a version
            return Upload(name, "null", 1, self._clock(), facts=Facts(problem=file_unreadable(name.key, str(error))))
        if there is None:
            return Upload(name, "", 0, self._clock(), deleted=True)
        return Upload(name, there.version, there.bytes, self._clock(), there.etag, unread=name.kind.is_settings)

    def of_same_bytes(self, upload: Upload, known: Upload) -> Facts | None:
        """Return the facts of a version whose bytes are those of a known one: they are not read again.

        A voice's metadata is the new version's own. None where it is not the one that is there now: it is read anew.
        """
        facts = known.facts
        if facts is None or upload.name.kind is not Kind.VOICE:
            return facts
        try:
            there = self._uploads.head(upload.key)
        except UnreadableObjectError:
            return None
        if there is None or (there.version, there.etag) != (upload.version, upload.etag):
            return None
        return replace(facts, metadata=there.metadata)

    def look_again(self, upload: Upload) -> Upload:
        """A version vanished while it was read: note and return what the bucket has there now.

        Raises `ConflictError` when somebody else has noted something meanwhile.
        """
        known = self._table.upload(upload.name)
        now = self.there_now(upload.name)
        self._table.note_upload(now, known)
        return now

    def settings(self, upload: Upload) -> Upload:
        """Read a settings JSON that is noted and not read yet. Raises `NotFoundError` when the version is gone."""
        try:
            data = self._uploads.read(upload.key, upload.version, upload.etag, SETTINGS_MAX_BYTES)
            read = replace(upload, unread=False, text=_text(data))
        except UnreadableObjectError as error:
            read = replace(upload, unread=False, facts=Facts(problem=file_unreadable(upload.key, str(error))))
        self._table.keep_reading(read)
        return read

    def ask(self, upload: Upload) -> Upload | None:
        """Ask prepare to read a voice or a picture; None where it has been asked a moment ago.

        Returns the upload as it is to be kept. What prepare finds comes as a message (`Ingest.prepared`).
        """
        now = self._clock()
        if now - upload.asked_at < ASK_AGAIN_SECONDS:
            return None
        order = {
            "key": upload.key,
            "version": upload.version,
            "etag": upload.etag,
            "kind": upload.name.kind.value,
            "bytes": upload.bytes,
        }
        self._media_queue.send({"prepare": order})
        return replace(upload, facts=None, asked_at=now)  # facts whose asset has expired are not written again


def _text(data: bytes) -> str | None:
    if len(data) > SETTINGS_MAX_BYTES:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
