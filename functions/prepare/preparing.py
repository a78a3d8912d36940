"""The verb of the media queue: read one version, say what it is, keep what is passed on in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from folders import work_folder
from portraitcast_media.limits import PORTRAIT_MAX_BYTES, VOICE_MAX_BYTES
from portraitcast_media.prepare import KINDS, check_bytes, prepare
from portraitcast_media.problems import RefusedError, takes_too_much
from storage import GoneError, Source, TooBigError

if TYPE_CHECKING:
    from storage import Answers, Storage

DEATHS_MAX: Final = 3  # processes that one file may kill; SQS counts them


@dataclass(frozen=True, slots=True)
class Upload:
    """A version to prepare.

    Attributes
    ----------
    key, version
        Of the object in the upload bucket; ``null`` where the bucket has no versions.
    kind
        ``voice`` or ``portrait``.
    bytes
        Its size, as the event said.
    etag
        Which object it is where all versions are ``null``; "" where nobody knows.
    """

    key: str
    version: str
    kind: str
    bytes: int
    etag: str = ""

    @classmethod
    def from_message(cls, body: dict[str, Any]) -> Self:
        """Read ``{"prepare": {…}}``. Raises ValueError for anything else."""
        asked = body.get("prepare")
        if not isinstance(asked, dict) or asked.get("kind") not in KINDS:
            raise ValueError(f"no message of the media queue: it has {sorted(body)}")
        return cls(
            key=str(asked["key"]),
            version=str(asked["version"]),
            kind=str(asked["kind"]),
            bytes=int(asked["bytes"]),
            etag=str(asked.get("etag", "")),
        )


class Preparing:
    """Prepares uploads.

    Parameters
    ----------
    storage
        Both buckets.
    answers
        The answers queue.
    upload_bucket
        Where uploads lie.
    max_seconds
        The longest voice that is taken (``MaxVoiceSeconds``).
    """

    def __init__(self, storage: Storage, answers: Answers, upload_bucket: str, max_seconds: float) -> None:
        self._storage = storage
        self._answers = answers
        self._bucket = upload_bucket
        self._max_seconds = max_seconds

    def handle(self, upload: Upload, receives: int) -> dict[str, Any]:
        """Prepare an upload and send the answer; return it. Any number of times, with the same result.

        Parameters
        ----------
        upload
            Which one.
        receives
            How often the message has been received, this time included: one more than processes have died of it.

        Raises
        ------
        Exception
            Whatever may pass by itself, or is our own fault: the message comes again.
        """
        answer: dict[str, Any] = {"key": upload.key, "version": upload.version, "etag": upload.etag}
        try:
            if receives > DEATHS_MAX:
                died = f"died of it {DEATHS_MAX} times"
                raise RefusedError(takes_too_much(upload.kind, upload.key, died))  # noqa: TRY301  # one way out for all
            answer["facts"] = self._facts(upload, answer)
        except RefusedError as error:
            answer["problem"] = error.problem.as_dict()
        except GoneError:
            answer["gone"] = True
        self._answers.send(answer)
        return answer

    def _facts(self, upload: Upload, answer: dict[str, Any]) -> dict[str, Any]:
        check_bytes(upload.kind, upload.key, upload.bytes)
        with work_folder() as work:
            file = work / "upload"
            most = VOICE_MAX_BYTES if upload.kind == "voice" else PORTRAIT_MAX_BYTES
            try:
                source = Source(self._bucket, upload.key, upload.version, upload.etag)
                metadata = self._storage.fetch(source, file, most)
            except TooBigError as error:  # bigger than the event said
                check_bytes(upload.kind, upload.key, error.size)
                raise
            if upload.kind == "voice":  # told also of one that is refused
                answer["metadata"] = metadata
            made = prepare(file, upload.key, upload.kind, work, max_seconds=self._max_seconds)
            if made.asset and made.file:
                self._storage.keep(made.asset, made.file)
        return made.facts
