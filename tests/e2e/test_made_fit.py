"""What people have is made into what the service takes; what it takes already is passed on as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from makers import as_m4a, face, seconds_of, voice

if TYPE_CHECKING:
    from conftest import Stack


@dataclass(frozen=True)
class Given:
    """A pair as people have it: what the report says was changed, and the size of the picture that is passed on."""

    files: dict[str, bytes]
    voice_changes: tuple[str, ...] = ()
    portrait_changes: tuple[str, ...] = ()
    size: tuple[int, int] = (480, 480)


GIVEN = {
    "plain": Given({"v.wav": voice(), "v.png": face()}),
    "misnamed": Given(
        {"v.mp3": voice(), "v.jpg": face()},
        voice_changes=("renamed from .mp3 to .wav",),
        portrait_changes=("renamed from .jpg to .png",),
    ),
    "a voice memo": Given(
        {"v.m4a": as_m4a(voice()), "v.png": face()}, voice_changes=("converted from AAC in M4A to WAV",)
    ),
    "a picture on its side": Given(
        {"v.wav": voice(), "v.jpg": face(size=(480, 640), kind="JPEG", turned=True)},
        portrait_changes=("turned upright as its Exif says",),
        size=(640, 480),
    ),
    "a GIF": Given({"v.wav": voice(), "v.gif": face(kind="GIF")}, portrait_changes=("converted from GIF to JPEG",)),
    "a small picture": Given(
        {"v.wav": voice(), "v.png": face(size=(320, 320))},
        portrait_changes=("converted from PNG to JPEG", "enlarged from 320 by 320 to 400 by 400 pixels"),
        size=(400, 400),
    ),
    "a large picture": Given(
        {"v.wav": voice(), "v.png": face(size=(7200, 3600))},
        portrait_changes=("converted from PNG to JPEG", "made smaller from 7200 by 3600 to 4096 by 2048 pixels"),
        size=(4096, 2048),
    ),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_what_people_have_becomes_a_video(stack: Stack, folder: str, kind: str) -> None:
    given, name = GIVEN[kind], f"{folder}v"
    for file, content in given.files.items():
        stack.drop(folder + file, content)

    done = stack.wait_report(name, "done")

    inputs, (task,) = done["inputs"], [t for t in stack.tasks("") if t["id"] == done["task"]["id"]]
    assert tuple(inputs["voice"]["changes"]) == given.voice_changes
    assert tuple(inputs["portrait"]["changes"]) == given.portrait_changes
    assert (inputs["portrait"]["width"], inputs["portrait"]["height"]) == given.size
    assert inputs["voice"]["seconds"] == pytest.approx(1.0, abs=0.1)
    # What is plain goes to the service as the very file that was dropped.
    assert (folder in task["audio_url"], folder in task["image_url"]) == (
        not given.voice_changes,
        not given.portrait_changes,
    )
    assert seconds_of(stack.result(f"{name}.mp4")) == pytest.approx(inputs["voice"]["seconds"], abs=0.2)
