"""Cut a voice into parts: WAVs that, laid end to end, are the voice sample for sample."""

from __future__ import annotations

import wave
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from portraitcast_media.facts import sha256_of
from portraitcast_media.limits import GRID_SECONDS, RECIPE
from portraitcast_media.voices import decoded, lower_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

_SLACK: Final = 0.001  # s; boundaries come as decimals of JSON
_FRAMES: Final = 65_536  # read at once


class CutError(ValueError):
    """The boundaries don't make parts of this voice; the message says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a voice, written as a WAV.

    Attributes
    ----------
    file
        Where it lies on this disk.
    start, end
        Where it lies in the voice, s.
    seconds
        Its length, s: samples divided by their rate, 3 decimals.
    sha256, bytes
        Of the WAV.
    """

    file: str
    start: float
    end: float
    seconds: float
    sha256: str
    bytes: int


def cut(path: Path, key: str, bounds: Sequence[float], work: Path, *, max_seconds: float) -> list[Part]:
    """Write the parts of a voice into a folder.

    Parameters
    ----------
    path
        The voice, of any kind that can be decoded.
    key
        Its key in the bucket, for messages.
    bounds
        Where cuts lie, s, ascending, each a multiple of 0.2 s; the voice's beginning and end are not among them.
    work
        The folder.
    max_seconds
        The longest voice that is taken.

    Returns
    -------
    list
        One part more than there are cuts; each at most 15 MB, all at one rate.

    Raises
    ------
    RefusedError
        The voice can't be decoded.
    CutError
        A cut is off the grid, out of order or outside the voice.
    """
    whole = work / "whole.wav"
    found, measured = decoded(path, key, whole, max_seconds)
    seconds = float(found.seconds)
    steps = [round(bound / GRID_SECONDS) for bound in bounds]
    if any(abs(step * GRID_SECONDS - bound) > _SLACK for step, bound in zip(steps, bounds, strict=True)):
        raise CutError(f"cuts lie on a grid of {GRID_SECONDS} s, and these don't: {list(bounds)}")
    edges = [0.0, *(step * GRID_SECONDS for step in steps), seconds]
    lengths = [end - start for start, end in pairwise(edges)]
    if min(lengths) <= 0:
        raise CutError(f"cuts ascend and lie within the voice's {seconds:.3f} s, and these don't: {list(bounds)}")
    rate = lower_rate(max(lengths), measured.rate)
    if rate != measured.rate:
        decoded(path, key, whole, max_seconds, rate=rate)
    parts = []
    with wave.open(str(whole), "rb") as voice:
        total, each = voice.getnframes(), voice.getframerate() // 5  # samples a step of the grid: whole, by `rate_for`
        ends = [*(step * each for step in steps), total]
        at = 0
        for number, end in enumerate(ends, 1):
            file = work / f"part-{number}.wav"
            _write(voice, file, end - at)
            start = at / voice.getframerate()
            parts.append(
                Part(
                    file=str(file),
                    start=round(start, 3),
                    end=round(end / voice.getframerate(), 3),
                    seconds=round((end - at) / voice.getframerate(), 3),
                    sha256=sha256_of(file),
                    bytes=file.stat().st_size,
                )
            )
            at = end
    whole.unlink()
    return parts


def _write(voice: wave.Wave_read, file: Path, frames: int) -> None:
    """Move the next samples into a file of their own."""
    with wave.open(str(file), "wb") as part:
        part.setparams((1, 2, voice.getframerate(), frames, "NONE", "not compressed"))
        while frames > 0:
            some = min(frames, _FRAMES)
            part.writeframesraw(voice.readframes(some))
            frames -= some


def part_key(voice_sha256: str, start: float, end: float) -> str:
    """Return a part's name in the work bucket: by the voice's content, the recipe and its place, in ms."""
    return f"parts/{voice_sha256}-{RECIPE}/{round(start * 1000):08d}-{round(end * 1000):08d}.wav"


def in_child(path: str, key: str, bounds: list[float], work: str, max_seconds: float) -> dict[str, Any]:
    """Cut; runs in the child process."""
    parts = cut(Path(path), key, bounds, Path(work), max_seconds=max_seconds)
    return {"parts": [asdict(part) for part in parts], "sha256": sha256_of(Path(path))}
