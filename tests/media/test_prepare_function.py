"""The prepare function against moto: messages in, assets and answers out, the same however often."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from film_makers import clicks, film
from media_makers import encode, marked, tone, turned, wav_bytes
from moto import mock_aws

from portraitcast_media.facts import Asset
from portraitcast_media.problems import RefusedError
from preparing import Upload
from storage import Storage, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
CONTEXT = SimpleNamespace(function_name="prepare", memory_limit_in_mb=3008, invoked_function_arn="arn",
                          aws_request_id="1", get_remaining_time_in_millis=lambda: 60_000)  # fmt: skip


class Stack:
    """Two buckets, the answers queue, and the function as Lambda loads it."""

    def __init__(self, app: ModuleType) -> None:
        self.app = app
        self.s3 = boto3.client("s3")
        self.sqs = boto3.client("sqs")
        for bucket in ("uploads", "work"):
            self.s3.create_bucket(Bucket=bucket)
        self.s3.put_bucket_versioning(Bucket="uploads", VersioningConfiguration={"Status": "Enabled"})
        self.queue = self.sqs.create_queue(QueueName="answers")["QueueUrl"]

    def drop(self, key: str, content: bytes, **more: Any) -> str:
        return str(self.s3.put_object(Bucket="uploads", Key=key, Body=content, **more).get("VersionId", "null"))

    def message(self, key: str, version: str, kind: str, size: int, receives: int = 1, **more: Any) -> dict[str, Any]:
        body = {"prepare": {"key": key, "version": version, "kind": kind, "bytes": size, **more}}
        return {"messageId": key, "body": json.dumps(body), "eventSource": "aws:sqs", "receiptHandle": "r",
                "attributes": {"ApproximateReceiveCount": str(receives)}}  # fmt: skip

    def invoke(self, *records: dict[str, Any]) -> list[str]:
        """Return the messages that failed."""
        answer = self.app.handler({"Records": list(records)}, CONTEXT)
        return [failed["itemIdentifier"] for failed in answer["batchItemFailures"]]

    def answers(self) -> list[dict[str, Any]]:
        found = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"])["prepared"] for message in found]

    def work(self) -> dict[str, bytes]:
        names = [entry["Key"] for entry in self.s3.list_objects_v2(Bucket="work").get("Contents", [])]
        return {name: self.s3.get_object(Bucket="work", Key=name)["Body"].read() for name in names}


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "test")
    with mock_aws():
        spec = importlib.util.spec_from_file_location("prepare_app", ROOT / "functions" / "prepare" / "app.py")
        assert spec
        assert spec.loader
        app = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(app)
        made = Stack(app)
        for name, value in (("UPLOAD_BUCKET", "uploads"), ("WORK_BUCKET", "work"), ("ANSWERS_QUEUE_URL", made.queue),
                            ("MAX_VOICE_SECONDS", "60"), ("UPLOAD_PREFIX", "")):  # fmt: skip
            monkeypatch.setenv(name, value)
        yield made


def m4a(seconds: float = 2) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return encode(Path(folder) / "x.m4a", "aac", tone(seconds, 44100), 44100, container="ipod").read_bytes()


def jpeg(orientation: int = 1) -> bytes:
    import io  # noqa: PLC0415

    image, exif = turned(marked(), orientation)
    made = io.BytesIO()
    image.save(made, "JPEG", exif=exif, quality=95)
    return made.getvalue()


# ---------------------------------------------------------------- the queue's verb


def test_a_voice_memo(stack: Stack) -> None:
    content = m4a()
    version = stack.drop("acme/ünï code.m4a", content)
    assert stack.invoke(stack.message("acme/ünï code.m4a", version, "voice", len(content))) == []
    (answer,) = stack.answers()
    assert (answer["key"], answer["version"]) == ("acme/ünï code.m4a", version)
    facts = answer["facts"]
    assert facts["seconds"] == pytest.approx(2, abs=0.05)
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    assert facts["changes"] == ["converted from AAC in M4A to WAV"]
    name = f"assets/{facts['sha256']}-1.wav"
    assert facts["asset"] == {"key": name, "sha256": hashlib.sha256(stack.work()[name]).hexdigest(),
                              "bytes": len(stack.work()[name]), "type": "audio/wav"}  # fmt: skip
    assert stack.s3.head_object(Bucket="work", Key=name)["ContentType"] == "audio/wav"


def test_a_photo_turned_by_exif(stack: Stack) -> None:
    content = jpeg(6)
    version = stack.drop("anna.jpg", content)
    stack.invoke(stack.message("anna.jpg", version, "portrait", len(content)))
    (answer,) = stack.answers()
    assert (answer["facts"]["width"], answer["facts"]["height"], answer["facts"]["plain"]) == (480, 640, False)
    assert len(stack.work()) == 1


def test_plain_files_make_no_assets(stack: Stack) -> None:
    voice, portrait = wav_bytes(tone(1, 16000), 16000), jpeg()
    records = [
        stack.message("a.wav", stack.drop("a.wav", voice), "voice", len(voice)),
        stack.message("a.jpg", stack.drop("a.jpg", portrait), "portrait", len(portrait)),
    ]
    assert stack.invoke(*records) == []
    assert [answer["facts"]["asset"] for answer in stack.answers()] == [None, None]
    assert stack.work() == {}


def test_the_version_that_was_asked_for(stack: Stack) -> None:
    old = wav_bytes(tone(1, 16000), 16000)
    version = stack.drop("a.wav", old)
    stack.drop("a.wav", wav_bytes(tone(3, 16000), 16000))
    stack.invoke(stack.message("a.wav", version, "voice", len(old)))
    assert stack.answers()[0]["facts"]["seconds"] == 1


def test_a_bucket_without_versions(stack: Stack) -> None:
    stack.s3.create_bucket(Bucket="plain")
    content = wav_bytes(tone(1, 16000), 16000)
    stack.s3.put_object(Bucket="plain", Key="a.wav", Body=content)
    stack.app.preparing()._bucket = "plain"  # in place of a stack of its own
    stack.invoke(stack.message("a.wav", "null", "voice", len(content)))
    assert stack.answers()[0]["facts"]["seconds"] == 1


def test_repeated_messages_do_no_harm(stack: Stack) -> None:
    """The same answer, and the asset is put once."""
    content = m4a()
    version = stack.drop("a.m4a", content)
    record = stack.message("a.m4a", version, "voice", len(content))
    stack.invoke(record)
    (name,) = stack.work()
    first = stack.s3.head_object(Bucket="work", Key=name)["LastModified"]
    stack.invoke(record)
    one, two = stack.answers()
    assert one == two
    assert stack.s3.head_object(Bucket="work", Key=name)["LastModified"] == first


def test_one_asset_for_many_uploads(stack: Stack) -> None:
    content = m4a()
    for key in ("a.m4a", "b/c.mp4"):
        stack.invoke(stack.message(key, stack.drop(key, content), "voice", len(content)))
    assert len(stack.work()) == 1
    assert len({answer["facts"]["asset"]["key"] for answer in stack.answers()}) == 1


def test_an_old_asset_is_made_anew(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would expire before a job that waits uses it."""
    storage = Storage(stack.s3, "work")
    stack.s3.put_object(Bucket="work", Key="assets/x", Body=b"abc")
    assert storage.has("assets/x")
    assert storage.has("assets/x", 3)
    assert not storage.has("assets/x", 4)
    assert not storage.has("assets/y")
    monkeypatch.setattr("storage.FRESH_DAYS", 0)
    assert not storage.has("assets/x")


@pytest.mark.parametrize(
    ("key", "kind", "content", "code"),
    [
        ("a.wav", "voice", b"", "VoiceEmpty"),
        ("a.wav", "voice", b"<html>", "VoiceUnreadable"),
        ("a.wav", "voice", wav_bytes(tone(61, 8000), 8000), "VoiceTooLong"),
        ("a.wav", "voice", wav_bytes(tone(1, 8000, level=0), 8000), "VoiceSilent"),
        ("a.jpg", "portrait", b"", "PortraitUnreadable"),
        ("a.jpg", "portrait", b"GIF89a", "PortraitUnreadable"),
    ],
)
def test_refusals(key: str, kind: str, content: bytes, code: str, stack: Stack) -> None:
    version = stack.drop(key, content)
    assert stack.invoke(stack.message(key, version, kind, len(content))) == []
    (answer,) = stack.answers()
    assert answer["problem"]["code"] == code
    assert set(answer["problem"]) == {"code", "message", "what_to_do", "limit", "measured"}
    assert "facts" not in answer


def test_too_big_is_not_downloaded(stack: Stack) -> None:
    """Refused by the event's size: there is no such object at all."""
    stack.invoke(stack.message("a.wav", "v", "voice", 500 * 1_048_576 + 1))
    assert stack.answers()[0]["problem"]["code"] == "VoiceTooBig"


def test_bigger_than_the_event_said(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("preparing.PORTRAIT_MAX_BYTES", "portraitcast_media.prepare.PORTRAIT_MAX_BYTES"):
        monkeypatch.setattr(name, 1000)
    content = jpeg()
    stack.invoke(stack.message("a.jpg", stack.drop("a.jpg", content), "portrait", 1))
    assert stack.answers()[0]["problem"]["code"] == "PortraitTooBig"


def test_gone(stack: Stack) -> None:
    version = stack.drop("a.wav", b"x")
    stack.s3.delete_object(Bucket="uploads", Key="a.wav", VersionId=version)
    stack.invoke(stack.message("a.wav", version, "voice", 1), stack.message("never.wav", "null", "voice", 1))
    assert sorted(stack.answers(), key=lambda answer: answer["key"]) == [
        {"key": "a.wav", "version": version, "etag": "", "gone": True},
        {"key": "never.wav", "version": "null", "etag": "", "gone": True},
    ]


def test_it_killed_three_processes(stack: Stack) -> None:
    """The fourth time its owner is told, and nothing is opened any more."""
    content = wav_bytes(tone(1, 16000), 16000)
    version = stack.drop("a.wav", content)
    stack.invoke(stack.message("a.wav", version, "voice", len(content), receives=3))
    stack.invoke(stack.message("a.wav", version, "voice", len(content), receives=4))
    first, second = stack.answers()
    assert "facts" in first
    assert second["problem"]["code"] == "VoiceUnreadable"
    assert "died of it 3 times" in second["problem"]["message"]


def test_one_bad_message_of_three(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may pass by itself comes again; the others are done."""
    content = wav_bytes(tone(1, 16000), 16000)
    records = [
        stack.message(key, stack.drop(key, content), "voice", len(content)) for key in ("a.wav", "b.wav", "c.wav")
    ]
    real = Storage.fetch

    def fetch(self: Storage, source: Any, path: Path, most: int) -> None:
        if source.key == "b.wav":
            raise error("SlowDown", 503)
        real(self, source, path, most)

    monkeypatch.setattr(Storage, "fetch", fetch)
    assert stack.invoke(*records) == ["b.wav"]
    assert [answer["key"] for answer in stack.answers()] == ["a.wav", "c.wav"]


def test_a_message_that_is_none(stack: Stack) -> None:
    record = stack.message("a", "v", "voice", 1) | {"body": '{"walk": 1}'}
    assert stack.invoke(record) == ["a"]
    with pytest.raises(ValueError, match="no message of the media queue"):
        Upload.from_message({"prepare": {"kind": "film"}})


# ---------------------------------------------------------------- S3 says no


def error(code: str, status: int, message: str = "") -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")


SSE_C = "The object was stored using a form of Server Side Encryption. The correct parameters must be provided …"


@pytest.mark.parametrize(
    ("code", "status", "message", "words"),
    [
        ("InvalidObjectState", 403, "The operation is not valid for the object's storage class", "archive class"),
        ("AccessDenied", 403, "Access Denied", "S3 denies access"),
        ("AccessDenied", 403, "User is not authorized to perform: kms:Decrypt on resource", "KMS key"),
        ("KMS.DisabledException", 400, "is disabled.", "KMS key"),
        ("KMS.NotFoundException", 400, "", "KMS key"),
        ("InvalidRequest", 400, SSE_C, "SSE-C"),
        ("InvalidArgument", 400, "Invalid version id specified", "InvalidArgument"),
    ],
)  # fmt: skip
def test_refused_for_good(code: str, status: int, message: str, words: str) -> None:
    problem = refusal(error(code, status, message), "acme/a.wav")
    assert problem
    assert problem.code == "FileUnreadable"
    assert words in problem.message
    assert "“a.wav”" in problem.message
    assert problem.what_to_do


@pytest.mark.parametrize(
    ("code", "status"),
    [("SlowDown", 503), ("InternalError", 500), ("ServiceUnavailable", 503), ("RequestTimeout", 400),
     ("KMS.ThrottlingException", 400), ("KMS.KMSInternalException", 500), ("ThrottlingException", 400)],
)  # fmt: skip
def test_refused_for_now(code: str, status: int) -> None:
    assert refusal(error(code, status), "a.wav") is None


def test_an_archived_object(stack: Stack) -> None:
    version = stack.drop("a.wav", b"x" * 100, StorageClass="GLACIER")
    assert stack.invoke(stack.message("a.wav", version, "voice", 100)) == []
    assert stack.answers()[0]["problem"]["code"] == "FileUnreadable"


# ---------------------------------------------------------------- the state machine's verbs


def test_cut_then_finish(stack: Stack, tmp_path: Path) -> None:
    """A voice in parts, a video for each, one video of all: as the state machine orders them."""
    voice = wav_bytes(clicks(6, 22050), 22050)
    version = stack.drop("acme/talk.wav", voice)
    sha256 = hashlib.sha256(voice).hexdigest()
    where = {"key": "acme/talk.wav", "version": version}
    order = {"cut": {"voice": where, "sha256": sha256, "seconds": 6.0, "bounds": [2.2, 4.0]}}
    cut = stack.app.handler(order, CONTEXT)
    assert [(part["start"], part["end"]) for part in cut["parts"]] == [(0, 2.2), (2.2, 4.0), (4.0, 6.0)]
    work = stack.work()
    assert all(hashlib.sha256(work[part["key"]]).hexdigest() == part["sha256"] for part in cut["parts"])
    assert stack.app.handler(order, CONTEXT) == cut

    first = 0
    for number, part in enumerate(cut["parts"], 1):
        frames = round(part["seconds"] * 15)
        made = film(tmp_path / "part.mp4", frames, first=first)
        stack.s3.put_object(Bucket="work", Key=f"videos/{number}.mp4", Body=made.read_bytes())
        first += frames
    finish = {"finish": {
        "parts": [{"key": f"videos/{n}.mp4", "seconds": part["seconds"]} for n, part in enumerate(cut["parts"], 1)],
        "voice": where,
        "label": {"mode": "metadata", "producer": "ACME", "produce_id": "j#1"},
        "result": "finished/j.mp4",
        "poster": "finished/j.jpg",
    }}  # fmt: skip
    made = stack.app.handler(finish, CONTEXT)
    assert (made["seconds"], made["frames"], made["key"], made["label_problem"]) == (6.0, 90, "finished/j.mp4", None)
    assert made["ai_label"]["mode"] == "metadata"
    video = stack.work()["finished/j.mp4"]
    assert (len(video), hashlib.sha256(video).hexdigest()) == (made["bytes"], made["sha256"])
    head = stack.s3.head_object(Bucket="work", Key="finished/j.mp4")
    assert head["ContentType"] == "video/mp4"
    assert head["Metadata"]["ai-label"] == "metadata"
    assert stack.work()["finished/j.jpg"][:3] == b"\xff\xd8\xff"
    assert json.loads(json.dumps(made)) == made


def test_one_part_is_handed_on_untouched(stack: Stack, tmp_path: Path) -> None:
    content = film(tmp_path / "part.mp4", 30).read_bytes()
    stack.s3.put_object(Bucket="work", Key="v.mp4", Body=content)
    order = {"join": {"parts": [{"key": "v.mp4", "seconds": 2.0}], "result": "r.mp4"}}
    assert stack.app.handler(order, CONTEXT)["ai_label"] is None
    assert stack.work()["r.mp4"] == content


def test_a_part_that_is_gone_or_broken(stack: Stack) -> None:
    order: dict[str, Any] = {"finish": {"parts": [{"key": "v.mp4", "seconds": 2.0}], "result": "r.mp4"}}
    assert stack.app.handler(order, CONTEXT) == {"gone": "v.mp4"}
    stack.s3.put_object(Bucket="work", Key="v.mp4", Body=b"<html>403</html>")
    assert stack.app.handler(order, CONTEXT)["problem"]["code"] == "VideoUnusable"
    assert "r.mp4" not in stack.work()


@pytest.mark.parametrize("order", [{}, {"cut": {}, "join": {}}, {"sing": {}}])
def test_an_order_that_is_none(order: dict[str, Any], stack: Stack) -> None:
    with pytest.raises(ValueError, match="an order has one of"):
        stack.app.handler(order, CONTEXT)


def test_nothing_is_left_on_the_disk(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = m4a()
    stack.invoke(stack.message("a.m4a", stack.drop("a.m4a", content), "voice", len(content)))
    stack.invoke(stack.message("b.m4a", stack.drop("b.m4a", b"<html>"), "voice", 6))
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_is_removed(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, age in (("prepare-dead", 1000), ("prepare-alive", 10)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    stack.invoke(stack.message("b.m4a", stack.drop("b.m4a", b"<html>"), "voice", 6))
    assert [path.name for path in tmp_path.iterdir()] == ["prepare-alive"]


def test_keep(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"abc")
    storage = Storage(stack.s3, "work")
    asset = Asset("assets/x", hashlib.sha256(b"abc").hexdigest(), 3, "audio/wav")
    assert [storage.keep(asset, file), storage.keep(asset, file)] == [True, False]


def test_refused_carries_its_problem() -> None:
    problem = refusal(error("AccessDenied", 403), "a.wav")
    assert problem
    assert str(RefusedError(problem)) == problem.message
