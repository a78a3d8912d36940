"""What prepare reads and writes: versions of uploads, objects of the work bucket, messages of the answers queue.

Each refusal of S3 is sorted once: gone, refused for good, or to be tried again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from portraitcast_media.problems import Problem, RefusedError, file_unreadable

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from portraitcast_media.facts import Asset

PIECE: Final = 1_048_576
# An asset that is older is written again, so that its 30 days begin anew: the product takes what prepare answers for
# fresh for 20 days, which must end before the asset does.
FRESH_DAYS: Final = 5
NO_VERSION: Final = "null"  # what S3's events say of a bucket without versions
# 405: a delete marker; 412: another object lies there by now.
_GONE: Final = {"NoSuchKey", "NoSuchVersion", "404", "NotFound", "MethodNotAllowed", "PreconditionFailed", "412"}
_PASSING: Final = ("throttl", "internal", "unavailable", "slowdown", "timeout", "toomany")


class GoneError(Exception):
    """The object, or this version of it, isn't there any more."""


class TooBigError(Exception):
    """The object has more bytes than are read; `size` is how many."""

    def __init__(self, key: str, size: int) -> None:
        super().__init__(f"{key!r} has {size} bytes")
        self.size = size


@dataclass(frozen=True, slots=True)
class Source:
    """An object: where it lies, and which version; None or ``null`` is the only one.

    Attributes
    ----------
    bucket
        Name of the bucket.
    key, version
        Of the object.
    etag
        Which object it must be where it has no version of its own; "" for whichever is there.
    """

    bucket: str
    key: str
    version: str | None = None
    etag: str = ""


class Storage:
    """The upload bucket and the work bucket.

    Parameters
    ----------
    client
        boto3's.
    work_bucket
        Name of the bucket that is written.
    upload_prefix
        What stands before the keys of uploads in their bucket (the stack's UploadPrefix).
    """

    def __init__(self, client: S3Client, work_bucket: str, upload_prefix: str = "") -> None:
        self._client = client
        self.work_bucket = work_bucket
        self._upload_prefix = upload_prefix

    def fetch(self, source: Source, path: Path, most: int) -> dict[str, str]:
        """Write an object into a file, a piece of 1 MiB at a time; return its user metadata as S3 hands it out.

        Raises
        ------
        GoneError
            It isn't there.
        RefusedError
            ``FileUnreadable``: S3 will never hand it out as it lies there.
        TooBigError
            It has more than `most` bytes.
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError
            Anything else, which may pass.
        """
        which: dict[str, Any] = {"VersionId": source.version}
        if source.version in {None, NO_VERSION}:
            which = {"IfMatch": f'"{source.etag}"'} if source.etag else {}
        key = source.key if source.bucket == self.work_bucket else self._upload_prefix + source.key
        try:
            answer = self._client.get_object(Bucket=source.bucket, Key=key, **which)
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                raise GoneError(source.key) from error
            problem = refusal(error, source.key)
            if problem is None:
                raise
            raise RefusedError(problem) from error
        body = answer["Body"]
        if answer["ContentLength"] > most:
            body.close()
            raise TooBigError(source.key, answer["ContentLength"])
        with path.open("wb") as file:
            for piece in body.iter_chunks(PIECE):
                file.write(piece)
        return dict(answer["Metadata"])

    def keep(self, asset: Asset, file: Path) -> bool:
        """Put an asset into the work bucket unless it is there and fresh; return whether it was put."""
        if self.has(asset.key, asset.bytes):
            return False
        self.put(asset.key, file, asset.type)
        return True

    def has(self, key: str, size: int | None = None) -> bool:
        """Whether the work bucket has an object that won't expire in the next days, of `size` bytes if given."""
        try:
            answer = self._client.head_object(Bucket=self.work_bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return False
            raise
        fresh = time.time() - answer["LastModified"].timestamp() < FRESH_DAYS * 86_400
        return fresh and size in {None, answer["ContentLength"]}

    def put(self, key: str, file: Path, content_type: str, metadata: dict[str, str] | None = None) -> None:
        """Put a file into the work bucket, whole."""
        with file.open("rb") as body:
            self._client.put_object(
                Bucket=self.work_bucket, Key=key, Body=body, ContentType=content_type, Metadata=metadata or {}
            )


class Answers:
    """The answers queue, of which submit takes nothing but answers.

    Parameters
    ----------
    client
        boto3's.
    url
        Of the answers queue.
    """

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def send(self, answer: dict[str, Any]) -> None:
        """Send ``{"prepared": answer}``."""
        body = json.dumps({"prepared": answer}, ensure_ascii=False, separators=(",", ":"))
        self._client.send_message(QueueUrl=self._url, MessageBody=body)


def refusal(error: ClientError, key: str) -> Problem | None:
    """Return what S3's refusal to hand out an object means for its owner, or None where it may pass by itself."""
    code = error.response["Error"]["Code"]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = error.response["Error"].get("Message", "")
    if any(word in code.lower() for word in _PASSING):
        return None
    if code == "InvalidObjectState":
        return file_unreadable(
            key,
            "it lies in an archive class of S3, from which nothing can be read at once",
            "Restore it, then copy it onto itself in S3 Standard; or upload it again.",
        )
    if code.startswith("KMS.") or (code == "AccessDenied" and "kms:" in message.lower()):
        return file_unreadable(
            key,
            "it is encrypted with a KMS key that this stack may not use",
            "Upload it again without naming a key, or with the stack's own; or let the stack's roles use that key.",
        )
    if code in {"InvalidRequest", "InvalidArgument"} and "encrypt" in message.lower():
        return file_unreadable(
            key,
            "it is encrypted with a key of the uploader's own (SSE-C)",
            "Upload it again without a key of your own.",
        )
    if code == "AccessDenied" or status == 403:
        return file_unreadable(
            key,
            "S3 denies access to it",
            "Upload it again from this account; where a bucket policy denies reading, let the stack's roles read.",
        )
    if status == 400 and code != "RequestTimeout":
        return file_unreadable(key, f"S3 refuses to hand it out ({code})", "Upload it again.")
    return None
