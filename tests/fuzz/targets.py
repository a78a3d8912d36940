"""The parsers that see bytes of strangers, each with the errors that hostile bytes may cause, and no other."""

# ruff: noqa: E501, PT017  # lists of words; what is asserted is that errors stay short
from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fuzz.decoding import KEYS, prepared
from fuzz.provider import provider
from portraitcast.adapters.probe import UnreadableVideoError, probe_video
from portraitcast.adapters.queues import Queue
from portraitcast.adapters.records import from_item, to_item
from portraitcast.domain.problems import ProblemError, plain, scrub, show_link
from portraitcast.domain.settings import SETTINGS_MAX_BYTES, claims_voice, effective, parse_settings, resolve_name
from portraitcast.domain.uploads import Facts, classify, same_key
from portraitcast.errors import PortraitcastError
from portraitcast.workflows.submit import Received, Submit

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.workflows.ingest import Arrival, Prepared

MIB = 1_048_576


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes
    ----------
    run
        Takes an input and returns what came out; an exception is a finding.
    memory
        Bytes that it may take for one input, however large that is.
    words
        Pieces that inputs of this kind are made of.
    decodes
        What a decoder takes it for, in a process of its own; "" where no decoder is asked. Such an input takes some
        hundred times as long as others, so there are fewer.
    """

    run: Callable[[bytes], object]
    memory: int
    words: tuple[bytes, ...]
    decodes: str = ""


def videos(data: bytes) -> object:
    try:
        return probe_video(io.BytesIO(data))
    except UnreadableVideoError as error:
        assert len(str(error)) < 200
        return str(error)


def settings(data: bytes) -> object:
    data = data[:SETTINGS_MAX_BYTES]  # what is longer is refused unread
    claims_voice(data)
    outcomes = []
    for folder_defaults in (False, True):
        try:
            found = parse_settings(data, "acme/line-01.json", folder_defaults=folder_defaults)
            outcomes.append("settings")
            if found.image_url:
                outcomes.append(resolve_name(found.image_url, "acme/line-01.json") and "name")
            own, folder = (None, found) if folder_defaults else (found, None)
            outcomes.append(effective(own, folder, picture_size=(900, 800), own_key="acme/line-01.json").model)
        except ProblemError as error:
            assert len(json.dumps(asdict(error.problem))) < 20_000
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


class Stack:
    """Stands for every part that submit hands messages on to: takes any call and knows of nothing."""

    def __getattr__(self, _: str) -> Callable[..., object]:
        return lambda *_, **__: None

    def arrive(self, arrival: Arrival) -> None:
        if name := classify(arrival.key):
            assert len(name.job) == 32


STACK: Any = Stack()
SUBMIT = Submit(STACK, STACK, STACK, STACK, Queue(STACK, "queue"), bucket="uploads", clock=lambda: 0.0)


def messages(data: bytes) -> object:
    """SQS gives text, of 1 MiB at most."""
    try:
        message = Received.from_text(data[:MIB].decode("utf-8", "replace"), 0.0)
        assert message.hops >= 0
        SUBMIT.handle(message, 0.0)
    except PortraitcastError as error:
        assert len(str(error)) < 2000
        return str(error)
    return "handled"


class Kept(Stack):
    """Keeps what prepare has found, as the table would."""

    def __init__(self) -> None:
        self.prepared_: list[Prepared] = []

    def prepared(self, prepared: Prepared) -> None:
        self.prepared_.append(prepared)


def answers(data: bytes) -> object:
    """What prepare says of a file, which has decoded bytes of strangers: the JSON behind ``prepared``."""
    kept: Any = Kept()
    submit = Submit(kept, STACK, STACK, STACK, Queue(STACK, "queue"), bucket="uploads", clock=lambda: 0.0)
    try:
        text = '{"prepared": ' + data[:MIB].decode("utf-8", "replace") + "}"
        submit.handle(Received.from_text(text, 0.0), 0.0)
    except PortraitcastError as error:
        assert len(str(error)) < 2000
        return str(error)
    for found in kept.prepared_:
        facts: Facts | None = found.facts
        if facts is None:
            continue
        assert from_item(Facts, to_item(facts)) == facts  # the table takes it, and gives it back
        kind = "problem" if facts.problem else found.key.rpartition(".")[2]
        assert facts.problem or (facts.sha256 and (facts.seconds or (facts.width and facts.height)))
        return kind
    return "gone"


def _prepared(kind: str, data: bytes) -> object:
    """What prepare says of a file is what submit takes: else its job would wait for ever."""
    said = {"key": KEYS[kind], "version": "v1", **prepared(kind, data)}
    got = answers(json.dumps(said).encode())
    assert got in {"problem", KEYS[kind].rpartition(".")[2]}, (got, said)
    return got, (said.get("problem") or {}).get("message")


def voices(data: bytes) -> object:
    """A voice, through prepare's decoders: they may die of it, the job may not."""
    return _prepared("voice", data)


def pictures(data: bytes) -> object:
    """A portrait, through prepare's decoders."""
    return _prepared("portrait", data)


def texts(data: bytes) -> object:
    """Words of somebody else's, as a log or a report may repeat them."""
    text = data[:MIB].decode("utf-8", "replace")
    assert len(plain(text)) <= len(text)
    return show_link(text), scrub(text)


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
BOX_WORDS = (b"ftyp", b"moov", b"trak", b"stsd", b"meta", b"mdat", b"\0\0\0\0", b"\x7f\xff\xff\xff")
TARGETS = {
    "videos": Target(videos, 3 * MIB, (b"ftyp", b"moov", b"trak", b"mdia", b"mvhd", b"tkhd", b"mdhd", b"hdlr", b"vide", b"moof", b"mdat", b"\0\0\0\1moov", b"\0\0\0\0free")),
    "texts": Target(texts, 32 * MIB, (b"https://", b"u:p@", b"?X-Amz-Signature=x", b"sk-", b"x-amz-", b"%3d", b"\\/\\/", b"#", b" ")),
    "settings": Target(settings, 4 * MIB, (*JSON_WORDS, b"../", b"image_url", b"face_bbox", b"liveportrait", b"video_fps", b"%s%n{0}", b"<script>")),
    "keys": Target(keys, 1 * MIB, (b"../", b".mp3", b"/", b"settings.json", b"%s%n{0}", b"<script>", b"\xf0\x9f\x8e\xa4", b"\xcc\x81", b"\0", b"https://u:p@h?X-Amz-Signature=x")),
    "messages": Target(messages, 48 * MIB, (*JSON_WORDS, b"Records", b"s3", b"object", b"key", b"sweep", b"reconcile", b"hops", b"uploads", b"bucket", b"%ff")),
    "answers": Target(answers, 48 * MIB, (*JSON_WORDS, b'"key": "a.wav"', b'"key": "a.png"', b'"facts"', b'"problem"', b'"gone"', b'"seconds"', b'"width"', b'"asset"', b'"changes"', b'"plain"', b"assets/", b"true", b"1e99")),
    "voices": Target(voices, 16 * MIB, (*BOX_WORDS, b"RIFF", b"WAVEfmt ", b"data", b"\xff\xff\xff\xff", b"\0\0\0\0", b"ID3\4", b"TAG", b"Xing", b"LAME", b"fLaC", b"OggS", b"OpusHead", b"\x1aE\xdf\xa3", b"#!AMR\n", b"caff", b"FORM", b"COMM", b"SSND", b"\xff\xfb\x90", b"\xff\xf1"), decodes="voice"),
    "pictures": Target(pictures, 16 * MIB, (*BOX_WORDS, b"\xff\xd8\xff\xe1", b"Exif\0\0MM\0*", b"II*\0", b"\x01\x12", b"\xff\xc0", b"\xff\xda", b"\xff\xd9", b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"acTL", b"IDAT", b"IEND", b"RIFF", b"WEBPVP8X", b"ANIM", b"GIF89a", b"heic", b"iloc", b"ipma", b"irot", b"avif"), decodes="portrait"),
    "provider": Target(provider, 48 * MIB, (*JSON_WORDS, b"output", b"task_id", b"task_status", b"results", b"video_url", b"check_pass", b"pass", b"upload_host", b"https://a.example/", b"data", b"total_page", b"2026-01-01 00:00:00.000")),
}  # fmt: skip
