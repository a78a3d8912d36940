"""The two buckets: what was dropped, and what we bring."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from portraitcast.adapters.aws import aws_errors
from portraitcast.domain.disposition import content_disposition
from portraitcast.domain.job import Video
from portraitcast.domain.metadata import user_metadata
from portraitcast.errors import ConflictError, NotFoundError, TryLaterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from portraitcast.domain.report import Report

CHUNK: Final = 1_048_576
REPORT_TRIES: Final = 10
NO_VERSION: Final = "null"  # Amazon S3: the version id of an object in a bucket without, or with suspended, versioning


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is now: version, ETag, size in bytes, user metadata."""

    version: str
    etag: str
    bytes: int
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it."""

    key: str
    etag: str


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """A video as it lies in the results bucket: `mark` names job, generation and attempt (`Job.video_mark`)."""

    etag: str
    job: str
    mark: str
    video: Video | None


class Uploads:
    """The upload bucket: read only. Versioned, suspended or without versions: what was read is what was noticed.

    Keys begin behind `prefix` (the stack's UploadPrefix), here and everywhere inside.
    """

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self._client = client
        self.bucket = bucket
        self.prefix = prefix

    def head(self, key: str) -> StoredObject | None:
        """Return the current version of an object, or None when there is none."""
        try:
            with aws_errors():
                answer = self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except NotFoundError:
            return None
        return StoredObject(
            answer.get("VersionId", NO_VERSION),
            answer["ETag"].strip('"'),
            answer["ContentLength"],
            user_metadata(answer["Metadata"]),
        )

    def read(self, key: str, version: str, etag: str, most: int) -> bytes:
        """Read one version whole, `most` bytes and one more at the most.

        Raises
        ------
        NotFoundError
            This version is not there any more.
        UnreadableObjectError
            S3 will never hand it out.
        """
        body = self._get(key, version, etag)
        with aws_errors():
            return bytes(body.read(most + 1))

    @contextmanager
    def download(self, key: str, version: str, etag: str) -> Iterator[tuple[BinaryIO, str]]:
        """Give one version as a seekable temporary file with its SHA-256 (hex). Memory: one chunk of 1 MiB.

        Raises as `read`.
        """
        with tempfile.TemporaryFile() as file:
            digest = hashlib.sha256()
            body = self._get(key, version, etag)
            with aws_errors():
                for chunk in body.iter_chunks(CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
            file.seek(0)
            yield cast("BinaryIO", file), digest.hexdigest()

    def page(self, prefix: str, after: str | None, most: int) -> list[ListedObject]:
        """List up to `most` objects (1,000) under a prefix, those after the key `after`, in S3's order."""
        more: dict[str, Any] = {"StartAfter": self.prefix + after} if after else {}
        with aws_errors():
            answer = self._client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix + prefix, MaxKeys=most, **more)
        listed = answer.get("Contents", [])
        return [ListedObject(entry["Key"].removeprefix(self.prefix), entry["ETag"].strip('"')) for entry in listed]

    def _get(self, key: str, version: str, etag: str) -> Any:
        which: dict[str, Any] = {"VersionId": version}
        if version == NO_VERSION:  # all that tells two of them apart is the ETag
            which = {"IfMatch": f'"{etag}"'} if etag else {}
        try:
            with aws_errors():
                return self._client.get_object(Bucket=self.bucket, Key=self.prefix + key, **which)["Body"]
        except ConflictError as error:
            raise NotFoundError("another object lies under this key by now") from error


class Results:
    """The results bucket: reports and videos.

    Keys begin behind `prefix` (the stack's ResultsPrefix); a `Video` has the whole key.
    """

    def __init__(self, client: S3Client, bucket: str, prefix: str = "") -> None:
        self._client = client
        self.bucket = bucket
        self.prefix = prefix

    def put_report(self, key: str, report: Report, etag: str | None) -> str:
        """Write a report unless a newer one is there; returns the ETag of the one that is there now.

        Parameters
        ----------
        etag
            Of the report that we wrote last, to spare a look; None when there was none.
        """
        body = json.dumps(report, ensure_ascii=False, indent=2).encode()
        for _ in range(REPORT_TRIES):
            condition: dict[str, Any] = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
            try:
                with aws_errors():
                    answer = self._client.put_object(
                        Bucket=self.bucket,
                        Key=self.prefix + key,
                        Body=body,
                        ContentType="application/json; charset=utf-8",
                        CacheControl="no-cache",
                        Metadata={"job": str(report["job"]), "revision": str(report["revision"])},
                        **condition,
                    )
                return answer["ETag"]
            except (ConflictError, NotFoundError):
                there = self._head(key)
            if there is None:
                etag = None
            elif _is_ours(there[1], report) and int(there[1]["revision"]) >= int(str(report["revision"])):
                return there[0]
            else:
                etag = there[0]
        raise TryLaterError("a report is being written by too many at once")

    def video(self, key: str) -> StoredVideo | None:
        """Return what lies under a video's key, or None when there is nothing."""
        there = self._head(key)
        if there is None:
            return None
        etag, metadata = there
        return StoredVideo(etag, metadata.get("job", ""), metadata.get("owner", ""), self._video(key, metadata))

    def put_video(self, video: Video, job: str, mark: str, file: BinaryIO, *, over: StoredVideo | None) -> None:
        """Put a whole, checked video under its final name: nobody ever sees a half one (one PUT, up to 5 GB).

        A download is saved under the job's name, whatever link it came by.

        Raises `ConflictError` when something else than `over` lies there by now.
        """
        metadata = {
            "job": job,
            "owner": mark,
            "sha256": video.sha256,
            "seconds": f"{video.seconds:.3f}",
            "width": str(video.width),
            "height": str(video.height),
            "bytes": str(video.bytes),
        }
        condition: dict[str, Any] = {"IfMatch": over.etag} if over else {"IfNoneMatch": "*"}
        file.seek(0)  # a PUT that conflicted has read it
        try:
            with aws_errors():
                self._client.put_object(
                    Bucket=self.bucket,
                    Key=video.key,
                    Body=file,
                    ContentType="video/mp4",
                    ContentDisposition=content_disposition(video.key),
                    Metadata=metadata,
                    **condition,
                )
        except NotFoundError as error:  # what If-Match names is gone
            raise ConflictError("the video that was there has been deleted") from error

    def _head(self, key: str) -> tuple[str, dict[str, str]] | None:
        try:
            with aws_errors():
                answer = self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except NotFoundError:
            return None
        return answer["ETag"], answer["Metadata"]

    def _video(self, key: str, metadata: dict[str, str]) -> Video | None:
        """Return what a video's metadata says of it; None for an object that somebody else has put there."""
        try:
            return Video(
                key=self.prefix + key,
                bytes=int(metadata["bytes"]),
                seconds=float(metadata["seconds"]),
                width=int(metadata["width"]),
                height=int(metadata["height"]),
                sha256=metadata["sha256"],
                bucket=self.bucket,
            )
        except (KeyError, ValueError):
            return None


def _is_ours(metadata: dict[str, str], report: Report) -> bool:
    """Whether an object under a report's key is a report of the same job; anybody may have put something there."""
    return metadata.get("job") == report["job"] and metadata.get("revision", "").isdecimal()
