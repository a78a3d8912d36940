"""The page's server: what it shows of the two buckets, to whom, and what it never gives or takes."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from world import S3Error, client, portrait, s3_answers

import page as page_module
from page import read, serve, still

if TYPE_CHECKING:
    from collections.abc import Iterator

UPLOADS, RESULTS, WORK = "page-uploads", "page-results", "page-work"
VIDEO = bytes(range(256)) * 8
HOSTILE = "<script>alert(1)</script>\"'&/\u202e../../日本 🙂%2e+"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Visitor:
    """A program that asks the page's server."""

    port: int
    s3: Any

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def jobs(self) -> dict[str, Any]:
        answer = self.ask("/jobs")
        assert answer.status == 200
        shown: dict[str, Any] = json.loads(answer.body)
        return shown

    def upload(self, path: str, body: bytes = b"RIFF", **headers: str) -> Answer:
        return self.ask(path, "PUT", body, **({"Origin": f"http://127.0.0.1:{self.port}"} | headers))

    def uploaded(self) -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=UPLOADS).get("Contents", [])]


@pytest.fixture
def visitor(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitor]:
    monkeypatch.setattr(page_module, "LOOK_SECONDS", 0)
    monkeypatch.setattr(page_module, "REST", 0)
    s3 = client("s3")
    for bucket in (UPLOADS, RESULTS, WORK):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_bucket_versioning(Bucket=UPLOADS, VersioningConfiguration={"Status": "Enabled"})
    with serve(s3, UPLOADS, RESULTS, WORK) as address:
        yield Visitor(urlsplit(address).port or 0, s3)


def report(name: str, status: str = "waiting", as_of: str = "2026-01-02T03:04:05.000Z", **more: Any) -> dict[str, Any]:
    job = hashlib.sha256(name.encode()).hexdigest()[:32]
    voice = {"key": f"{name}.mp3", "version": "v1"}
    inputs = {"voice": voice, "portrait": more.pop("portrait", None), "settings": []}
    shown = {"schema": "portraitcast.report/1", "job": job, "name": name, "status": status, "as_of": as_of}
    return shown | {"message": "A sentence.", "inputs": inputs, "video": None} | more


def put_report(visitor: Visitor, name: str, **more: Any) -> None:
    visitor.s3.put_object(Bucket=RESULTS, Key=f"{name}.json", Body=json.dumps(report(name, **more)).encode())


def names(visitor: Visitor) -> list[str]:
    return [job["report"]["name"] for job in visitor.jobs()["jobs"]]


# ---------------------------------------------------------------------- jobs
def test_an_empty_stack_shows_no_jobs_and_where_to_drop_files(visitor: Visitor) -> None:
    shown = visitor.jobs()
    assert (shown["total"], shown["jobs"]) == (0, [])
    assert (shown["upload_bucket"], shown["results_bucket"]) == (UPLOADS, RESULTS)


def test_a_changed_report_is_shown_at_the_next_look(visitor: Visitor) -> None:
    put_report(visitor, "acme/line-01", status="queued")
    assert visitor.jobs()["jobs"][0]["report"]["status"] == "queued"
    put_report(visitor, "acme/line-01", status="rendering")
    assert visitor.jobs()["jobs"][0]["report"]["status"] == "rendering"
    visitor.s3.delete_object(Bucket=RESULTS, Key="acme/line-01.json")
    assert visitor.jobs()["jobs"] == []


def test_an_unchanged_report_is_read_once(visitor: Visitor) -> None:
    reads: list[str] = []
    put_report(visitor, "acme/line-01")
    put_report(visitor, "acme/line-02")
    name = "before-call.s3.GetObject"
    visitor.s3.meta.events.register(name, lambda params, **_: reads.append(params["url_path"]), unique_id="reads")
    try:
        assert names(visitor) == names(visitor)
    finally:
        visitor.s3.meta.events.unregister(name, unique_id="reads")
    assert len(reads) == 2


def test_many_browsers_are_one_look(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "LOOK_SECONDS", 3600)
    looks: list[object] = []
    visitor.s3.meta.events.register("before-call.s3.ListObjectsV2", lambda **_: looks.append(1), unique_id="looks")
    try:
        assert {visitor.ask("/jobs").status for _ in range(5)} == {200}
    finally:
        visitor.s3.meta.events.unregister("before-call.s3.ListObjectsV2", unique_id="looks")
    assert len(looks) == 1


def test_the_newest_job_comes_first_and_keeps_its_place_through_its_states(visitor: Visitor) -> None:
    put_report(visitor, "early", as_of="2026-01-01T00:00:00.000Z")
    put_report(visitor, "late", as_of="2026-01-01T00:00:01.000Z")
    assert names(visitor) == ["late", "early"]
    put_report(visitor, "early", status="done", as_of="2026-01-01T00:00:02.000Z")
    assert names(visitor) == ["late", "early"]


def test_only_so_many_jobs_are_shown_and_the_full_count_stands_beside_them(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "MOST", 3)
    for number in range(5):
        put_report(visitor, f"acme/{number}")
    shown = visitor.jobs()
    assert (shown["total"], len(shown["jobs"])) == (5, 3)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"7", b"[]", b"{}", b'{"schema": "portraitcast.report/1"}', b"[" * 100_000, b'{"schema": NaN}'],
    ids=["empty", "no text", "a number", "a list", "nothing in it", "all but a report", "too deep", "no JSON"],
)
def test_a_json_that_is_no_report_is_left_out(content: bytes) -> None:
    assert read(content) is None


ODD = {
    "no name": {"name": None},
    "a name that is none": {"name": 7},
    "a voice that is a text": {"inputs": {"voice": "a.mp3", "portrait": None}},
    "inputs that are a list": {"inputs": []},
    "half a surrogate": {"video": {"key": "\ud83d", "sha256": ""}},
}


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
def test_one_odd_json_stops_no_list(visitor: Visitor, fields: dict[str, Any]) -> None:
    """Anybody may put a JSON among the results: the others are shown all the same."""
    put_report(visitor, "acme/line-01")
    odd = {name: value for name, value in {**report("odd"), **fields}.items() if value is not None}
    visitor.s3.put_object(Bucket=RESULTS, Key="odd.json", Body=json.dumps(odd).encode())
    assert names(visitor) == ["acme/line-01"]


def test_an_archived_json_stops_no_list(visitor: Visitor) -> None:
    put_report(visitor, "acme/line-01")
    put_report(visitor, "odd")

    with s3_answers(S3Error(403, "InvalidObjectState", "It is archived."), "odd.json"):
        assert names(visitor) == ["acme/line-01"]


def test_a_not_a_number_in_a_report_does_not_reach_the_browser() -> None:
    assert read(json.dumps(report("a")).encode()) is not None
    assert read(json.dumps(report("a", tries=float("nan"))).encode()) is None


def test_unchanged_jobs_are_not_sent_again(visitor: Visitor) -> None:
    put_report(visitor, "acme/line-01")
    etag = visitor.ask("/jobs").headers["etag"]
    again = visitor.ask("/jobs", If_None_Match=etag)
    assert (again.status, again.body) == (304, b"")
    put_report(visitor, "acme/line-01", status="done")
    assert visitor.ask("/jobs", If_None_Match=etag).status == 200


def test_a_stack_that_does_not_answer_is_said(visitor: Visitor) -> None:
    visitor.s3.delete_bucket(Bucket=RESULTS)
    answer = visitor.ask("/jobs")
    assert (answer.status, answer.body) == (502, b"The stack said: NoSuchBucket\n")


# ---------------------------------------------------------------------- pictures and videos
def test_the_portrait_is_the_version_that_the_job_uses_whatever_its_name(visitor: Visitor) -> None:
    key = f"{HOSTILE}.png"
    version = visitor.s3.put_object(Bucket=UPLOADS, Key=key, Body=portrait(1))["VersionId"]
    visitor.s3.put_object(Bucket=UPLOADS, Key=key, Body=portrait(2))
    put_report(visitor, HOSTILE, portrait={"key": key, "version": version})

    job = visitor.jobs()["jobs"][0]
    answer = visitor.ask(job["portrait"])

    assert job["report"]["name"] == HOSTILE
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "image/png", portrait(1))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n----", "image/png"),
        (b"\xff\xd8\xff\xe0--------", "image/jpeg"),
        (b"BM----------", "image/bmp"),
        (b"RIFF\n\n\n\nWEBP", "image/webp"),
    ],
)
def test_a_picture_has_the_type_of_its_content(visitor: Visitor, start: bytes, kind: str) -> None:
    visitor.s3.put_object(Bucket=UPLOADS, Key="a.svg", Body=start + b"rest", ContentType="text/html")
    answer = visitor.ask("/portrait?key=a.svg")
    assert (answer.headers["content-type"], answer.body) == (kind, start + b"rest")


@pytest.mark.parametrize("content", [b"<svg onload='alert(1)'/>", b"<!doctype html><script>", b"RIFF----WAVE", b""])
def test_what_is_no_picture_is_not_given_out(visitor: Visitor, content: bytes) -> None:
    visitor.s3.put_object(Bucket=UPLOADS, Key="a.png", Body=content, ContentType="image/svg+xml")
    assert visitor.ask("/portrait?key=a.png").status == 404


@pytest.fixture
def video(visitor: Visitor) -> str:
    """Return the path of a video."""
    key = "acme/line 01+ü.mp4"
    visitor.s3.put_object(Bucket=RESULTS, Key=key, Body=VIDEO, ContentType="text/html")
    put_report(visitor, "acme/line 01+ü", status="done", video={"key": key, "sha256": "0" * 64})
    path: str = visitor.jobs()["jobs"][0]["video"]
    return path


def test_a_video_is_given_whole_and_says_that_parts_can_be_had(visitor: Visitor, video: str) -> None:
    answer = visitor.ask(video)
    assert (answer.status, answer.body) == (200, VIDEO)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("wanted", "part", "said"),
    [
        ("bytes=0-", VIDEO, "bytes 0-2047/2048"),
        ("bytes=100-199", VIDEO[100:200], "bytes 100-199/2048"),
        ("bytes=2000-9999", VIDEO[2000:], "bytes 2000-2047/2048"),
        ("bytes=-48", VIDEO[-48:], "bytes 2000-2047/2048"),
    ],
)
def test_a_part_of_a_video_is_given(visitor: Visitor, video: str, wanted: str, part: bytes, said: str) -> None:
    answer = visitor.ask(video, Range=wanted)
    assert (answer.status, answer.headers["content-range"], answer.body) == (206, said, part)


def test_a_part_behind_the_end_is_refused(visitor: Visitor, video: str) -> None:
    assert visitor.ask(video, Range="bytes=2048-").status == 416


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=٣-"])
def test_what_is_no_single_range_is_ignored(visitor: Visitor, video: str, wanted: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", visitor.port, timeout=30)
    connection.request("GET", video, headers={"Range": wanted.encode()})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, VIDEO)
    connection.close()


def test_a_part_of_a_video_that_was_replaced_is_not_given(visitor: Visitor, video: str) -> None:
    etag = visitor.ask(video).headers["etag"]
    assert visitor.ask(video, Range="bytes=5-9", If_Range=etag).body == VIDEO[5:10]
    visitor.s3.put_object(Bucket=RESULTS, Key="acme/line 01+ü.mp4", Body=VIDEO[::-1])
    again = visitor.ask(video, Range="bytes=5-9", If_Range=etag)
    assert (again.status, again.body) == (200, VIDEO[::-1])


def test_the_head_of_a_video_comes_without_it(visitor: Visitor, video: str) -> None:
    answer = visitor.ask(video, "HEAD")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "2048", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/video?key=acme%2Fline-01.json",
        "/video?key=line.mp3",
        "/video?key=..%2F" + UPLOADS + "%2Fsecret.mp4",
        "/video?key=none.mp4",
        "/video",
        "/portrait?key=%2Fetc%2Fpasswd",
        "/portrait?key=..%2F..%2Fpage.py",
        "/portrait?key=",
        "/portrait",
        "/page.py",
        "/../local/run.py",
        "/%2e%2e/local/run.py",
        "//etc/passwd",
        "/static/../../etc/passwd",
        "/favicon.ico",
    ],
)
def test_nothing_but_pictures_and_videos_of_the_two_buckets_is_given_out(visitor: Visitor, path: str) -> None:
    visitor.s3.put_object(Bucket=RESULTS, Key="acme/line-01.json", Body=b"{}")
    visitor.s3.put_object(Bucket=UPLOADS, Key="secret.mp4", Body=VIDEO)
    assert visitor.ask(path).status == 404


@pytest.mark.parametrize("path", ["/video?key=%ff.mp4", "/video?" + "&".join("abcdefg")])
def test_an_address_that_cannot_be_read_is_refused(visitor: Visitor, path: str) -> None:
    assert visitor.ask(path).status == 400


# ---------------------------------------------------------------------- who may ask, and what browsers are told
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:{port}", ""])
def test_a_site_that_points_its_own_name_here_gets_nothing(visitor: Visitor, host: str) -> None:
    named = host.format(port=visitor.port)
    assert visitor.ask("/jobs", Host=named).status == 403
    assert visitor.upload("/upload?key=a.mp3", Host=named, Origin=f"http://{named}").status == 403
    assert visitor.uploaded() == []


def test_the_page_may_run_its_own_script_only_and_load_nothing_from_elsewhere(visitor: Visitor) -> None:
    answer = visitor.ask("/")
    rules = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
    (script,) = re.findall(r"<script>(.*?)</script>", answer.body.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert (rules["media-src"], rules["connect-src"]) == ("'self'", "'self'")
    assert rules["frame-ancestors"] == "'none'"
    assert not re.findall(r"(?:src|href|action)=.https?:", answer.body.decode())
    assert "innerHTML" not in script


@pytest.mark.parametrize("path", ["/", "/jobs", "/video?key=none.mp4", "/nothing"])
def test_every_answer_tells_browsers_not_to_guess_types_or_share(visitor: Visitor, path: str) -> None:
    headers = visitor.ask(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_no_answer_holds_credentials(visitor: Visitor) -> None:
    put_report(visitor, "acme/line-01")
    said = visitor.ask("/").body + visitor.ask("/jobs").body
    assert b"testing" not in said
    assert b"X-Amz-" not in said


# ---------------------------------------------------------------------- files that are dropped on the page
def test_a_file_dropped_on_the_page_comes_into_the_upload_bucket(visitor: Visitor) -> None:
    answer = visitor.upload(f"/upload?key={quote(HOSTILE, safe='')}.mp3", VIDEO)
    assert answer.status == 201
    assert visitor.uploaded() == [f"{HOSTILE}.mp3"]
    assert visitor.s3.get_object(Bucket=UPLOADS, Key=f"{HOSTILE}.mp3")["Body"].read() == VIDEO


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:{port}"])
def test_a_file_that_another_site_sends_is_refused(visitor: Visitor, origin: str) -> None:
    assert visitor.upload("/upload?key=a.mp3", Origin=origin.format(port=visitor.port)).status == 403
    assert visitor.ask("/upload?key=a.mp3", "PUT", b"RIFF").status == 403
    assert visitor.ask("/upload?key=a.mp3", "OPTIONS", Origin="http://evil.example").status == 501
    assert visitor.uploaded() == []


@pytest.mark.parametrize("key", ["", "a" * 1025, "%F0%9F%99%82" * 257])
def test_a_name_that_s3_does_not_take_is_refused(visitor: Visitor, key: str) -> None:
    answer = visitor.upload(f"/upload?key={key}")
    assert (answer.status, answer.body) == (400, b"A name has 1 to 1024 bytes, with its folder.\n")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(visitor: Visitor) -> None:
    answer = visitor.upload("/upload?key=a.png", b"", Content_Length=str(64 * 1024**2 + 1))
    assert (answer.status, answer.body) == (413, b"The file is larger than 64 MB.\n")


def test_a_file_of_unknown_length_is_refused(visitor: Visitor) -> None:
    assert visitor.upload("/upload?key=a.png", b"", Content_Length="-1").status == 411


# ---------------------------------------------------------------------- the page in a file
def test_the_page_in_a_file_holds_one_job_and_leads_to_the_files_beside_it() -> None:
    text = still(report("demo/line", status="done"), "a b#?.png", "javascript:a.mp4")
    (content,) = re.findall(r'<script type="application/json" id="still">(.*?)</script>', text, re.DOTALL)
    (job,) = json.loads(content)["jobs"]
    assert job["report"]["name"] == "demo/line"
    assert (job["portrait"], job["video"]) == ("./a%20b%23%3F.png", "./javascript%3Aa.mp4")
    assert "Content-Security-Policy" in text


def test_no_name_breaks_out_of_the_page_in_a_file() -> None:
    plain, hostile = still(report("a"), "a.png", "a.mp4"), still(report(HOSTILE + "<!--"), "a.png", "a.mp4")
    (content,) = re.findall(r'id="still">(.*?)</script>', hostile, re.DOTALL)
    assert json.loads(content)["jobs"][0]["report"]["name"] == HOSTILE + "<!--"
    assert "<" not in content
    assert hostile.count("<script") == plain.count("<script")
