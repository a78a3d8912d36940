"""The two buckets: what was dropped, and what we bring."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import boto3
from botocore.config import Config

from portraitcast.adapters.aws import aws_errors
from portraitcast.errors import ConflictError, NotFoundError, TryLaterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sts import STSClient

CHUNK: Final = 1_048_576
LINK_SECONDS: Final = 3600  # role chaining allows no longer session (IAM), and a link ends with its session
REPORT_TRIES: Final = 10
CONTENT_TYPES: Final = {
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".webp": "image/webp",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is now: version and size in bytes."""

    version: str
    bytes: int


class Uploads:
    """The upload bucket: read only."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self.bucket = bucket

    def head(self, key: str) -> Stored | None:
        """Return the current version of an object, or None when there is none."""
        try:
            with aws_errors():
                answer = self._client.head_object(Bucket=self.bucket, Key=key)
        except NotFoundError:
            return None
        return Stored(answer.get("VersionId", "null"), answer["ContentLength"])

    def read(self, key: str, version: str, most: int) -> bytes:
        """Read one version whole, `most` bytes and one more at the most. Raises `NotFoundError`."""
        with aws_errors():
            body = self._client.get_object(Bucket=self.bucket, Key=key, VersionId=version)["Body"]
            return bytes(body.read(most + 1))

    @contextmanager
    def download(self, key: str, version: str) -> Iterator[tuple[BinaryIO, str]]:
        """Give one version as a seekable temporary file with its SHA-256 (hex). Memory: one chunk of 1 MiB."""
        with tempfile.TemporaryFile() as file:
            digest = hashlib.sha256()
            with aws_errors():
                body = self._client.get_object(Bucket=self.bucket, Key=key, VersionId=version)["Body"]
                for chunk in body.iter_chunks(CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
            file.seek(0)
            yield cast("BinaryIO", file), digest.hexdigest()

    def page(self, prefix: str, after: str | None, most: int) -> list[str]:
        """List up to `most` keys under a prefix, those after `after`, in S3's order."""
        more: dict[str, Any] = {"StartAfter": after} if after else {}
        with aws_errors():
            answer = self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=most, **more)
        return [entry["Key"] for entry in answer.get("Contents", [])]


class Links:
    """Presigned links to versions of uploaded objects, signed by a small role assumed for that purpose.

    The role's session is new each time, so a link's end is known: one hour from now. SigV4, regional virtual-host
    address, VersionId (nobody swaps the voice of a paid task), slashes of the key as they are, the right content type.
    """

    def __init__(self, sts: STSClient, role_arn: str, bucket: str) -> None:
        self._sts = sts
        self._role_arn = role_arn
        self._bucket = bucket

    def sign(self, *files: tuple[str, str, str]) -> list[str]:
        """Return a link for each (key, version, type suffix such as ".png"), all good for an hour from now."""
        with aws_errors():
            session = self._sts.assume_role(
                RoleArn=self._role_arn, RoleSessionName="links", DurationSeconds=LINK_SECONDS
            )["Credentials"]
        client = boto3.client(
            "s3",
            region_name=self._sts.meta.region_name,
            aws_access_key_id=session["AccessKeyId"],
            aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=session["SessionToken"],
            config=Config(
                signature_version="s3v4",
                # Regional even in us-east-1: the global address may answer with a redirect.
                s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
            ),
        )
        links = []
        for key, version, suffix in files:
            params = {"Bucket": self._bucket, "Key": key, "ResponseContentType": CONTENT_TYPES[suffix]}
            if version != "null":  # a bucket whose versioning was suspended
                params["VersionId"] = version
            links.append(client.generate_presigned_url("get_object", Params=params, ExpiresIn=LINK_SECONDS))
        return links


def _is_ours(metadata: dict[str, str], report: dict[str, Any]) -> bool:
    """Whether an object under a report's key is a report of the same job; anybody may have put something there."""
    return metadata.get("job") == report["job"] and metadata.get("revision", "").isdecimal()


class Results:
    """The results bucket: reports and videos."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self.bucket = bucket

    def put_report(self, key: str, report: dict[str, Any], etag: str | None) -> str:
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
                        Key=key,
                        Body=body,
                        ContentType="application/json; charset=utf-8",
                        CacheControl="no-cache",
                        Metadata={"job": report["job"], "revision": str(report["revision"])},
                        **condition,
                    )
                return answer["ETag"]
            except (ConflictError, NotFoundError):
                there = self._report(key)
            if there is None:
                etag = None
            elif _is_ours(there[1], report) and int(there[1]["revision"]) >= report["revision"]:
                return there[0]
            else:
                etag = there[0]
        raise TryLaterError("a report is being written by too many at once")

    def _report(self, key: str) -> tuple[str, dict[str, str]] | None:
        try:
            with aws_errors():
                answer = self._client.head_object(Bucket=self.bucket, Key=key)
        except NotFoundError:
            return None
        return answer["ETag"], answer["Metadata"]

    def metadata(self, key: str) -> dict[str, str] | None:
        """Return the metadata of a video, or None when it is gone."""
        try:
            with aws_errors():
                return self._client.head_object(Bucket=self.bucket, Key=key)["Metadata"]
        except NotFoundError:
            return None

    def put_video(self, key: str, file: BinaryIO, metadata: dict[str, str]) -> None:
        """Put a whole, checked video under its final name: nobody ever sees a half one (one PUT, up to 5 GB)."""
        with aws_errors():
            self._client.put_object(Bucket=self.bucket, Key=key, Body=file, ContentType="video/mp4", Metadata=metadata)
