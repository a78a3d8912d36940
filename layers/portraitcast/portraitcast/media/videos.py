"""Sides and seconds of an MP4 (ISO/IEC 14496-12), and whether all of it is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from portraitcast.media.kinds import HEAD_BYTES, describe, sniff
from portraitcast.media.reading import EmptyError, UnreadableError, read_at, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_CUT: Final = "the file ends before its video does"
_NO_HEADER: Final = "it has no readable header"
_MAX_BOXES: Final = 10_000  # a bound for hostile files, for one box's children; a real video has tens


@dataclass(frozen=True, slots=True)
class Video:
    """A complete MP4; sides in pixels as shown."""

    width: int
    height: int
    seconds: float
    bytes: int


def probe_video(file: BinaryIO) -> Video:
    """Return sides, seconds and bytes of an MP4. Frames are not decoded.

    Parameters
    ----------
    file
        A seekable binary file, read from its beginning; a few bytes at once.

    Raises
    ------
    UnreadableError
        It isn't an MP4, has no video track, sides or seconds, or a box (frames lie in one) runs over the file's end.
    """
    size = size_of(file)
    if not size:
        raise EmptyError("the file is empty")
    file.seek(0)
    kind = sniff(head := file.read(HEAD_BYTES))
    if head[4:8] != b"ftyp":
        raise UnreadableError(f"it is {describe(kind)}" if kind else "it is no MP4 video", kind)
    boxes = dict(reversed(list(_boxes(file, 0, size))))  # of two with one name, the first
    if b"moov" not in boxes or b"mdat" not in boxes:
        raise UnreadableError(_CUT, kind)
    seconds = _seconds(file, *boxes[b"moov"])
    width, height = _sides(file, *boxes[b"moov"])
    if not (width and height and seconds):
        raise UnreadableError("its header names no sides or no seconds", kind)
    return Video(width, height, seconds, size)


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield name, beginning and end of the content of each box between two offsets."""
    for _ in range(_MAX_BOXES):
        if at == end:
            return
        head = read_at(file, at, 8, _CUT)
        length, content = int.from_bytes(head[:4]), at + 8
        if length == 1:
            length, content = int.from_bytes(read_at(file, content, 8, _CUT)), content + 8
        elif length == 0:
            length = end - at  # to the end
        if length < content - at:
            raise UnreadableError(_NO_HEADER)
        if at + length > end:
            raise UnreadableError(_CUT)
        at += length
        yield head[4:], (content, at)
    raise UnreadableError("it has too many parts")


def _seconds(file: BinaryIO, at: int, end: int) -> float:
    """Return the movie's length from `mvhd`: version 1 has times of 64 bits."""
    for name, (content, content_end) in _boxes(file, at, end):
        if name == b"mvhd":
            header = read_at(file, content, min(32, content_end - content))
            long = header[:1] == b"\1"
            scale, duration = (header[20:24], header[24:32]) if long else (header[12:16], header[16:20])
            if not int.from_bytes(scale):
                raise UnreadableError(_NO_HEADER)
            return int.from_bytes(duration) / int.from_bytes(scale)
    raise UnreadableError(_NO_HEADER)


def _sides(file: BinaryIO, at: int, end: int) -> tuple[int, int]:
    """Return the sides of the first video track: `tkhd` ends with them, as 16.16 fixed point."""
    for name, (track_at, track_end) in _boxes(file, at, end):
        if name == b"trak":
            track = dict(_boxes(file, track_at, track_end))
            if b"tkhd" in track and b"mdia" in track and _handler(file, *track[b"mdia"]) == b"vide":
                header_at, header_end = track[b"tkhd"]
                if header_end - header_at < 84:
                    raise UnreadableError(_NO_HEADER)
                sides = read_at(file, header_end - 8, 8)
                return int.from_bytes(sides[:2]), int.from_bytes(sides[4:6])
    raise UnreadableError("there is no video in it")


def _handler(file: BinaryIO, at: int, end: int) -> bytes:
    for name, (content, content_end) in _boxes(file, at, end):
        if name == b"hdlr" and content_end - content >= 12:
            return read_at(file, content + 8, 4)
    return b""
