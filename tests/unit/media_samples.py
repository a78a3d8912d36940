"""Videos made on the spot by PyAV, small and whole."""

from __future__ import annotations

import functools
import io
import tempfile
from pathlib import Path

import av
import numpy as np

SOUND_RATE = 16_000


@functools.cache
def mp4(
    seconds: float = 2.0, size: tuple[int, int] = (128, 96), *, with_sound: bool = True, movflags: str = ""
) -> bytes:
    """Return an MP4 with a black picture at 15 frames a second, and silence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")  # a real file: FFmpeg opens it again to move its header to the front
        _write_mp4(path, seconds, size, with_sound, {"movflags": movflags} if movflags else {})
        return path.read_bytes()


@functools.cache
def sound_mp4(seconds: float = 1.0) -> bytes:
    """Return an MP4 that holds silence alone."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        _add_silence(file, file.add_stream("aac", rate=SOUND_RATE, layout="mono"), seconds)
    return out.getvalue()


def _write_mp4(path: Path, seconds: float, size: tuple[int, int], with_sound: bool, options: dict[str, str]) -> None:
    with av.open(str(path), "w", format="mp4", options=options) as file:
        voice = file.add_stream("aac", rate=SOUND_RATE, layout="mono") if with_sound else None
        video = file.add_stream("libx264", rate=15)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        for _ in range(round(seconds * 15)):
            frame = av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8))
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if voice:
            _add_silence(file, voice, seconds)


def _add_silence(file: av.container.OutputContainer, voice: av.AudioStream, seconds: float) -> None:
    samples = np.zeros((1, round(seconds * SOUND_RATE)), np.float32)
    for at in range(0, samples.shape[1], 1024):
        piece = av.AudioFrame.from_ndarray(samples[:, at : at + 1024], format="fltp", layout="mono")
        piece.sample_rate = SOUND_RATE
        file.mux(voice.encode(piece))
    file.mux(voice.encode(None))
