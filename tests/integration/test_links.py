"""Presigned links, by which the provider fetches its inputs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from world import REGION, UPLOADS, WORK

from portraitcast.adapters.aws import client_config
from portraitcast.adapters.buckets import NO_VERSION
from portraitcast.adapters.presign import CONTENT_TYPES, LINK_SECONDS, LinkedObject, Links

ROLE = "arn:aws:iam::123456789012:role/links"


def signed(key: str, version: str = "v-1", kind: str = "png") -> str:
    links = Links(boto3.client("sts", region_name=REGION), ROLE, UPLOADS, WORK)
    return links.sign(LinkedObject(key, version, CONTENT_TYPES[kind]))[0]


@pytest.fixture
def link(aws: None) -> str:
    return signed("acme/Anna & Bob/日本 +1.jpg")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Expires", "3600"),
        ("versionId", "v-1"),
        ("response-content-type", "image/png"),
    ],
)
def test_a_link_carries(link: str, part: str, value: str) -> None:
    assert parse_qs(urlsplit(link).query)[part] == [value]


def test_its_session_lasts_as_long(aws: None) -> None:
    """It is assumed for these links alone, so that their end is known."""
    sts, asked = boto3.client("sts", region_name=REGION), []
    sts.meta.events.register("provide-client-params.sts.AssumeRole", lambda params, **_: asked.append(params))
    (link,) = Links(sts, ROLE, UPLOADS, WORK).sign(LinkedObject("a.wav", "v", "audio/wav"))
    (assumed,) = asked
    query = parse_qs(urlsplit(link).query)
    assert assumed["DurationSeconds"] == LINK_SECONDS == int(query["X-Amz-Expires"][0])
    assert query["X-Amz-Security-Token"]


def test_https_regional_with_plain_slashes(link: str) -> None:
    """And with the key's suffix at the path's end, where the provider looks for it."""
    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc) == ("https", f"{UPLOADS}.s3.{REGION}.amazonaws.com")
    assert parts.path.startswith("/acme/Anna%20%26%20Bob/")
    assert unquote(parts.path) == "/acme/Anna & Bob/日本 +1.jpg"


def test_no_version_where_there_is_none(aws: None) -> None:
    assert "versionId" not in parse_qs(urlsplit(signed("a.png", NO_VERSION)).query)


def test_behind_a_private_endpoint_the_bucket_is_in_the_path(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, where no name leads to <bucket>.host.docker.internal."""
    plain: Any = client_config()
    assert plain.s3 is None
    sts = boto3.client("sts", region_name=REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://host.docker.internal:4566")
    (link,) = Links(sts, ROLE, UPLOADS, WORK).sign(LinkedObject("acme/a.wav", "v", "audio/wav"))
    assert link.startswith(f"http://host.docker.internal:4566/{UPLOADS}/acme/a.wav?")
    private: Any = client_config()
    assert private.s3 == {"addressing_style": "path"}
