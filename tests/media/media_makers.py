"""Make sounds and pictures whose right values are known before anything is decoded."""

from __future__ import annotations

import math
import struct
import zlib
from array import array
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def tone(seconds: float, rate: int, *, hertz: float = 440, level: float = 0.5) -> array[int]:
    """Return a sine as 16-bit samples; exactly ``round(seconds * rate)`` of them."""
    step = 2 * math.pi * hertz / rate
    return array("h", (round(level * 32767 * math.sin(step * n)) for n in range(round(seconds * rate))))


def speech(parts: Iterable[tuple[float, float]], rate: int) -> array[int]:
    """Return stretches of (seconds of a tone, seconds of silence) one behind the other."""
    samples = array("h")
    for loud, quiet in parts:
        samples += tone(loud, rate)
        samples += array("h", bytes(2 * round(quiet * rate)))
    return samples


def wav_bytes(samples: array[int], rate: int, channels: int = 1, *, said: int | None = None) -> bytes:
    """Return a plain WAV of interleaved 16-bit samples, written by hand; `said` is what its data chunk says, bytes."""
    data = samples.tobytes()
    said = len(data) if said is None else said
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, channels, rate,
                       rate * 2 * channels, 2 * channels, 16)  # fmt: skip
    return head + b"data" + struct.pack("<I", said) + data


def interleaved(left: array[int], right: array[int]) -> array[int]:
    """Return two channels as one row of samples."""
    both = array("h", bytes(4 * len(left)))
    both[0::2], both[1::2] = left, right
    return both


def encode(
    path: Path,
    codec: str,
    samples: array[int],
    rate: int,
    channels: int = 1,
    *,
    container: str | None = None,
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    cover: bytes | None = None,
    moving: bool = False,
) -> Path:
    """Encode mono samples (the same in each channel) with FFmpeg; with a cover or a moving picture beside them."""
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo" if channels == 2 else "mono")
        if bit_rate or codec.startswith("wma"):
            stream.bit_rate = bit_rate or 64_000
        picture = film = None
        if cover:
            picture = out.add_stream("mjpeg")
            picture.width = picture.height = 64
            picture.pix_fmt = "yuvj420p"
            picture.disposition = 0x400  # attached picture
        if moving:
            film = out.add_stream("libvpx" if container == "webm" else "mpeg4", rate=10)
            film.width = film.height = 64
            film.pix_fmt = "yuv420p"
        if picture is not None:
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.dts, packet.time_base = picture, 0, 0, Fraction(1, 90_000)
            packet.is_keyframe = True
            out.mux(packet)
        if film is not None:
            for n in range(10):
                image = VideoFrame.from_image(Image.new("RGB", (64, 64), (20 * n, 0, 0)))
                image.pts = n
                out.mux(film.encode(image))
            out.mux(film.encode(None))
        size = 1024
        at = 0
        while at < len(samples):
            some = samples[at : at + size]
            frame = AudioFrame(format="s16", layout="stereo" if channels == 2 else "mono", samples=len(some))
            data = interleaved(some, some).tobytes() if channels == 2 else some.tobytes()
            frame.planes[0].update(data.ljust(frame.planes[0].buffer_size, b"\0"))
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            out.mux(stream.encode(frame))
            at += size
        out.mux(stream.encode(None))
    return path


# ---------------------------------------------------------------- pictures


def marked(width: int = 480, height: int = 640) -> Image.Image:
    """Return a white picture with a red corner top left, a blue one top right, a green one bottom left."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, 100, 100], fill=RED)
    draw.rectangle([width - 101, 0, width - 1, 100], fill=BLUE)
    draw.rectangle([0, height - 101, 100, height - 1], fill=GREEN)
    return image


# Exif's orientation → how an upright picture lies in such a file
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(image: Image.Image, orientation: int) -> tuple[Image.Image, Image.Exif]:
    """Return an upright picture as a camera held otherwise stores it, and the Exif that says so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = STORED[orientation]
    return (image if how is None else image.transpose(how)), exif


def near(found: object, wanted: tuple[int, int, int], by: int = 12) -> bool:
    """Whether a pixel has a colour, as JPEG keeps it."""
    return isinstance(found, tuple) and all(abs(a - b) <= by for a, b in zip(found[:3], wanted, strict=True))


def corners(image: Image.Image) -> list[object]:
    """Return the pixels 30 px from the corners: top left, top right, bottom left."""
    image = image.convert("RGB")
    return [image.getpixel(at) for at in ((30, 30), (image.width - 31, 30), (30, image.height - 31))]


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(width: int, height: int) -> bytes:
    """Return a small PNG of many black pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width * 3)
    data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
