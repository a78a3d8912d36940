"""Files and texts that are made to blow up: each is answered within a second, and in bounded memory."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from fuzz.bounds import SECONDS, SlowError, at_most_bytes, at_most_seconds, judge
from fuzz.targets import MIB, TARGETS, Target
from unit import media_samples as samples

if TYPE_CHECKING:
    from collections.abc import Callable

MEGABYTE = 1_048_576


def boxes(depth: int) -> bytes:
    """Return an MP4 whose boxes lie in each other."""
    inner = b""
    for _ in range(depth):
        inner = struct.pack(">I", len(inner) + 8) + b"moov" + inner
    return samples.mp4(0.1)[:32] + inner


def objects(size: int) -> bytes:
    """Return JSON of the objects that take the most memory for their bytes, some forty times as much."""
    one = b'{"":' * 100 + b"0" + b"}" * 100 + b","
    return (b'{"data":[' + one * (size // len(one)))[:-1] + b"]}"


LIST = bytes([36])  # the provider answers to the call that lists tasks

BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "an MP4 of boxes 100,000 deep": ("videos", lambda: boxes(10_000)),
    "an MP4 of a million empty boxes": ("videos", lambda: samples.mp4(0.1)[:32] + b"\0\0\0\x08free" * 1_000_000),
    "an MP4 of boxes without length": ("videos", lambda: samples.mp4(0.1)[:32] + b"\0\0\0\0moov" * 100_000),
    "settings 1,000 deep": ("settings", lambda: b'{"input":' * 1000 + b"1" + b"}" * 1000),
    "settings 100,000 deep": ("settings", lambda: b"[" * 100_000),
    "settings with a name of 1 MB": ("settings", lambda: json.dumps({"input": {"image_url": "a" * MEGABYTE}}).encode()),
    "settings with a field of 1 MB": ("settings", lambda: json.dumps({"x" * MEGABYTE: 1}).encode()),
    "settings with a number of 100,000 digits": (
        "settings",
        lambda: b'{"input": {"face_bbox": [' + b"9" * 100_000 + b",1,2,3]}}",
    ),
    "settings with a name of 300,000 ups": (
        "settings",
        lambda: json.dumps({"input": {"image_url": "a/../" * 200_000 + "a.png"}}).encode(),
    ),
    "settings of accents": (
        "settings",
        lambda: json.dumps({"input": {"image_url": "e" + "\u0301\u0323" * 5000 + ".png"}}).encode(),
    ),
    "settings of small objects": ("settings", lambda: objects(64_000)),
    "settings of half a signature": ("settings", lambda: json.dumps({"input": "x-amz-" * 10_000}).encode()),
    "a key of accents": ("keys", lambda: b"e" + "\u0301\u0323".encode() * 250 + b".mp3"),
    "a key that almost is a link": ("keys", lambda: b"https://" + b"a@" * 500),
    "a key of signatures": ("keys", lambda: b"Signature=" * 100),
    "a message whose key is a megabyte of accents": (
        "messages",
        lambda: json.dumps(
            {
                "Records": [
                    {
                        "eventName": "ObjectCreated:Put",
                        "s3": {"bucket": {"name": "uploads"}, "object": {"key": "e" + "\u0301\u0323" * 80_000}},
                    }
                ]
            }
        ).encode(),
    ),
    **{
        f"a megabyte of {piece}": ("texts", lambda piece=piece: piece.encode() * (MEGABYTE // len(piece)))
        for piece in ("x-amz-", "x-oss-", "https://", "https:\\/\\/", "a@", "sk-", "Signature", "Signature=")
    },
    "a message of small objects": ("messages", lambda: objects(MEGABYTE)),
    "a message 1,000 deep": ("messages", lambda: b'{"Records":[' * 1000),
    "a message 100,000 deep": ("messages", lambda: b'{"Records":[' * 100_000),
    "an answer of prepare 1,000 deep": ("answers", lambda: b'{"key":"a.wav","version":"v","facts":' * 1000),
    "an answer of prepare with a million changes": (
        "answers",
        lambda: b'{"key":"a.wav","version":"v","facts":{"changes":["x"' + b',"x"' * 250_000 + b"]}}",
    ),
    "an answer of prepare with a number of 4,000 digits": (
        "answers",
        lambda: b'{"key":"a.wav","version":"v","facts":{"seconds":' + b"9" * 4000 + b"}}",
    ),
    "an answer of prepare of small objects": ("answers", lambda: objects(MEGABYTE)),
    "a provider's answer 1,000 deep": ("provider", lambda: b"\0" + b'{"output":' * 1000 + b"1" + b"}" * 1000),
    "a provider's answer 100,000 deep": ("provider", lambda: b"\0" + b"[" * 100_000),
    "a provider's message of 1 MB": (
        "provider",
        lambda: b"\4" + json.dumps({"code": "c" * 400_000, "message": "https://a@" * 40_000}).encode(),
    ),
    "a provider's message of half a signature": (
        "provider",
        lambda: b"\4" + json.dumps({"code": "c", "message": "x-amz-" * 170_000}).encode(),
    ),
    "a provider's answer of small objects": ("provider", lambda: LIST + objects(MEGABYTE)),
    "a provider's answer of 30 MB": ("provider", lambda: LIST + b" " * 30 * MEGABYTE),
}


@pytest.mark.parametrize("name", BOMBS)
def test_it_does_not_go_off(name: str) -> None:
    kind, make = BOMBS[name]
    target, data = TARGETS[kind], make()

    with at_most_seconds(SECONDS):
        target.run(data)
    with at_most_bytes(target.memory):  # apart from the time: being watched makes it slow
        target.run(data)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd.mp3",
        "/etc/passwd.mp3",
        "C:\\windows\\win.mp3",
        "%s%s%n%x.mp3",
        "{0.__class__}.mp3",
        "<script>alert(1)</script>.mp3",
        "'; DROP TABLE jobs; --.mp3",
        "a\r\nX-Header: b.mp3",
        "$(reboot).mp3",
        "${jndi:ldap://x}.mp3",
    ],
)
def test_a_key_is_a_name_and_nothing_else(name: str) -> None:
    assert TARGETS["keys"].run(name.encode()) is not None


@pytest.mark.parametrize("data", [b"", bytes(4096)])
def test_a_file_that_is_nothing_is_refused(data: bytes) -> None:
    assert isinstance(TARGETS["videos"].run(data), str)


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        (lambda data: all(iter(lambda: data, None)), SlowError),
        (lambda data: len(data * (MIB + 1)), AssertionError),
        (bytes.decode, UnicodeDecodeError),
    ],
    ids=["without end", "a byte too many", "an error"],
)
def test_whatever_breaks_a_bound_is_found(run: Callable[[bytes], object], fault: type[BaseException]) -> None:
    with pytest.raises(fault):
        judge(Target(run, memory=MIB, words=()), b"\xff")
