"""Portraits, voices and folders, made on the spot and told apart by a seed."""

from __future__ import annotations

import hashlib
import io
import math
import random
import struct
import tempfile
import uuid
import wave
import zlib
from pathlib import Path

import av
import numpy as np
from PIL import ExifTags, Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from simulator import render


def face(
    seed: int = 0,
    size: tuple[int, int] = (480, 480),
    *,
    kind: str = "PNG",
    says: str | None = None,
    turned: bool = False,
) -> bytes:
    """Return a portrait; `says` is what the simulator's portrait check is to find wrong with it, like NoHuman.

    It is stored lying on its side if it is `turned`, as telephones do.
    """
    colours = random.Random(seed)  # noqa: S311 - tells samples apart
    width, height = size
    image = Image.new("RGB", size, _colour(colours))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.25, height * 0.2, width * 0.75, height * 0.8), fill=_colour(colours))
    draw.rectangle((0, height * 0.85, width, height), fill=_colour(colours))
    out = io.BytesIO()
    if says:
        note = PngInfo()
        note.add_text("portraitcast-sim", says)
        image.save(out, kind, pnginfo=note)
    else:
        exif = Image.Exif()
        if turned:
            exif[ExifTags.Base.Orientation] = 6
        image.save(out, kind, exif=exif)
    return out.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    """Return a PNG that claims to be of this size and holds no pixels."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(b""), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


def _colour(colours: random.Random) -> tuple[int, int, int]:
    return colours.randrange(256), colours.randrange(256), colours.randrange(256)


def voice(seconds: float = 1.0, seed: int = 0, rate: int = 16_000, loudest: int = 9000) -> bytes:
    """Return a WAV of a tone in bursts, its pitch by the seed."""
    at = np.arange(round(seconds * rate)) / rate
    samples = loudest * np.sin(2 * math.pi * (200 + 7 * seed) * at) * np.where(np.sin(20 * at) > 0, 1, 0.2)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


def as_m4a(wav: bytes) -> bytes:
    """Return a WAV as AAC in an M4A, as telephones record it."""
    out = io.BytesIO()
    with av.open(io.BytesIO(wav)) as source, av.open(out, "w", format="ipod") as made:
        stream = made.add_stream("aac", rate=source.streams.audio[0].rate, layout="mono")
        for frame in source.decode(audio=0):
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return out.getvalue()


def film(seconds: float = 1.0) -> bytes:
    """Return a video with sound, as somebody's finished film."""
    with tempfile.TemporaryDirectory() as folder:
        return render.still(seconds, 512, 512, Path(folder) / "film.mp4").path.read_bytes()


def sha256(content: bytes) -> str:
    """Return the hex digest of a file's bytes."""
    return hashlib.sha256(content).hexdigest()


def new_folder() -> str:
    """Return a folder that nobody else uses, with its last slash."""
    return f"t{uuid.uuid4().hex[:10]}/"


def seconds_of(video: bytes) -> float:
    """Return the length of a video's sound, decoded."""
    with av.open(io.BytesIO(video)) as file:
        stream = file.streams.audio[0]
        return sum(frame.samples for frame in file.decode(stream)) / stream.rate
