"""Presigned links to uploaded objects, for the provider to fetch its inputs by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config

from portraitcast.adapters.aws import aws_errors, has_private_endpoint
from portraitcast.adapters.buckets import NO_VERSION

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

LINK_SECONDS: Final = 3600  # role chaining allows no longer session (IAM, "Roles terms and concepts")
CONTENT_TYPES: Final = {  # of what is passed on as it is
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "bmp": "image/bmp",
    "webp": "image/webp",
}


@dataclass(frozen=True, slots=True)
class LinkedObject:
    """An object to link to, and the content type that it is served with; an asset lies in the work bucket.

    `etag` tells two objects of a bucket without versions apart, where it is read and not linked to.
    """

    key: str
    version: str
    content_type: str
    is_asset: bool = False
    etag: str = ""


class Links:
    """Signs links by a small role assumed for that purpose.

    The role's session is new each time, so a link's end is known: one hour from now. SigV4, regional virtual-host
    address (behind a private endpoint the bucket is in the path), VersionId (nobody swaps the voice of a paid task),
    slashes of the key as they are, the right content type.
    """

    def __init__(
        self, sts: STSClient, role_arn: str, upload_bucket: str, work_bucket: str, upload_prefix: str = ""
    ) -> None:
        self._sts = sts
        self._role_arn = role_arn
        self._upload_bucket = upload_bucket
        self._work_bucket = work_bucket
        self._upload_prefix = upload_prefix

    def sign(self, *objects: LinkedObject) -> list[str]:
        """Return a link for each object, all good for an hour from now."""
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
                s3={
                    "addressing_style": "path" if has_private_endpoint() else "virtual",
                    "us_east_1_regional_endpoint": "regional",
                },
            ),
        )
        links = []
        for linked in objects:
            where = (self._work_bucket, "") if linked.is_asset else (self._upload_bucket, self._upload_prefix)
            params: dict[str, Any] = {
                "Bucket": where[0],
                "Key": where[1] + linked.key,
                "ResponseContentType": linked.content_type,
            }
            if linked.version != NO_VERSION:
                params["VersionId"] = linked.version
            links.append(client.generate_presigned_url("get_object", Params=params, ExpiresIn=LINK_SECONDS))
        return links
