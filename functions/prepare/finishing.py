"""The verbs that the state machine calls: cut a voice, join parts, finish a video. Each can be repeated."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from folders import work_folder
from portraitcast_media import child, finish
from portraitcast_media.cut import part_key
from portraitcast_media.finish import JOIN_LIMITS, Label
from portraitcast_media.limits import VOICE_MAX_BYTES, VOICE_MAX_SECONDS
from portraitcast_media.problems import RefusedError, takes_too_much
from storage import GoneError, Source

if TYPE_CHECKING:
    from storage import Storage

VIDEO_MAX_BYTES: Final = 2_000_000_000  # ours: bounds the disk; ten minutes of 512 by 512 px have 60 MB
POSTER_TYPE: Final = "image/jpeg"
VIDEO_TYPE: Final = "video/mp4"


@dataclass(frozen=True, slots=True)
class Cut:
    """An order to cut a voice.

    Attributes
    ----------
    voice
        Where it lies: the upload, or its asset.
    sha256
        Of the upload, as its facts say: parts are named by it.
    seconds
        Of the voice, as its facts say.
    bounds
        Where cuts lie, s, each a multiple of 0.2 s.
    """

    voice: Source
    sha256: str
    seconds: float
    bounds: tuple[float, ...]

    @classmethod
    def from_order(cls, order: dict[str, Any], upload_bucket: str, work_bucket: str) -> Self:
        """Read ``{"voice": {"key", "version"?}, "sha256", "seconds", "bounds"}``; an asset has no version."""
        return cls(
            voice=_source(order["voice"], upload_bucket, work_bucket),
            sha256=str(order["sha256"]),
            seconds=float(order["seconds"]),
            bounds=tuple(float(bound) for bound in order["bounds"]),
        )

    @property
    def keys(self) -> list[str]:
        """The parts' names in the work bucket."""
        edges = [0.0, *self.bounds, self.seconds]
        return [part_key(self.sha256, start, end) for start, end in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Finish:
    """An order to finish a video.

    Attributes
    ----------
    parts
        (key in the work bucket, seconds to be shown) of each part's video.
    voice
        The whole voice; None for one part.
    label
        How it is to be marked.
    result, poster
        Keys in the work bucket; no poster is put where that is None.
    """

    parts: tuple[tuple[str, float], ...]
    voice: Source | None
    label: Label
    result: str
    poster: str | None

    @classmethod
    def from_order(cls, order: dict[str, Any], upload_bucket: str, work_bucket: str) -> Self:
        """Read ``{"parts": [{"key", "seconds"}], "voice"?, "label"?, "result", "poster"?}``."""
        voice = order.get("voice")
        return cls(
            parts=tuple((str(part["key"]), float(part["seconds"])) for part in order["parts"]),
            voice=_source(voice, upload_bucket, work_bucket) if voice else None,
            label=Label(**order["label"]) if order.get("label") else Label("none"),
            result=str(order["result"]),
            poster=str(order["poster"]) if order.get("poster") else None,
        )


def _source(place: dict[str, Any], upload_bucket: str, work_bucket: str) -> Source:
    version = place.get("version")
    return Source(upload_bucket if version else work_bucket, str(place["key"]), version)


class Finishing:
    """Does what the state machine orders.

    Parameters
    ----------
    storage
        Both buckets.
    upload_bucket
        Where uploads lie.
    """

    def __init__(self, storage: Storage, upload_bucket: str) -> None:
        self._storage = storage
        self._bucket = upload_bucket

    def handle(self, event: dict[str, Any]) -> dict[str, Any]:
        """Do ``{"cut": …}``, ``{"join": …}`` or ``{"finish": …}`` and return what came of it.

        Returns
        -------
        dict
            What the verb says, or ``{"problem": {…}}`` where its files can't be used, or ``{"gone": key}`` where one
            of them isn't there any more. Everything that may pass by itself is raised, for the state machine to retry.
        """
        verbs = {"cut": self._cut, "join": self._finish, "finish": self._finish}
        names = [name for name in verbs if isinstance(event.get(name), dict)]
        if len(names) != 1:
            raise ValueError(f"an order has one of {', '.join(verbs)}, and this has {sorted(event)}")
        try:
            return verbs[names[0]](event[names[0]])
        except RefusedError as error:
            return {"problem": error.problem.as_dict()}
        except GoneError as error:
            return {"gone": str(error)}

    def _cut(self, asked: dict[str, Any]) -> dict[str, Any]:
        order = Cut.from_order(asked, self._bucket, self._storage.work_bucket)
        keys = order.keys
        with work_folder() as work:
            file = work / "voice"
            self._storage.fetch(order.voice, file, VOICE_MAX_BYTES)
            arguments = {
                "path": str(file),
                "key": order.voice.key,
                "bounds": list(order.bounds),
                "work": str(work),
                "max_seconds": _most(),
            }
            try:
                parts = child.run("cut:in_child", arguments, work, JOIN_LIMITS)["parts"]
            except child.DecoderDiedError as error:
                raise RefusedError(takes_too_much("voice", order.voice.key, str(error))) from error
            for key, part in zip(keys, parts, strict=True):
                if not self._storage.has(key, part["bytes"]):
                    self._storage.put(key, Path(part["file"]), "audio/wav")
        kept = ("start", "end", "seconds", "sha256", "bytes")
        return {
            "parts": [{"key": key} | {name: part[name] for name in kept} for key, part in zip(keys, parts, strict=True)]
        }

    def _finish(self, asked: dict[str, Any]) -> dict[str, Any]:
        order = Finish.from_order(asked, self._bucket, self._storage.work_bucket)
        with work_folder() as work:
            files = []
            for number, (key, seconds) in enumerate(order.parts, 1):
                file = work / f"part-{number}.mp4"
                self._storage.fetch(Source(self._storage.work_bucket, key), file, VIDEO_MAX_BYTES)
                files.append((file, seconds))
            voice = None
            if order.voice and len(files) > 1:
                voice = work / "voice"
                self._storage.fetch(order.voice, voice, VOICE_MAX_BYTES)
            made = finish.run(files, voice, order.label, work, max_seconds=_most())
            self._storage.put(order.result, Path(made.video), VIDEO_TYPE, _marks(made.ai_label))
            if order.poster:
                self._storage.put(order.poster, Path(made.poster), POSTER_TYPE)
        names = ("bytes", "sha256", "width", "height", "seconds", "frames", "sound_seconds", "reencoded", "ai_label",
                 "label_problem")  # fmt: skip
        return {"key": order.result, "poster": order.poster} | {name: getattr(made, name) for name in names}


def _marks(ai_label: dict[str, Any] | None) -> dict[str, str]:
    """Return the object's metadata: that it is made by AI, for who reads no MP4."""
    return {"ai-label": ai_label["mode"], "digital-source-type": ai_label["source_type"]} if ai_label else {}


def _most() -> float:
    """Return the longest voice that is taken, s; a voice that was taken once has it, so a second more does no harm."""
    return float(os.environ.get("MAX_VOICE_SECONDS", VOICE_MAX_SECONDS)) + 1
