"""Seconds of a voice: WAV by its header, MP3 by walking over every frame.

An MP3's own header can't be trusted with its length: many have none, and a file that was cut keeps the old one.
Libraries that read tags estimate from a bit rate there. A walk is exact at any bit rate, and takes a few tenths of a
second at worst.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from portraitcast.media.kinds import HEAD_BYTES, describe, sniff
from portraitcast.media.mpeg import Frame, parse_frame
from portraitcast.media.reading import EmptyError, UnreadableError, read_at, size_of

VoiceType = Literal["mp3", "wav"]


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that plays: its real type, whatever it is called, and how long it plays."""

    type: VoiceType
    seconds: float
    bytes: int


def probe_voice(file: BinaryIO) -> Voice:
    """Return type, seconds and bytes of a voice.

    Parameters
    ----------
    file
        A seekable binary file, read from its beginning. An MP3 is read whole, so check its bytes first.

    Raises
    ------
    EmptyError
        There is no sound in it.
    UnreadableError
        It is neither MP3 nor WAV (`kind` says what it is), or it is damaged.
    """
    size = size_of(file)
    if not size:
        raise EmptyError("the file is empty")
    start = _behind_tags(file, size)
    file.seek(start)
    kind = sniff(file.read(HEAD_BYTES)) or ("mp3" if start else None)
    if kind is not None and kind not in {"mp3", "wav"}:
        raise UnreadableError(f"it is {describe(kind)}", kind)
    try:
        if kind == "wav":
            return Voice("wav", _wav_seconds(file, start, size), size)
        return Voice("mp3", _mp3_seconds(file, start, kind), size)
    except UnreadableError as error:
        error.kind = kind
        raise


# --- WAV (Microsoft and IBM, Multimedia Programming Interface 1.0; RIFF) ---

_MAX_CHUNKS: Final = 10_000  # a bound for hostile files; a real WAV has a handful
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


def _wav_seconds(file: BinaryIO, start: int, size: int) -> float:
    """Return the seconds of a WAV whose chunks may come in any order.

    Programs that can't go back to their header leave a data size of 0xFFFFFFFF in it. That is longer than the file,
    like any other: such a WAV is damaged, since who reads its header by the book sees hours of sound. A size of 0 is
    no sound.
    """
    chunks = _wav_chunks(file, start, size)
    if b"data" not in chunks:
        raise UnreadableError("it ends before its sound begins")
    data_at, data_bytes = chunks[b"data"]
    if data_at + data_bytes > size:
        raise UnreadableError("its header promises more sound than the file holds")
    if b"fmt " not in chunks:
        raise UnreadableError("it has no header that says what its sound is")
    fmt_at, fmt_bytes = chunks[b"fmt "]
    fmt = read_at(file, fmt_at, max(16, min(fmt_bytes, 40)))
    fact = int.from_bytes(read_at(file, chunks[b"fact"][0], 4), "little") if b"fact" in chunks else 0
    seconds = _wav_sound(fmt, data_bytes, fact)
    if seconds <= 0:
        raise EmptyError("its header says that there is no sound in it")
    return seconds


def _wav_chunks(file: BinaryIO, start: int, size: int) -> dict[bytes, tuple[int, int]]:
    """Return where each chunk's content begins, and its bytes, until header and sound are found.

    Of two chunks with one name the first counts, as for players. What lies behind the sound may be damaged.
    """
    chunks: dict[bytes, tuple[int, int]] = {}
    at = start + 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > size or {b"fmt ", b"data"} <= chunks.keys():
            return chunks
        head = read_at(file, at, 8)
        length = int.from_bytes(head[4:], "little")
        chunks.setdefault(head[:4], (at + 8, length))
        at += 8 + length + length % 2
    raise UnreadableError("it has too many parts")


def _wav_sound(fmt: bytes, data_bytes: int, fact: int) -> float:
    """Return seconds from a format chunk, the bytes of sound, and the samples that a fact chunk names (0: none)."""
    tag = int.from_bytes(fmt[:2], "little")
    if tag == _EXTENSIBLE and len(fmt) >= 26:
        tag = int.from_bytes(fmt[24:26], "little")  # the sub-format begins with the tag it stands for
    channels, rate = int.from_bytes(fmt[2:4], "little"), int.from_bytes(fmt[4:8], "little")
    byte_rate, bits = int.from_bytes(fmt[8:12], "little"), int.from_bytes(fmt[14:16], "little")
    if not (channels and rate):
        raise UnreadableError("its header is damaged")
    if tag in {_PCM, _FLOAT, _ALAW, _MULAW}:
        if not bits:
            raise UnreadableError("its header is damaged")
        return data_bytes // (channels * ((bits + 7) // 8)) / rate
    # Compressed (ADPCM and others). A fact chunk is exact or wrong: it counts where the byte rate bears it out.
    by_bytes, by_fact = data_bytes / byte_rate if byte_rate else 0.0, fact / rate
    if not (by_bytes or by_fact) and data_bytes:
        raise UnreadableError("its header doesn't say how long it plays")
    return by_fact if not by_bytes or abs(by_fact - by_bytes) <= 0.1 * by_bytes else by_bytes


# --- MP3 (layer III of MPEG audio) ---

_MAX_TAGS: Final = 64  # a bound for hostile files: ID3v2 tags in a row
# Where a frame header of layer III may begin: sync, version and layer; bit rate and sample rate that exist.
_HEADER: Final = re.compile(
    b"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][" + b"".join(b"\\x%02x" % b for b in range(0x10, 0xF0) if b & 0x0C != 0x0C) + b"]"
)
# Frames in a row that make sound. Fewer are chance: any bytes hold something like a header, some 60 times in a MB.
_MIN_RUN: Final = 3
# A bound for hostile files: places where sound may begin. Chance makes some 900 of them in 15 MB.
_MAX_STARTS: Final = 50_000


def _behind_tags(file: BinaryIO, size: int) -> int:
    """Return where the sound begins behind ID3v2 tags, which may be several; 0 if the last is longer than the file."""
    at = 0
    for _ in range(_MAX_TAGS):
        file.seek(at)
        tag = file.read(10)
        if len(tag) < 10 or tag[:3] != b"ID3" or max(tag[6:]) > 0x7F:
            return at
        length = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
        at += 10 + length + (10 if tag[5] & 0x10 else 0)  # the flag says that a footer follows
        if at > size:
            return 0
    return at


def _mp3_seconds(file: BinaryIO, start: int, kind: str | None) -> float:
    """Return the seconds that a decoder plays: all whole frames, less what LAME's header says was added at both ends.

    Tags at the end (ID3v1, APEv2, Lyrics3) need no reading: there are no runs of frames in them.
    """
    file.seek(start)
    data = file.read()
    frames: dict[int, int] = {}  # samples by rate: pieces of different rates may have been joined
    count = starts = at = 0
    info: _Info | None = None
    while match := _HEADER.search(data, at):
        starts += 1
        if starts > _MAX_STARTS:
            raise UnreadableError("too much of it is not sound")
        first = parse_frame(data[match.start() : match.start() + 4])
        if first is None:  # only the last two bytes of a header are there
            break
        run, end = _run(data, match.start(), _lengths(match[0][1] & 0xFE, match[0][2] & 0x0C))
        if run < _MIN_RUN:
            at = match.start() + 1
            continue
        at = end
        if not count:
            info = _info(first, data[match.start() : match.start() + first.length])
            run -= info is not None  # that frame is a header, and silent
        count += run
        frames[first.rate] = frames.get(first.rate, 0) + run * first.samples
    if not count:
        raise EmptyError("there is no sound in it") if kind else UnreadableError("there is no MP3 or WAV sound in it")
    if info:
        rate = next(iter(frames))
        added = info.delay + (info.padding if count >= info.frames else 0)  # a cut file has lost the padding
        frames[rate] -= added if added < frames[rate] else 0
    return sum(samples / rate for rate, samples in frames.items())


@functools.cache
def _lengths(second: int, rate: int) -> dict[bytes, int]:
    """Return the frame length for every three bytes that may begin a frame of one stream (with or without CRC)."""
    headers = (bytes((0xFF, second | crc, b)) for crc in (0, 1) for b in range(256) if b & 0x0C == rate)
    return {header: frame.length for header in headers if (frame := parse_frame(header + b"\0"))}


def _run(data: bytes, at: int, lengths: dict[bytes, int]) -> tuple[int, int]:
    """Return how many whole frames of one stream follow one another from `at`, and where they end."""
    count, get, size = 0, lengths.get, len(data)
    while (length := get(data[at : at + 3])) and at + length <= size:
        at += length
        count += 1
    return count, at


@dataclass(frozen=True, slots=True)
class _Info:
    """What the silent first frame of an encoder says: frames behind it, samples added before and after."""

    frames: int
    delay: int
    padding: int


def _info(frame: Frame, data: bytes) -> _Info | None:
    """Read a Xing, Info or VBRI header; None if the first frame is sound."""
    if data[36:40] == b"VBRI":  # Fraunhofer's; always there
        return _Info(0, 0, 0)
    side_information = (17 if frame.mono else 32) if frame.version_1 else (9 if frame.mono else 17)
    for at in (4 + side_information, 6 + side_information):  # a CRC moves it by two bytes in some
        if data[at : at + 4] in {b"Xing", b"Info"}:
            return _xing(data[at + 4 :])
    return None


def _xing(data: bytes) -> _Info:
    flags = data[3] if len(data) > 3 else 0
    frames = int.from_bytes(data[4:8]) if flags & 1 else 0
    # Frames, bytes, a table of contents and a quality, each only if its flag is set; then LAME's part.
    at = 4 + sum(length for flag, length in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & flag)
    if data[at : at + 4] not in {b"LAME", b"Lavf", b"Lavc"} or len(data) < at + 24:
        return _Info(frames, 0, 0)
    added = int.from_bytes(data[at + 21 : at + 24])
    return _Info(frames, added >> 12, added & 0xFFF)
