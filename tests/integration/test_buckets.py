"""The two buckets: reading one version, links made of the right parts, and reports that never go back."""

from __future__ import annotations

import io
import json
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from world import REGION, RESULTS, UPLOADS, WORK, make_bucket

from portraitcast.adapters.buckets import Results, Uploads
from portraitcast.adapters.presign import CONTENT_TYPES, LinkedObject, Links
from portraitcast.domain.job import Video
from portraitcast.errors import ConflictError, NotFoundError, TryLaterError

ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/links"


@pytest.fixture
def s3(aws: None) -> Any:
    make_bucket(RESULTS)
    return make_bucket(UPLOADS)


def put(s3: Any, key: str, body: bytes) -> str:
    return str(s3.put_object(Bucket=UPLOADS, Key=key, Body=body)["VersionId"])


# ---------------------------------------------------------------------- uploads
def test_the_current_version_or_none(s3: Any) -> None:
    uploads = Uploads(s3, UPLOADS)
    assert uploads.head("a.wav") is None
    put(s3, "a.wav", b"one")
    version = put(s3, "a.wav", b"three")
    stored = uploads.head("a.wav")
    assert stored is not None
    assert (stored.version, stored.bytes) == (version, 5)
    s3.delete_object(Bucket=UPLOADS, Key="a.wav")
    assert uploads.head("a.wav") is None


def test_a_version_is_read_as_it_was(s3: Any) -> None:
    uploads = Uploads(s3, UPLOADS)
    version = put(s3, "a.json", b"first")
    put(s3, "a.json", b"second")
    s3.delete_object(Bucket=UPLOADS, Key="a.json")
    assert uploads.read("a.json", version, "", 100) == b"first"
    assert uploads.read("a.json", version, "", 3) == b"firs", "one byte more tells that there is more"
    with uploads.download("a.json", version, "") as (file, digest):
        assert file.read() == b"first"
        assert digest == "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"


def test_a_version_that_is_gone_is_not_found(s3: Any) -> None:
    uploads = Uploads(s3, UPLOADS)
    version = put(s3, "a.wav", b"x")
    s3.delete_object(Bucket=UPLOADS, Key="a.wav", VersionId=version)
    with pytest.raises(NotFoundError):
        uploads.read("a.wav", version, "", 10)
    with pytest.raises(NotFoundError), uploads.download("a.wav", version, ""):
        pass


def test_an_unreachable_bucket_is_for_later(s3: Any) -> None:
    with pytest.raises(TryLaterError):
        Uploads(s3, "no-such-bucket").page("", None, 10)


def test_keys_are_listed_in_pages(s3: Any) -> None:
    uploads = Uploads(s3, UPLOADS)
    for n in range(5):
        put(s3, f"acme/{n}.wav", b"x")
    put(s3, "other/1.wav", b"x")
    first = [there.key for there in uploads.page("acme/", None, 3)]
    assert (first, [there.key for there in uploads.page("acme/", first[-1], 3)]) == (
        ["acme/0.wav", "acme/1.wav", "acme/2.wav"],
        ["acme/3.wav", "acme/4.wav"],
    )


# ---------------------------------------------------------------------- links
def link(key: str, kind: str = "wav", *, region: str = REGION, version: str = "v 1") -> str:
    links = Links(boto3.client("sts", region_name=region), ROLE, UPLOADS, WORK)
    return links.sign(LinkedObject(key, version, CONTENT_TYPES[kind]))[0]


@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1", "cn-north-1"])
def test_a_links_host_is_regional_and_virtual(aws: None, region: str) -> None:
    parts = urlsplit(link("acme/line.wav", region=region))
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    assert (parts.scheme, parts.netloc) == ("https", f"{UPLOADS}.s3.{region}.{domain}")


def test_a_link_is_for_one_version_and_one_hour(aws: None) -> None:
    query = parse_qs(urlsplit(link("acme/line.wav")).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["3600"]
    assert query["versionId"] == ["v 1"]
    assert query["X-Amz-SignedHeaders"] == ["host"], "the provider sends no header of ours"
    assert len(query["X-Amz-Signature"][0]) == 64
    assert query["X-Amz-Security-Token"][0]
    assert query["X-Amz-Credential"][0].split("/")[0] != "testing", "not the function's own key"


@pytest.mark.parametrize(("kind", "content_type"), CONTENT_TYPES.items())
def test_a_link_serves_the_type_of_its_content(aws: None, kind: str, content_type: str) -> None:
    """Whatever the file is called."""
    query = parse_qs(urlsplit(link("acme/line.odd", kind)).query)
    assert query["response-content-type"] == [content_type]


@pytest.mark.parametrize("key", ["a/b/c.wav", "ü 名/+%2F'\"&=?#.wav", "a//b.wav", "😀.wav"])
def test_a_links_path_is_its_key(aws: None, key: str) -> None:
    parts = urlsplit(link(key))
    assert unquote(parts.path) == "/" + key
    assert parts.path.count("/") == key.count("/") + 1
    assert "%2f" not in parts.path.lower().replace("%252f", ""), "the service trips over encoded slashes"


def test_a_link_without_a_version(aws: None) -> None:
    assert "versionId" not in link("a.wav", version="null")


def test_links_of_one_create_share_a_session(aws: None) -> None:
    links = Links(boto3.client("sts", region_name=REGION), ROLE, UPLOADS, WORK)
    image, audio = links.sign(LinkedObject("a.png", "v1", "image/png"), LinkedObject("a.wav", "v2", "audio/wav"))
    assert (urlsplit(image).path, urlsplit(audio).path) == ("/a.png", "/a.wav")
    tokens = {parse_qs(urlsplit(url).query)["X-Amz-Security-Token"][0] for url in (image, audio)}
    assert len(tokens) == 1


# ---------------------------------------------------------------------- reports
def report(revision: int, job: str = "j1") -> dict[str, Any]:
    return {"job": job, "revision": revision, "message": "名前"}


def there(s3: Any) -> dict[str, Any]:
    return dict(json.loads(s3.get_object(Bucket=RESULTS, Key="a.json")["Body"].read()))


def test_a_report_is_json_for_browsers(s3: Any) -> None:
    Results(s3, RESULTS).put_report("a.json", report(1), None)
    answer = s3.get_object(Bucket=RESULTS, Key="a.json")
    assert answer["ContentType"] == "application/json; charset=utf-8"
    assert answer["CacheControl"] == "no-cache"
    assert "名前" in answer["Body"].read().decode()


@pytest.mark.parametrize("remembers", [True, False], ids=["knows its ETag", "knows no ETag"])
def test_a_newer_report_replaces_an_older(s3: Any, remembers: bool) -> None:
    results = Results(s3, RESULTS)
    etag = results.put_report("a.json", report(1), None)
    results.put_report("a.json", report(2), etag if remembers else None)
    assert there(s3)["revision"] == 2


@pytest.mark.parametrize("old", [1, 2], ids=["older", "same"])
def test_a_report_never_goes_back(s3: Any, old: int) -> None:
    results = Results(s3, RESULTS)
    first = results.put_report("a.json", report(0), None)
    newest = results.put_report("a.json", report(2), first)
    late = {**report(old), "message": "late"}
    for etag in (first, None):
        assert results.put_report("a.json", late, etag) == newest
    assert there(s3) == report(2)


def test_a_report_that_was_deleted_is_written_anew(s3: Any) -> None:
    results = Results(s3, RESULTS)
    etag = results.put_report("a.json", report(1), None)
    s3.delete_object(Bucket=RESULTS, Key="a.json")
    results.put_report("a.json", report(2), etag)
    assert there(s3)["revision"] == 2


@pytest.mark.parametrize("foreign", [b"mine", json.dumps(report(99, "other")).encode()], ids=["a file", "other job's"])
def test_a_foreign_report_is_replaced(s3: Any, foreign: bytes) -> None:
    s3.put_object(Bucket=RESULTS, Key="a.json", Body=foreign, Metadata={"job": "other", "revision": "99"})
    Results(s3, RESULTS).put_report("a.json", report(1), None)
    assert there(s3)["revision"] == 1


def test_a_foreign_report_with_odd_metadata(s3: Any) -> None:
    s3.put_object(Bucket=RESULTS, Key="a.json", Body=b"x", Metadata={"job": "j1", "revision": "not a number"})
    Results(s3, RESULTS).put_report("a.json", report(1), None)
    assert there(s3)["revision"] == 1


def test_a_newer_report_in_between_stays(s3: Any) -> None:
    results = Results(s3, RESULTS)
    first = results.put_report("a.json", report(1), None)
    results.put_report("a.json", report(3), first)  # another function was faster
    results.put_report("a.json", report(2), first)
    assert there(s3)["revision"] == 3


# ---------------------------------------------------------------------- videos
VIDEO = Video("a.mp4", 5, 0.4, 512, 640, "ab" * 32, RESULTS)


def put_video(s3: Any, body: bytes, mark: str = "j1-1-1", *, over: Any = None) -> None:
    Results(s3, RESULTS).put_video(VIDEO, "j1", mark, io.BytesIO(body), over=over)


def test_a_video_is_put_whole_with_its_metadata(s3: Any) -> None:
    results = Results(s3, RESULTS)
    assert results.video("a.mp4") is None
    put_video(s3, b"video")
    there = results.video("a.mp4")
    assert there is not None
    assert (there.job, there.mark, there.video) == ("j1", "j1-1-1", VIDEO)
    answer = s3.get_object(Bucket=RESULTS, Key="a.mp4")
    assert (answer["ContentType"], answer["Body"].read()) == ("video/mp4", b"video")
    assert answer["ContentDisposition"] == 'attachment; filename="a.mp4"'


def test_keys_begin_behind_the_prefixes(s3: Any) -> None:
    s3.put_object(Bucket=UPLOADS, Key="in/a.wav", Body=b"voice", Metadata={"Order": "4711"})
    s3.put_object(Bucket=UPLOADS, Key="other/a.wav", Body=b"voice")
    uploads, results = Uploads(s3, UPLOADS, "in/"), Results(s3, RESULTS, "out/")
    there = uploads.head("a.wav")
    assert there is not None
    assert there.metadata == {"order": "4711"}
    assert uploads.read("a.wav", there.version, there.etag, 10) == b"voice"
    assert [listed.key for listed in uploads.page("", None, 10)] == ["a.wav"]
    assert uploads.page("", "a.wav", 10) == []
    results.put_report("a.json", report(1), None)
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=RESULTS)["Contents"]] == ["out/a.json"]


def test_a_video_replaces_the_one_that_was_seen_only(s3: Any) -> None:
    results = Results(s3, RESULTS)
    put_video(s3, b"first")
    first = results.video("a.mp4")
    with pytest.raises(ConflictError):
        put_video(s3, b"late")
    put_video(s3, b"second", "j1-2-2", over=first)
    with pytest.raises(ConflictError):
        put_video(s3, b"late", over=first)
    assert s3.get_object(Bucket=RESULTS, Key="a.mp4")["Body"].read() == b"second"
    s3.delete_object(Bucket=RESULTS, Key="a.mp4")
    with pytest.raises(ConflictError):
        put_video(s3, b"late", over=first)


def test_a_foreign_video_has_no_facts(s3: Any) -> None:
    s3.put_object(Bucket=RESULTS, Key="a.mp4", Body=b"x", Metadata={"job": "j1", "seconds": "long"})
    there = Results(s3, RESULTS).video("a.mp4")
    assert there is not None
    assert (there.job, there.mark, there.video) == ("j1", "", None)
