"""The parsers that see bytes of strangers, each with the errors that hostile bytes may cause, and no other."""

# ruff: noqa: E501, PT017  # lists of words; what is asserted is that errors stay short
from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import requests
import urllib3

from fuzz.fuzzer import Target
from portraitcast.emo import Boxes, Emo, EmoError
from portraitcast.errors import PortraitcastError, RefusalError
from portraitcast.media import UnreadableError, probe_picture, probe_video, probe_voice, sniff
from portraitcast.names import classify, same_key
from portraitcast.settings import claims_voice, parse_settings, resolve_name, scrub, show_link
from portraitcast.submit import Submit
from unit import media_samples as samples

if TYPE_CHECKING:
    from collections.abc import Callable

BOXES = Boxes((302, 286, 610, 593), (71, 9, 840, 778))


def probing(probe: Callable[[io.BytesIO], object]) -> Callable[[bytes], object]:
    def run(data: bytes) -> object:
        sniff(data[:4096])
        try:
            found = probe(io.BytesIO(data))
        except UnreadableError as error:
            return error.reason
        return found

    return run


def settings(data: bytes) -> object:
    claims_voice(data)
    outcomes = []
    for folder_defaults in (False, True):
        try:
            found = parse_settings(data, "acme/line-01.json", folder_defaults=folder_defaults)
            outcomes.append("settings")
            if found.image_url:
                outcomes.append(resolve_name(found.image_url, "acme/line-01.json") and "name")
        except RefusalError as error:
            assert len(json.dumps(error.problem.as_dict())) < 20_000
            outcomes.append(error.problem.message)
    return outcomes


def keys(data: bytes) -> object:
    key = data[:1024].decode("utf-8", "ignore")  # S3 has no longer ones
    name = classify(key)
    assert same_key(key, key)
    show_link(key)
    scrub(key)
    if name is None:
        return None
    assert len(name.job) == 32
    assert name.key == key
    return name.kind, name.reserved


def messages(data: bytes) -> object:
    """SQS gives text; what submit hands on is caught by a stand-in for all of its parts."""
    part = MagicMock()
    part.arrive = lambda key, **_: classify(key)
    part.open_jobs.return_value = ([], None)
    part.queue.return_value = []
    part.job.return_value = None
    submit = Submit(part, part, part, part, part, part, part)
    try:
        submit.handle_body(data.decode("utf-8", "replace"))
    except PortraitcastError as error:
        return str(error)
    return "handled"


class Wire:
    """A session that answers with the same bytes again and again."""

    def __init__(self, data: bytes) -> None:
        self._status = (200, 200, 200, 200, 400, 401, 403, 404, 409, 429, 500, 503)[data[0] % 12] if data else 200
        self._content = data[1:]

    def request(self, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = self._status
        response.headers["Retry-After"] = self._content[:9].decode("latin-1")
        response.raw = urllib3.HTTPResponse(io.BytesIO(self._content), preload_content=False)
        return response


def provider(data: bytes) -> object:
    emo = Emo("https://emo.example/api/v1", lambda: "sk-fuzzfuzzfuzzfuzz", session=Wire(data))  # type: ignore[arg-type]
    outcomes = []
    for call in (
        lambda: emo.check_portrait("https://a.example/a.png", "1:1"),
        lambda: emo.create(image_url="https://a", audio_url="https://b", boxes=BOXES, style_level="normal"),
        lambda: emo.query("a-task"),
        emo.list_tasks,
        lambda: emo.cancel("a-task"),
    ):
        try:
            outcomes.append(type(call()).__name__)
        except EmoError as error:
            assert len(str(error)) < 1200
            outcomes.append(f"{type(error).__name__} {error.code[:20]}")
    return outcomes


def pictures_seeds() -> list[bytes]:
    sizes = {"size": (64, 64)}
    made = [samples.picture(kind, **sizes) for kind in ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")]
    more = [samples.picture("JPEG", progressive=True, **sizes), samples.picture("WEBP", lossless=True, **sizes)]
    return [*made, *more, samples.picture("PNG", mode="P", **sizes), b""]


def voices_seeds() -> list[bytes]:
    short = samples.mp3(0.4)
    riffs = [samples.riff((b"fmt ", samples.fmt()), (b"LIST", b"x" * 9), (b"data", bytes(64)))]
    tagged = [samples.id3v2(b"x" * 64) + short, short + samples.ape_tag(b"y" * 64), samples.id3v2(b"", flags=0x10)]
    return [short, samples.mp3(0.4, quality=4), samples.wav(0.05), *riffs, *tagged, b""]


def videos_seeds() -> list[bytes]:
    return [
        samples.mp4(0.2),
        samples.mp4(0.2, movflags="faststart"),
        samples.mp4(0.2, movflags="frag_keyframe+empty_moov"),
        b"",
    ]


def settings_seeds() -> list[bytes]:
    whole = {
        "model": "emo-v1",
        "input": {
            "image_url": "anna.png",
            "audio_url": "https://a.example/hello.mp3",
            "face_bbox": [302, 286, 610, 593],
            "ext_bbox": [71, 9, 840, 778],
        },
        "parameters": {"style_level": "active", "ratio": "1:1"},
    }
    return [json.dumps(whole).encode(), b'{"input": {"image_url": "../bob.jpg"}}', b"{}", b"\xef\xbb\xbf{}", b"[]", b""]


def keys_seeds() -> list[bytes]:
    texts = ["acme/line-01.mp3", "settings.json", "a/b/c.JPEG", ".hidden", "a/", "こんにちは/🎤.wav", "e\u0301.png"]
    return [text.encode() for text in texts]


def messages_seeds() -> list[bytes]:
    s3 = {"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "a%2Bb+c.mp3", "size": 9, "versionId": "v"}}}
    found: list[Any] = [
        {"Records": [s3]},
        {"wake": True},
        {"sweep": True},
        {"sweep": True, "cursor": "x"},
        {"scan": "a/"},
        {"folder": "x", "cursor": "y"},
        {"job": "x"},
        {"watch": "x", "attempt": 1, "ended_watch": 2},
        {"lingering": "x", "attempt": 1},
        {"pause": False},
        {"held": True},
        {"Event": "s3:TestEvent"},
    ]
    return [json.dumps(message).encode() for message in found]


def provider_seeds() -> list[bytes]:
    task = {"task_id": "a-task", "task_status": "SUCCEEDED", "submit_time": "2026-01-01 00:00:00.000"}
    bodies: list[Any] = [
        {"request_id": "r", "output": {"check_pass": True, "face_bbox": [1, 2, 3, 4], "ext_bbox": [1, 2, 3, 4]}},
        {"request_id": "r", "output": {"check_pass": False, "code": "InvalidFile.NoHuman", "message": "m"}},
        {"request_id": "r", "output": {"task_id": "t", "task_status": "PENDING"}},
        {
            "output": {**task, "results": {"video_url": "http://a"}},
            "usage": {"video_duration": 9.5, "video_ratio": "x"},
        },
        {"total": 1, "total_page": 1, "page_no": 1, "data": [{**task, "gmt_create": 1_700_000_000_000}]},
        {"code": "Throttling.RateQuota", "message": "m", "request_id": "r"},
    ]
    contents = [json.dumps(body).encode() for body in bodies]
    return [bytes([status]) + content for status in (0, 5, 9, 10) for content in contents]


JSON_WORDS = (
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'""',
    b"[" * 1000,
    b'{"a":' * 1000,
    b"1e999",
    b"-0",
    b"NaN",
    b"\\ud800",
    b"9" * 400,
    b"\\u0000",
    b'"',
)
TARGETS = [
    Target("pictures", probing(probe_picture), pictures_seeds, (b"IHDR", b"IDAT", b"IEND", b"RIFF", b"WEBP", b"VP8 ", b"VP8X", b"VP8L", b"\xff\xc0", b"\xff\xda", b"\xff\xd9", b"\xff\xd8", b"BM")),
    Target("voices", probing(probe_voice), voices_seeds, (b"RIFF", b"WAVE", b"fmt ", b"data", b"LIST", b"ID3\4\0\0", b"TAG", b"APETAGEX", b"Xing", b"Info", b"VBRI", b"\xff\xfb\x90\x64")),
    Target("videos", probing(probe_video), videos_seeds, (b"ftyp", b"moov", b"trak", b"mdia", b"mvhd", b"tkhd", b"mdhd", b"hdlr", b"vide", b"moof", b"mdat", b"\0\0\0\1moov", b"\0\0\0\0free")),
    Target("settings", settings, settings_seeds, (*JSON_WORDS, b"../", b"image_url", b"face_bbox", b"%s%n{0}", b"<script>")),
    Target("keys", keys, keys_seeds, (b"../", b".mp3", b"/", b"settings.json", b"%s%n{0}", b"<script>", b"\xf0\x9f\x8e\xa4", b"\xcc\x81", b"\0", b"https://u:p@h?X-Amz-Signature=x")),
    Target("messages", messages, messages_seeds, (*JSON_WORDS, b"Records", b"s3", b"object", b"key", b"sweep", b"attempt", b"%ff")),
    Target("provider", provider, provider_seeds, (*JSON_WORDS, b"output", b"task_id", b"task_status", b"data", b"total_page", b"2026-01-01 00:00:00.000")),
]  # fmt: skip
