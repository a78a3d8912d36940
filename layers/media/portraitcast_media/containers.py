"""How WAV and MP3 files are built: what a reader that believes their headers makes of them.

A file is passed on as it is only where the simplest reader gets the same length as a decoder. So these two are strict:
whatever is out of the ordinary says None, and the file is converted.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_PCM: Final = 1
_BITS: Final = (8, 16, 24, 32)
_CHUNKS_MAX: Final = 1000  # real files have under twenty


def wav_seconds(path: Path) -> float | None:
    """Return the length that a WAV's header says, in s, or None unless it is one plain RIFF of integer PCM.

    One ``fmt`` chunk before one ``data`` chunk, all sizes true, nothing behind the RIFF, one or two channels.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        if struct.unpack("<I", head[4:8])[0] + 8 not in {size, size - 1}:  # some writers forget the pad byte
            return None
        chunks = list(_chunks(file, size))
        names = [name for name, *_ in chunks if name in {b"fmt ", b"data", b""}]
        if names != [b"fmt ", b"data"]:
            return None
        ((_, data),) = [(at, length) for name, length, at in chunks if name == b"data"]
        file.seek(next(at for name, _, at in chunks if name == b"fmt "))
        bytes_a_second = _pcm_bytes_a_second(file.read(16))
        return data / bytes_a_second if data and bytes_a_second else None


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, length and place of a RIFF's chunks; one without a name for a chunk that ends behind the file."""
    at = 12
    for _ in range(_CHUNKS_MAX):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return
        name, length = header[:4], struct.unpack("<I", header[4:])[0]
        at += 8
        if at + length > size:
            yield b"", 0, at
            return
        yield name, length, at
        at += length + length % 2


def _pcm_bytes_a_second(body: bytes) -> int:
    """Return the bytes of a second of integer PCM in one or two channels; 0 for anything else."""
    if len(body) < 16:
        return 0
    tag, channels, rate, _, block, bits = struct.unpack("<HHIIHH", body)
    usual = tag == _PCM and channels in {1, 2} and bits in _BITS and block == channels * bits // 8
    return int(rate * block) if usual else 0


# ---------------------------------------------------------------- MP3

_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by MPEG version
_KBPS: Final = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def mp3_seconds(path: Path) -> float | None:
    """Return the length that an MP3's frames and its Xing header say, in s, or None unless both say the same.

    ID3v2 before and ID3v1 or APE behind are ordinary; anything else between the frames isn't, nor is a stream that
    changes its rate, nor a variable bit rate without a Xing or VBRI header, from which readers guess the length.
    """
    with path.open("rb") as file:
        start = _after_id3(file)
        size = path.stat().st_size
        end = _before_tags(file, size)
        frames, at, rates, kbps, said = 0, start, set(), set(), None
        file.seek(start)
        while at + 4 <= end:
            header = file.read(4)
            parsed = _frame(header)
            if parsed is None:
                return None
            length, rate, samples, bitrate = parsed
            body = file.read(length - 4)
            if at + length > end:
                break  # cut short within a frame: every player leaves it out
            if frames == 0 and said is None and (count := _xing(body)) is not None:
                said = count  # a frame that holds no sound
            else:
                frames += 1
                kbps.add(bitrate)
            rates.add((rate, samples))
            at += length
        if len(rates) != 1 or not frames:
            return None
        if (len(kbps) > 1) if said is None else (said not in {frames, frames + 1}):
            return None
        ((rate, samples),) = rates
        return frames * samples / rate


def _after_id3(file: BinaryIO) -> int:
    at = 0
    for _ in range(8):  # some taggers put a second before the first
        file.seek(at)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
            return at
        length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        at += 10 + length + (10 if head[5] & 0x10 else 0)
    return at


def _before_tags(file: BinaryIO, size: int) -> int:
    end = size
    if size >= 128:
        file.seek(size - 128)
        if file.read(3) == b"TAG":
            end -= 128
    if end >= 32:
        file.seek(end - 32)
        footer = file.read(32)
        if footer[:8] == b"APETAGEX":
            length, _, flags = struct.unpack("<III", footer[12:24])
            end -= length + (32 if flags & 0x80000000 else 0)
    return max(end, 0)


def _frame(header: bytes) -> tuple[int, int, int, int] | None:
    """Return (length in bytes, rate in Hz, samples, kbit/s) of a frame of layer III, or None."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, kind, column = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or kind in {0, 15} or column == 3:  # kind 0: free format
        return None
    bitrate, rate = _KBPS[3 if version == 3 else 2][kind], _RATES[version][column]
    samples = 1152 if version == 3 else 576
    return samples // 8 * bitrate * 1000 // rate + (header[2] >> 1 & 1), rate, samples, bitrate


def _xing(body: bytes) -> int | None:
    """Return the number of frames that a Xing, Info or VBRI header says; 0 where it has none of them."""
    for name in (b"Xing", b"Info"):
        if (at := body.find(name, 0, 48)) >= 0:
            flags, count = struct.unpack(">II", body[at + 4 : at + 12].ljust(8, b"\0"))
            return count if flags & 1 else 0
    if body[32:36] == b"VBRI":
        return int(struct.unpack(">I", body[46:50].ljust(4, b"\0"))[0])
    return None
