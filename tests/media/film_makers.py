"""Make videos of parts as the service does, with a flash each second, and a voice that clicks each second."""

from __future__ import annotations

from array import array
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

FPS = 15


def film(
    path: Path,
    frames: int,
    *,
    first: int = 0,
    sides: tuple[int, int] = (128, 128),
    fps: int = FPS,
    options: dict[str, str] | None = None,
    movflags: str = "",
    metadata: dict[str, str] | None = None,
    sound_rate: int = 16_000,
    codec: str = "libx264",
) -> Path:
    """Write a video of so many pictures: grey, white in the first picture of each second, with a square that moves."""
    dark = [Image.new("RGB", sides, (90, 60, 50)) for _ in range(8)]
    for n, image in enumerate(dark):
        image.paste((30, 160, 40), (n * 8, 40, n * 8 + 30, 70))
    white = Image.new("RGB", sides, "white")
    options_of = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", format="mp4", options=options_of) as out:
        out.metadata.update(metadata or {})
        picture = out.add_stream(codec, rate=fps, options=options or {"preset": "veryfast"})
        picture.width, picture.height, picture.pix_fmt = *sides, "yuv420p"
        sound = out.add_stream("aac", rate=sound_rate, layout="mono") if sound_rate else None
        for n in range(first, first + frames):
            frame = VideoFrame.from_image(white if n % fps == 0 else dark[n % 8])
            frame.pts, frame.time_base = n - first, Fraction(1, fps)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        if sound:
            samples, at = sound_rate * frames // fps, 0
            while at < samples:
                some = min(1024, samples - at)
                heard = AudioFrame(format="s16", layout="mono", samples=some)
                heard.planes[0].update(bytes(heard.planes[0].buffer_size))
                heard.sample_rate, heard.pts, heard.time_base = sound_rate, at, Fraction(1, sound_rate)
                out.mux(sound.encode(heard))
                at += some
            out.mux(sound.encode(None))
    return path


def clicks(seconds: float, rate: int) -> array[int]:
    """Return a voice with a click of 10 ms each second, from 0 s on, and a hum in between."""
    samples = array("h", [300, -300]) * (round(seconds * rate) // 2)
    samples.extend([0] * (round(seconds * rate) - len(samples)))
    click = array("h", [25_000, 25_000, -25_000, -25_000]) * (rate // 400)
    for second in range(int(seconds)):
        at = second * rate
        samples[at : at + len(click)] = click[: len(samples) - at]
    return samples


def flashes(path: Path) -> list[float]:
    """Return when white pictures begin, s."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            luma = bytes(frame.planes[0])
            middle = luma[len(luma) // 2 : len(luma) // 2 + 32]
            if min(middle) > 180:
                found.append(float(frame.pts * frame.time_base))
    return found


def heard(path: Path) -> tuple[array[int], int, float]:
    """Return the sound as 16-bit samples, its rate, and when its first sample is heard, s."""
    samples, rate, start = array("h"), 0, None
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", container.streams.audio[0].rate)
        for frame in container.decode(audio=0):
            start = float(frame.pts * frame.time_base) if start is None else start
            rate = frame.sample_rate
            for piece in resampler.resample(frame):
                samples.frombytes(bytes(piece.planes[0])[: piece.samples * 2])
    return samples, rate, start or 0.0


def clicked(path: Path) -> list[float]:
    """Return when clicks begin, s."""
    samples, rate, start = heard(path)
    found: list[float] = []
    for at, value in enumerate(samples):
        if abs(value) > 12_000 and (not found or start + at / rate - found[-1] > 0.5):
            found.append(start + at / rate)
    return found
