"""What submit reads itself, and what it asks prepare to read: once, and again where no answer came."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from portraitcast.adapters.queues import Queue
from portraitcast.domain.uploads import Asset, Facts, Upload
from portraitcast.errors import NotFoundError, UnreadableObjectError
from portraitcast.workflows.read_upload import ASK_AGAIN_SECONDS, ReadUpload
from unit.samples import NOW, upload

if TYPE_CHECKING:
    from portraitcast.adapters.buckets import Uploads

STALE = Facts("a" * 64, "m4a", 6.05, plain=False, asset=Asset("assets/a-1.wav", "b" * 64, 9000, "audio/wav"))


class Fakes:
    """A table, a bucket, a queue and a clock, noting what is asked of them."""

    def __init__(self, content: bytes | Exception = b"{}") -> None:
        self.now = NOW
        self.kept: list[Upload] = []
        self.sent: list[dict[str, Any]] = []
        self.content = content
        queue = Queue(cast("Any", self), "media")
        self.reading = ReadUpload(cast("Any", self), cast("Uploads", self), queue, clock=lambda: self.now)

    def keep_reading(self, upload: Upload) -> None:
        self.kept.append(upload)

    def read(self, *_: object) -> bytes:
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def head(self, _: str) -> None:
        if isinstance(self.content, Exception):
            raise self.content

    def send_message(self, **asked: Any) -> None:
        assert (asked["QueueUrl"], asked["DelaySeconds"]) == ("media", 0)
        self.sent.append(json.loads(asked["MessageBody"]))


@pytest.mark.parametrize(
    ("key", "kind"), [("acme/line-01.m4a", "voice"), ("acme/anna.heic", "portrait"), ("日本/声 1.mp4", "voice")]
)
def test_an_order_names_the_very_version(key: str, kind: str) -> None:
    fakes = Fakes()
    fakes.reading.ask(upload(key, version="v7", etag="e7", bytes=4711))
    (message,) = fakes.sent
    assert message["prepare"] == {"key": key, "version": "v7", "etag": "e7", "kind": kind, "bytes": 4711}


def test_prepare_is_asked_once_and_again_in_time() -> None:
    """An answer comes within minutes or not at all: the order was lost, or lies among the dead letters."""
    fakes = Fakes()
    asked = fakes.reading.ask(upload())
    assert asked is not None
    assert asked.asked_at == NOW
    fakes.now += ASK_AGAIN_SECONDS - 1
    assert fakes.reading.ask(asked) is None
    assert len(fakes.sent) == 1
    fakes.now += 1
    again = fakes.reading.ask(asked)
    assert again is not None
    assert again.asked_at == NOW + ASK_AGAIN_SECONDS
    assert len(fakes.sent) == 2


def test_asking_anew_writes_no_old_facts() -> None:
    """An answer may be there before it is noted that prepare was asked: nothing may be written over it."""
    fakes = Fakes()
    asked = fakes.reading.ask(upload(facts=STALE))
    assert asked == upload(asked_at=NOW)


@pytest.mark.parametrize(
    ("content", "text"), [(b'{"model": "emo-v1"}', '{"model": "emo-v1"}'), (b"\xff", None), (b" " * 70_000, None)]
)
def test_settings_are_read_here(content: bytes, text: str | None) -> None:
    fakes = Fakes(content)
    noted = upload("acme/line-01.json", unread=True)
    assert fakes.reading.settings(noted) == replace(noted, unread=False, text=text)
    assert fakes.kept == [replace(noted, unread=False, text=text)]


def test_settings_that_s3_never_hands_out() -> None:
    """A problem of the file, told to its owner."""
    fakes = Fakes(UnreadableObjectError("it lies in the storage class GLACIER"))
    read = fakes.reading.settings(upload("acme/line-01.json", unread=True))
    assert read.facts is not None
    assert read.facts.problem is not None
    assert read.facts.problem.code == "FileUnreadable"
    assert "line-01.json" in read.facts.problem.message
    assert "GLACIER" in str(read.facts.problem.measured)
    assert fakes.kept == [read]


def test_settings_that_are_gone() -> None:
    fakes = Fakes(NotFoundError("no such version"))
    with pytest.raises(NotFoundError):
        fakes.reading.settings(upload("acme/line-01.json", unread=True))
    assert fakes.kept == []


def test_what_lies_there_now() -> None:
    assert Fakes().reading.there_now(upload().name) == upload(version="", bytes=0, noticed_at=NOW, deleted=True)
    unreadable = Fakes(UnreadableObjectError("no key for it")).reading.there_now(upload().name)
    assert unreadable.facts is not None
    assert unreadable.facts.problem is not None
    assert unreadable.facts.problem.code == "FileUnreadable"
