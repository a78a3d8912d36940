"""Portraits, voices and folders, made on the spot and told apart by a seed."""

from __future__ import annotations

import hashlib
import io
import math
import random
import uuid
import wave

import av
import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo


def face(seed: int = 0, size: tuple[int, int] = (480, 480), *, kind: str = "PNG", says: str | None = None) -> bytes:
    """Return a portrait; `says` is what the simulator's portrait check is to find wrong with it, like NoHuman."""
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
        image.save(out, kind)
    return out.getvalue()


def _colour(colours: random.Random) -> tuple[int, int, int]:
    return colours.randrange(256), colours.randrange(256), colours.randrange(256)


def voice(seconds: float = 1.0, seed: int = 0, rate: int = 16_000) -> bytes:
    """Return a WAV of a tone in bursts, its pitch by the seed."""
    at = np.arange(round(seconds * rate)) / rate
    samples = 9000 * np.sin(2 * math.pi * (200 + 7 * seed) * at) * np.where(np.sin(20 * at) > 0, 1, 0.2)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


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
