"""Make the video: the cut-out of the portrait, a mouth that opens with the voice, a head that sways a little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from simulator.inputs import SAMPLE_RATE, Box

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

FPS: Final = 15  # EMO, video specification
SIZES: Final = {"1:1": (512, 512), "3:4": (512, 704)}  # px (EMO, video specification)
LEVELS: Final = 16  # how many mouths are drawn, from shut to wide open


@dataclass(frozen=True)
class Plan:
    """What a video shows of its picture."""

    face: Box  # px, in the picture
    cut: Box  # px, in the picture
    size: tuple[int, int]  # width and height of the video, px; even
    fps: int
    ratio: str  # as the usage tells it


@dataclass(frozen=True)
class Video:
    """A finished video on disk."""

    path: Path
    seconds: float
    width: int
    height: int
    ratio: str


def render(portrait: Image.Image, voice: NDArray[np.float32], plan: Plan, path: Path) -> Video:
    """Render an MP4 (H.264 yuv420p, AAC) as long as the voice, index first.

    Parameters
    ----------
    portrait : Image.Image
        The whole picture.
    voice : NDArray[np.float32]
        Mono samples at ``SAMPLE_RATE``, shape (n,).
    plan : Plan
        Face, cut-out, size and frame rate.
    path : Path
        Where it goes; written in place.
    """
    width, height = plan.size
    cut = portrait.convert("RGB").resize(plan.size, Image.Resampling.BICUBIC, box=plan.cut, reducing_gap=2.0)
    scale_x, scale_y = width / (plan.cut[2] - plan.cut[0]), height / (plan.cut[3] - plan.cut[1])
    face = (
        (plan.face[0] - plan.cut[0]) * scale_x,
        (plan.face[1] - plan.cut[1]) * scale_y,
        (plan.face[2] - plan.cut[0]) * scale_x,
        (plan.face[3] - plan.cut[1]) * scale_y,
    )
    mouths = [_speaking(cut, face, level / (LEVELS - 1)) for level in range(LEVELS)]
    opening = mouth_opening(voice, plan.fps)
    frames = (_sway(mouths[round(o * (LEVELS - 1))], n / plan.fps, o) for n, o in enumerate(opening))
    _encode(frames, voice, cut.size, plan.fps, path)
    return Video(path, len(voice) / SAMPLE_RATE, width, height, plan.ratio)


def still(seconds: float, width: int, height: int, path: Path) -> Video:
    """Make a playable video of some other length and size, for tests that deliver a wrong one."""
    frame = Image.new("RGB", (width, height), (90, 110, 140))
    sound = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    _encode((frame for _ in range(max(1, round(seconds * FPS)))), sound, frame.size, FPS, path)
    return Video(path, seconds, width, height, f"{width}:{height}")


def mouth_opening(voice: NDArray[np.float32], fps: int = FPS) -> list[float]:
    """Tell how far the mouth is open in each frame, 0…1: the loudness of its time, falling off softly."""
    count = max(1, round(len(voice) / SAMPLE_RATE * fps))
    loudness = [
        float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) if part.size else 0.0
        for part in np.array_split(voice, count)
    ]
    full = max(float(np.percentile(loudness, 95)), 0.01)  # below that it is silence, not a soft voice
    opening: list[float] = []
    before = 0.0
    for rms in loudness:
        before = max(min(rms / full, 1.0) ** 0.8, before * 0.45)
        opening.append(before)
    return opening


def _speaking(cut: Image.Image, face: tuple[float, float, float, float], opening: float) -> Image.Image:
    """Draw the portrait with its mouth open by 0…1; shut, it is the portrait as it came."""
    if opening == 0:
        return cut
    left, top, right, bottom = face
    wide, high = right - left, bottom - top
    x, y = (left + right) / 2, top + 0.77 * high
    half_width, half_height = wide * (0.155 - 0.015 * opening), high * 0.06 * opening + 1
    image = cut.copy()
    # The jaw goes down with the mouth, blended into the cheeks.
    jaw = Image.new("L", cut.size, 0)
    ImageDraw.Draw(jaw).ellipse((x - 0.27 * wide, y, x + 0.27 * wide, y + 0.24 * high), fill=255)
    jaw = jaw.filter(ImageFilter.GaussianBlur(max(wide, 1) * 0.03))
    image.paste(cut.transform(cut.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, -half_height)), (0, 0), jaw)
    # The mouth is drawn four times as large, so that its edge is smooth.
    box = (int(x - wide / 2), int(y - high / 4), int(x + wide / 2) + 1, int(y + high / 3) + 1)
    large = Image.new("RGBA", ((box[2] - box[0]) * 4, (box[3] - box[1]) * 4))
    draw = ImageDraw.Draw(large)
    center_x, center_y = (x - box[0]) * 4, (y + half_height * 0.6 - box[1]) * 4
    rx, ry, lip = half_width * 4, half_height * 4, high * 0.08

    def ellipse(grow: float, colour: tuple[int, int, int, int], part: ImageDraw.ImageDraw) -> None:
        part.ellipse((center_x - rx - grow, center_y - ry - grow, center_x + rx + grow, center_y + ry + grow), colour)

    ellipse(lip, (181, 82, 84, 255), draw)
    inside = Image.new("L", large.size, 0)
    ImageDraw.Draw(inside).ellipse((center_x - rx, center_y - ry, center_x + rx, center_y + ry), 255)
    hollow = Image.new("RGBA", large.size, (74, 20, 28, 255))
    drawn = ImageDraw.Draw(hollow)
    drawn.ellipse(
        (center_x - rx * 0.7, center_y + ry * 0.35, center_x + rx * 0.7, center_y + ry * 2), (190, 84, 92, 255)
    )
    drawn.rectangle((center_x - rx, center_y - ry, center_x + rx, center_y - ry * 0.5), (246, 242, 236, 255))
    large.paste(hollow, (0, 0), inside)
    small = large.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BOX)
    image.paste(small, box[:2], small)
    return image


def _sway(image: Image.Image, seconds: float, opening: float) -> Image.Image:
    """Shift a frame and bring it nearer by a little; a loud voice nods."""
    width, height = image.size
    seen = 0.96 - 0.008 * math.sin(2 * math.pi * seconds / 4.7)  # part that is seen: swaying never bares an edge
    x = width * ((1 - seen) / 2 + 0.008 * math.sin(2 * math.pi * seconds / 3.1))
    y = height * ((1 - seen) / 2 + 0.006 * math.sin(2 * math.pi * seconds / 2.3) - 0.006 * opening)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=(x, y, x + width * seen, y + height * seen))


def _encode(
    frames: Iterable[Image.Image], voice: NDArray[np.float32], size: tuple[int, int], fps: int, path: Path
) -> None:
    """Write frames and sound; a file on disk, as only that lets the index go to its front."""
    path.touch(0o600)  # a face: for nobody else on this machine
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "superfast", "crf": "24"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.thread_count = 1  # the machine has other work; how many renders run at once is decided elsewhere
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")))
        container.mux(video.encode(None))
        part = av.AudioFrame.from_ndarray(voice.reshape(1, -1), format="flt", layout="mono")
        part.sample_rate = SAMPLE_RATE
        container.mux(sound.encode(part))
        container.mux(sound.encode(None))
