"""Sides of a picture, and whether its end is there: JPEG, PNG, BMP and WebP, from their headers alone."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, cast

from portraitcast.media.kinds import HEAD_BYTES, describe, sniff
from portraitcast.media.reading import EmptyError, UnreadableError, read_at, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PictureType = Literal["jpeg", "png", "bmp", "webp"]

_CUT: Final = "the file ends before its picture does"
_CHUNK: Final = 1024 * 1024  # bytes held while looking through a JPEG's scans
# A bound for hostile files. A real 50 MB picture has some thousand parts: 6,400 PNG chunks of 8 KiB, say.
_MAX_PARTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with a readable header and an end; sides in pixels as stored (a turn noted in EXIF is not applied)."""

    type: PictureType
    width: int
    height: int
    bytes: int

    @property
    def shorter(self) -> int:
        """The shorter side, px."""
        return min(self.width, self.height)

    @property
    def longer(self) -> int:
        """The longer side, px."""
        return max(self.width, self.height)


def probe_picture(file: BinaryIO) -> Picture:
    """Return type, sides and bytes of a picture. Pixels are never decompressed.

    Parameters
    ----------
    file
        A seekable binary file, read from its beginning, at most 1 MiB at once.

    Raises
    ------
    UnreadableError
        It isn't one of the four types, its header makes no sense, a side is 0, or its end is missing.
    """
    size = size_of(file)
    if not size:
        raise EmptyError("the file is empty")
    file.seek(0)
    kind = sniff(file.read(HEAD_BYTES))
    if kind not in _READERS:
        raise UnreadableError(f"it is {describe(kind)}" if kind else "it is no picture that we know", kind)
    try:
        width, height = _READERS[kind](file, size)
    except UnreadableError as error:
        error.kind = kind
        raise
    if not (width and height):
        raise UnreadableError("its header says that a side is 0 pixels", kind)
    return Picture(cast("PictureType", kind), width, height, size)


# --- JPEG (ITU-T T.81) ---

# A marker: FF and a byte that is neither stuffing (00), fill (FF) nor a restart (D0 to D7), which scans may hold.
_MARKER: Final = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the three are DHT, JPG and DAC


def _jpeg(file: BinaryIO, size: int) -> tuple[int, int]:
    """Walk the markers to the picture's own end, over thumbnails (they lie inside segments) and through every scan."""
    sides = None
    scans = 0
    for marker, at in _jpeg_markers(file, size):
        if marker in _FRAMES and sides is None:
            frame = read_at(file, at + 2, 5, _CUT)  # precision, height, width
            sides = int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3])
        elif marker == _SOS:
            scans += 1
        elif marker == _EOI:
            break
    else:
        raise UnreadableError(_CUT)
    if sides is None or not scans:
        raise UnreadableError("there is no picture in it")
    return sides


def _jpeg_markers(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Yield each marker with the offset behind it, until the file ends."""
    at = 2
    for _ in range(_MAX_PARTS):
        found = _find_marker(file, at)
        if found is None:
            return
        marker, at = found
        yield marker, at
        if marker not in {_SOI, _EOI, _TEM}:  # these stand alone, all others begin a segment that says its length
            at += max(2, int.from_bytes(read_at(file, at, 2, _CUT)))
            if at > size:
                return
    raise UnreadableError("its header has too many parts")


def _find_marker(file: BinaryIO, at: int) -> tuple[int, int] | None:
    """Return the next marker at or after `at`, and the offset behind it; None if there is none."""
    length = 64  # most markers follow at once: many small segments must not cost a MiB each
    while True:
        file.seek(at)
        chunk = file.read(length)
        if match := _MARKER.search(chunk):
            return match[1][0], at + match.end()
        if len(chunk) < 2:
            return None
        at += len(chunk) - 1  # the last byte may be the first half of a marker
        length = min(length * 8, _CHUNK)


# --- PNG (W3C PNG, third edition) ---


def _png(file: BinaryIO, size: int) -> tuple[int, int]:
    header = read_at(file, 8, 25, _CUT)
    if header[:8] != b"\0\0\0\rIHDR" or zlib.crc32(header[4:21]) != int.from_bytes(header[21:]):
        raise UnreadableError("its header is damaged")
    at, pixels = 33, False
    for _ in range(_MAX_PARTS):
        chunk = read_at(file, at, 8, _CUT)
        at += 12 + int.from_bytes(chunk[:4])  # length, type, content, checksum
        if at > size:
            raise UnreadableError(_CUT)
        if chunk[4:] == b"IDAT":
            pixels = True
        elif chunk[4:] == b"IEND":
            if not pixels:
                raise UnreadableError("there is no picture in it")
            return int.from_bytes(header[8:12]), int.from_bytes(header[12:16])
    raise UnreadableError("it has too many parts")


# --- BMP (Windows GDI bitmap storage, and OS/2's) ---


def _bmp(file: BinaryIO, size: int) -> tuple[int, int]:
    head = read_at(file, 0, 26, _CUT)
    header_bytes = int.from_bytes(head[14:18], "little")
    if header_bytes == 12:  # BITMAPCOREHEADER
        width, height = int.from_bytes(head[18:20], "little"), int.from_bytes(head[20:22], "little")
        bits = int.from_bytes(head[24:26], "little")
        packed = stored = 0
    else:
        head = read_at(file, 0, 14 + header_bytes, _CUT)
        width = int.from_bytes(head[18:22], "little", signed=True)
        height = abs(int.from_bytes(head[22:26], "little", signed=True))  # negative: the top row comes first
        bits = int.from_bytes(head[28:30], "little")
        packed, stored = int.from_bytes(head[30:34], "little"), int.from_bytes(head[34:38], "little")
    if width < 0:
        raise UnreadableError("its header is damaged")
    pixels_at = int.from_bytes(head[10:14], "little") or 14 + header_bytes
    if packed in {0, 3, 6}:  # not compressed: rows of whole 32-bit words
        if bits not in {1, 2, 4, 8, 16, 24, 32, 64}:
            raise UnreadableError("its header is damaged")
        end = pixels_at + (width * bits + 31) // 32 * 4 * height
    else:
        end = pixels_at + stored if stored else int.from_bytes(head[2:6], "little")
    if pixels_at < 14 + header_bytes:
        raise UnreadableError("its header is damaged")
    if end > size:
        raise UnreadableError(_CUT)
    return width, height


# --- WebP (RFC 9649) ---


def _webp(file: BinaryIO, size: int) -> tuple[int, int]:
    end = 8 + int.from_bytes(read_at(file, 4, 4, _CUT), "little")
    if end > size:
        raise UnreadableError(_CUT)
    at, canvas = 12, None
    for _ in range(_MAX_PARTS):
        if at + 8 > end:
            raise UnreadableError("there is no picture in it")
        chunk = read_at(file, at, 8, _CUT)
        content, length = at + 8, int.from_bytes(chunk[4:], "little")
        at = content + length + length % 2
        if content + length > end:
            raise UnreadableError(_CUT)
        if chunk[:4] == b"VP8X":
            extended = read_at(file, content, 10, _CUT)
            canvas = 1 + int.from_bytes(extended[4:7], "little"), 1 + int.from_bytes(extended[7:10], "little")
        elif chunk[:4] == b"ANMF" and canvas:  # a moving picture: its first frame is here
            return canvas
        elif chunk[:4] in {b"VP8 ", b"VP8L"}:
            lossy = chunk[:4] == b"VP8 "
            frame = read_at(file, content, 10 if lossy else 5, _CUT)
            return canvas or (_vp8(frame) if lossy else _vp8l(frame))
    raise UnreadableError("it has too many parts")


def _vp8(frame: bytes) -> tuple[int, int]:
    if frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":  # bit 0 of a key frame is 0 (RFC 6386, 9.1)
        raise UnreadableError("its header is damaged")
    return int.from_bytes(frame[6:8], "little") & 0x3FFF, int.from_bytes(frame[8:10], "little") & 0x3FFF


def _vp8l(frame: bytes) -> tuple[int, int]:
    bits = int.from_bytes(frame[1:5], "little")
    if frame[0] != 0x2F or bits >> 29:  # signature; version 0
        raise UnreadableError("its header is damaged")
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


_READERS: Final[dict[str | None, Callable[[BinaryIO, int], tuple[int, int]]]] = {
    "jpeg": _jpeg,
    "png": _png,
    "bmp": _bmp,
    "webp": _webp,
}
