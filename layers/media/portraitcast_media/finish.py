"""The last step of every video: join its parts, label it, take its poster. Callers use `run`: any bytes are safe."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from portraitcast_media import child
from portraitcast_media.child import Limits
from portraitcast_media.facts import sha256_of
from portraitcast_media.limits import CHILD_JOIN_SECONDS
from portraitcast_media.problems import Problem, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

MODES: Final = ("none", "metadata", "start", "always")  # AiLabel
JOIN_LIMITS: Final = Limits(seconds=CHILD_JOIN_SECONDS)


@dataclass(frozen=True, slots=True)
class Label:
    """How a video is to be marked as made by AI.

    Attributes
    ----------
    mode
        ``none``, ``metadata``, ``start`` (metadata, and visible for the first 2.4 s) or ``always``.
    text
        What the visible label says.
    producer, produce_id
        ``ContentProducer`` and ``ProduceID`` of the ``AIGC`` entry.
    """

    mode: str
    text: str = "AI generated"
    producer: str = ""
    produce_id: str = ""

    def __post_init__(self) -> None:
        """Refuse a mode that nobody knows."""
        if self.mode not in MODES:
            raise ValueError(f"a label is one of {', '.join(MODES)}, not {self.mode!r}")


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished video.

    Attributes
    ----------
    video, poster
        Where they lie on this disk.
    bytes, sha256
        Of the video.
    width, height
        px.
    seconds, frames, sound_seconds, reencoded
        As `portraitcast_media.join.Film`.
    ai_label
        What was written: ``{"mode", "aigc", "aigc_by", "source_type", "text"}``, or None.
    label_problem
        Why the marks couldn't be written, or None; the video is then as it was before.
    """

    video: str
    poster: str
    bytes: int
    sha256: str
    width: int
    height: int
    seconds: float
    frames: int
    sound_seconds: float
    reencoded: bool
    ai_label: dict[str, Any] | None
    label_problem: str | None


def run(
    parts: Sequence[tuple[Path, float]],
    voice: Path | None,
    label: Label,
    work: Path,
    *,
    max_seconds: float,
    limits: Limits = JOIN_LIMITS,
) -> Finished:
    """Finish a video in a child process.

    Parameters
    ----------
    parts
        Each part's video and how long it is to be shown, s.
    voice
        The whole voice; needed for more than one part, and not used for one, which has its sound.
    label
        How to mark it.
    work
        A folder to write into.
    max_seconds
        The longest voice that is taken.
    limits
        What the child process may have.

    Raises
    ------
    RefusedError
        ``VideoUnusable``: a part can't be read, or the result would be wrong.
    """
    arguments = {
        "parts": [[str(file), seconds] for file, seconds in parts],
        "voice": str(voice) if voice else None,
        "label": asdict(label),
        "work": str(work),
        "max_seconds": max_seconds,
    }
    try:
        said = child.run("finish:in_child", arguments, work, limits)
    except child.DecoderDiedError as error:
        raise RefusedError(unusable(f"the decoder {error}")) from error
    return Finished(**said)


def unusable(reason: str) -> Problem:
    """``VideoUnusable``: what the service has delivered can't be finished."""
    return Problem(
        code="VideoUnusable",
        message=f"The video can't be finished: {reason}.",
        what_to_do="Drop the voice again for another try; if it happens again, send the report to the operator.",
        limit="an MP4 that can be read",
        measured=reason,
    )


def in_child(
    parts: list[list[Any]], voice: str | None, label: dict[str, str], work: str, max_seconds: float
) -> dict[str, Any]:
    """Finish; runs in the child process."""
    from portraitcast_media.join import VideoError  # noqa: PLC0415  # the decoders are loaded in the child only

    try:
        return asdict(_finish(parts, Path(voice) if voice else None, Label(**label), Path(work), max_seconds))
    except VideoError as error:
        raise RefusedError(unusable(str(error))) from error


def _finish(parts: list[list[Any]], voice: Path | None, label: Label, work: Path, max_seconds: float) -> Finished:
    from portraitcast_media.join import Piece, VideoError, join, measure  # noqa: PLC0415  # as above
    from portraitcast_media.poster import write_poster  # noqa: PLC0415  # as above

    if len(parts) == 1:
        video = Path(parts[0][0])
        film = measure(video)
    else:
        if voice is None:
            raise VideoError("parts are joined with the whole voice, and there is none")
        video = work / "joined.mp4"
        film = join([Piece(file, seconds) for file, seconds in parts], voice, video, max_seconds=max_seconds)
    reencoded = film.reencoded
    marked, ai_label, problem = _marked(video, label, work)
    if marked != video:
        film = measure(marked)
        reencoded = reencoded or label.mode in {"start", "always"}
    poster = work / "poster.jpg"
    write_poster(marked, poster)
    return Finished(
        video=str(marked),
        poster=str(poster),
        bytes=marked.stat().st_size,
        sha256=sha256_of(marked),
        width=film.width,
        height=film.height,
        seconds=film.seconds,
        frames=film.frames,
        sound_seconds=film.sound_seconds,
        reencoded=reencoded,
        ai_label=ai_label,
        label_problem=problem,
    )


def _marked(video: Path, label: Label, work: Path) -> tuple[Path, dict[str, Any] | None, str | None]:
    """Return the marked video, what was written, and why it couldn't be."""
    from portraitcast_media.join import VideoError  # noqa: PLC0415  # as above
    from portraitcast_media.label import START_SECONDS, Maker, write_metadata, write_visible  # noqa: PLC0415  # as above

    if label.mode == "none":
        return video, None, None
    seen = video
    try:
        if label.mode in {"start", "always"}:
            seen = work / "visible.mp4"
            write_visible(video, seen, label.text, START_SECONDS if label.mode == "start" else None)
        marked = work / "marked.mp4"
        written = write_metadata(seen, marked, Maker(label.producer, label.produce_id))
    except VideoError as error:
        return video, None, str(error)
    said = {"mode": label.mode, **asdict(written), "text": label.text if seen != video else None}
    return marked, said, None
