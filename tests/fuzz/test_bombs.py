"""Files and texts that are made to blow up: each is answered within a second, in a few megabytes."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest

from fuzz.targets import keys, messages, probing, provider, settings
from portraitcast.media import probe_picture, probe_video, probe_voice
from unit import media_samples as samples

if TYPE_CHECKING:
    from collections.abc import Callable

MEGABYTE = 1_048_576
picture, voice, video = probing(probe_picture), probing(probe_voice), probing(probe_video)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + png_chunk(b"IEND", b"")


def boxes(depth: int) -> bytes:
    """Return an MP4 whose boxes lie in each other."""
    inner = b""
    for _ in range(depth):
        inner = struct.pack(">I", len(inner) + 8) + b"moov" + inner
    return samples.mp4(0.1)[:32] + inner


BOMBS: dict[str, tuple[Callable[[bytes], object], Callable[[], bytes]]] = {
    "a picture of 4 thousand million pixels in 30 MB of zeros": (
        picture,
        lambda: png(65_535, 65_535, png_chunk(b"IDAT", zlib.compress(bytes(30 * MEGABYTE), 9))),
    ),
    "a picture of a million empty chunks": (picture, lambda: png(500, 500, png_chunk(b"tEXt", b"") * 1_000_000)),
    "a picture whose text unpacks to a gigabyte": (
        picture,
        lambda: png(500, 500, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 * MEGABYTE), 9) * 16)),
    ),
    "a JPEG of a million empty segments": (picture, lambda: b"\xff\xd8" + b"\xff\xe1\0\2" * 1_000_000),
    "a JPEG of 15 MB of fill bytes": (picture, lambda: b"\xff\xd8" + b"\xff" * 15 * MEGABYTE),
    "a WebP of a million empty chunks": (picture, lambda: samples.riff(*[(b"ALPH", b"")] * 300_000, form=b"WEBP")),
    "an MP3 of endless tags": (voice, lambda: (samples.id3v2(b"") * (15 * MEGABYTE // 10))[: 15 * MEGABYTE]),
    "an MP3 of tags in tags": (voice, lambda: samples.id3v2(samples.id3v2(b"x" * 4 * MEGABYTE) * 3)),
    "an MP3 of endless tags at its end": (voice, lambda: samples.mp3(0.4) + samples.ape_tag(b"") * 300_000),
    "an MP3 of 15 MB that never synchronises": (voice, lambda: b"\xff\xfb\x90\x64\0" * (3 * MEGABYTE)),
    "a WAV that says it has 4 GB": (
        voice,
        lambda: b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + samples.fmt() + b"data\xff\xff\xff\xff" + bytes(64),
    ),
    "a WAV at 4 thousand million samples a second": (
        voice,
        lambda: samples.riff((b"fmt ", struct.pack("<HHIIHH", 1, 65_535, 0xFFFFFFFF, 1, 1, 0)), (b"data", bytes(99))),
    ),
    "a WAV of a million empty chunks": (voice, lambda: samples.riff(*[(b"LIST", b"")] * 300_000)),
    "an MP4 of boxes 100,000 deep": (video, lambda: boxes(10_000)),
    "an MP4 of a million empty boxes": (video, lambda: samples.mp4(0.1)[:32] + b"\0\0\0\x08free" * 1_000_000),
    "an MP4 of boxes without length": (video, lambda: samples.mp4(0.1)[:32] + b"\0\0\0\0moov" * 100_000),
    "settings 1,000 deep": (settings, lambda: b'{"input":' * 1000 + b"1" + b"}" * 1000),
    "settings 100,000 deep": (settings, lambda: b"[" * 100_000),
    "settings with a name of 1 MB": (settings, lambda: json.dumps({"input": {"image_url": "a" * MEGABYTE}}).encode()),
    "settings with a field of 1 MB": (settings, lambda: json.dumps({"x" * MEGABYTE: 1}).encode()),
    "settings with a number of 100,000 digits": (
        settings,
        lambda: b'{"input": {"face_bbox": [' + b"9" * 100_000 + b",1,2,3]}}",
    ),
    "settings with a name of 300,000 ups": (
        settings,
        lambda: json.dumps({"input": {"image_url": "a/../" * 200_000 + "a.png"}}).encode(),
    ),
    "a key of accents": (keys, lambda: b"e" + "\u0301\u0323".encode() * 250 + b".mp3"),
    "a key that almost is a link": (keys, lambda: b"https://" + b"a@" * 500),
    "a key of signatures": (keys, lambda: b"Signature=" * 100),
    "a message 1,000 deep": (messages, lambda: b'{"Records":[' * 1000),
    "a message 100,000 deep": (messages, lambda: b'{"Records":[' * 100_000),
    "a provider's answer 1,000 deep": (provider, lambda: b"\0" + b'{"output":' * 1000 + b"1" + b"}" * 1000),
    "a provider's answer 100,000 deep": (provider, lambda: b"\0" + b"[" * 100_000),
    "a provider's message of 1 MB": (
        provider,
        lambda: b"\4" + json.dumps({"code": "c" * 400_000, "message": "https://a@" * 40_000}).encode(),
    ),
    "a provider's answer of 30 MB": (provider, lambda: b"\0" + b" " * 30 * MEGABYTE),
}


@pytest.mark.parametrize("name", BOMBS)
def test_it_does_not_go_off(name: str) -> None:
    run, make = BOMBS[name]
    data = make()
    started = time.process_time()
    run(data)
    took = time.process_time() - started

    tracemalloc.start()
    try:
        run(data[:MEGABYTE])  # whole files would take a minute under tracemalloc
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    calls = 5 if run is provider else 1
    assert took < calls
    assert peak < 4 * len(data[:MEGABYTE]) + 16 * MEGABYTE


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
    assert keys(name.encode()) is not None


def test_a_file_that_is_nothing_is_refused_not_crashed() -> None:
    for probe in (probe_picture, probe_voice, probe_video):
        assert probing(probe)(b"") is not None
        assert probing(probe)(io.BytesIO(b"\0" * 4096).getvalue()) is not None
