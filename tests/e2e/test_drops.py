"""Dropping files: any order, one portrait for a folder, and the video that comes of it."""

from __future__ import annotations

import io
import itertools
import json
from typing import TYPE_CHECKING

import av
import pytest
from makers import face, new_folder, seconds_of, sha256, voice

from run import ROOT

if TYPE_CHECKING:
    from conftest import Stack

    from simulator import Simulator

SAMPLES = ROOT / "local" / "samples"
OWN_FILES = {
    "voice": (".wav", voice()),
    "portrait": (".png", face()),
    "json": (".json", json.dumps({"parameters": {"style_level": "calm"}}).encode()),
}


def test_a_voice_dropped_first_waits_says_what_is_missing_and_starts_when_its_portrait_comes(
    stack: Stack, folder: str
) -> None:
    stack.drop(f"{folder}line-01.wav", voice())
    waiting = stack.events.wait(lambda r: r["name"] == f"{folder}line-01" and bool(r["error"]))
    assert (waiting["status"], waiting["error"]["code"]) == ("waiting", "PortraitMissing")
    assert "line-01.png" in waiting["error"]["what_to_do"]

    stack.drop(f"{folder}line-01.png", face())
    stack.wait_report(f"{folder}line-01", "done")

    assert sorted(stack.results(folder)) == [f"{folder}line-01.json", f"{folder}line-01.mp4"]
    assert len(stack.tasks(folder)) == 1


def test_a_portrait_dropped_first_makes_no_report_and_serves_the_voice_that_comes_later(
    stack: Stack, folder: str
) -> None:
    stack.drop(f"{folder}line-01.png", face())
    stack.pass_through()
    assert stack.results(folder) == []

    stack.drop(f"{folder}line-01.wav", voice())
    done = stack.wait_report(f"{folder}line-01", "done")

    assert done["inputs"]["portrait"]["chosen_by"] == "same_name"
    assert len(stack.tasks(folder)) == 1


ORDERS = list(itertools.permutations(OWN_FILES))


@pytest.fixture(scope="module")
def dropped_in_any_order(stack: Stack) -> dict[tuple[str, ...], str]:
    """Drop the three files in each order; nothing is sent before all are taken in."""
    names = {order: f"{new_folder()}line-01" for order in ORDERS}
    with stack.paused():
        for order, name in names.items():
            for kind in order:
                suffix, content = OWN_FILES[kind]
                stack.drop(name + suffix, content)
        for name in names.values():
            stack.events.wait(
                lambda r, name=name: r["name"] == name and r["status"] == "queued" and r["inputs"]["settings"]
            )
    return names


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_voice_portrait_and_json_in_any_order_are_one_video(
    stack: Stack, dropped_in_any_order: dict[tuple[str, ...], str], order: tuple[str, ...]
) -> None:
    name = dropped_in_any_order[order]

    done = stack.wait_report(name, "done")

    assert [task["style_level"] for task in stack.tasks(name)] == ["calm"]
    assert [file["key"] for file in done["inputs"]["settings"]] == [f"{name}.json"]
    assert done["inputs"]["portrait"]["chosen_by"] == "same_name"


def test_one_portrait_and_several_voices_of_a_folder_are_a_video_each_and_one_portrait_check(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    portrait, names = face(1), [f"{folder}line-0{n}" for n in range(4)]
    checks = simulator.fault({"delay": 0}, endpoint="check", times=None, match={"contains": folder})

    stack.drop(f"{folder}anna.png", portrait)
    for n, name in enumerate(names):
        stack.drop(f"{name}.wav", voice(seed=n))
    done = [stack.wait_report(name, "done") for name in names]

    assert {report["inputs"]["portrait"]["chosen_by"] for report in done} == {"only_image"}
    assert [task["image_sha256"] for task in stack.tasks(folder)] == [sha256(portrait)] * 4
    assert {task["audio_sha256"] for task in stack.tasks(folder)} == {sha256(voice(seed=n)) for n in range(4)}
    assert sorted(stack.results(folder)) == sorted(name + suffix for name in names for suffix in (".json", ".mp4"))
    assert next(rule["hits"] for rule in simulator.state()["faults"] if rule["id"] == checks) == 1


def test_hidden_files_folder_markers_and_other_suffixes_are_left_alone(stack: Stack, folder: str) -> None:
    for key in (".hidden.wav", "notes.txt", "line", "sub/", "._line.mp3"):
        stack.drop(f"{folder}{key}", voice())

    stack.pass_through()

    assert stack.results(folder) == []
    assert [report for report in stack.events.so_far() if report["name"].startswith(folder)] == []


def test_a_video_is_h264_of_512_by_512_at_15_frames_with_sound_as_long_as_the_voice(stack: Stack, folder: str) -> None:
    stack.drop(f"{folder}line.png", face(2, (640, 500)))
    stack.drop(f"{folder}line.wav", voice(3.4))

    done = stack.wait_report(f"{folder}line", "done")

    content = stack.result(f"{folder}line.mp4")
    with av.open(io.BytesIO(content)) as video:
        picture = video.streams.video[0]
        assert (picture.codec_context.name, picture.width, picture.height) == ("h264", 512, 512)
        assert picture.average_rate == 15
        assert sum(1 for _ in video.decode(picture)) == 51
    assert seconds_of(content) == pytest.approx(3.4, abs=0.05)
    told = done["video"]
    assert (told["key"], told["bytes"], told["sha256"]) == (f"{folder}line.mp4", len(content), sha256(content))
    assert (told["width"], told["height"]) == (512, 512)
    assert told["seconds"] == pytest.approx(3.4, abs=0.1)


def test_a_real_portrait_and_a_real_voice_become_a_video(stack: Stack, folder: str) -> None:
    stack.drop(f"{folder}speech.png", SAMPLES / "portrait.png")
    stack.drop(f"{folder}speech.mp3", SAMPLES / "voice.mp3")

    done = stack.wait_report(f"{folder}speech", "done")

    voice_seconds = done["inputs"]["voice"]["seconds"]
    assert voice_seconds == pytest.approx(6.05, abs=0.1)
    assert seconds_of(stack.result(f"{folder}speech.mp4")) == pytest.approx(voice_seconds, abs=0.1)
