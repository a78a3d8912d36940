"""Refusals: each says the code, the limit, the value and the way out, is told, and costs nothing but its check."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from makers import face, film, new_folder, png_that_says, voice

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Stack

    Content = bytes | Callable[[], bytes]


@dataclass(frozen=True)
class Refusal:
    """Files of one folder, dropped together, and what must come of them."""

    files: dict[str, Content]
    code: str
    says: tuple[str, ...]
    what_to_do: str
    limit: str | None = None
    measured: str | None = None
    base: str = "v"
    provider_code: str | None = None
    checks: int = 0  # portrait checks that it takes to find out
    and_also: tuple[str, ...] = field(default=())  # further jobs that the same file refuses


REFUSALS = {
    "a portrait's side of 299 px": Refusal(
        {"v.wav": voice(), "v.png": partial(face, 1, (299, 500))},
        "PortraitTooSmall",
        ("v.png", "299 by 500 pixels"),
        "at least 300 by 300 pixels",
        limit="300 px",
        measured="299 px",
    ),
    "a portrait of over 100 megapixels": Refusal(
        {"v.wav": voice(), "v.png": png_that_says(10_001, 10_000)},
        "PortraitTooLarge",
        ("v.png", "10001 by 10000 pixels"),
        "Make the picture smaller",
        limit="100 megapixels",
        measured="100.01 megapixels",
    ),
    "a voice of 61 s": Refusal(
        {"v.wav": partial(voice, 61, rate=8000), "v.png": face()},
        "VoiceTooLong",
        ("v.wav", "61.0 s", "60 s"),
        "Cut it",
        limit="60 s",
        measured="61.0 s",
    ),
    "bytes that are no sound": Refusal(
        {"v.mp3": bytes(100_000), "v.png": face()},
        "VoiceUnreadable",
        ("v.mp3", "can't be read"),
        "Upload it again",
        limit="a sound file that can be decoded",
    ),
    "a picture under a voice's name": Refusal(
        {"v.mp3": face(kind="JPEG"), "v.png": face()},
        "VoiceUnreadable",
        ("v.mp3", "JPEG"),
        "Save the voice as an M4A, MP3 or WAV",
        limit="a sound file",
        measured="a JPEG picture",
    ),
    "a film under a voice's name": Refusal(
        {"v.m4a": film, "v.png": face()},
        "VoiceIsVideo",
        ("v.m4a", "is a video"),
        "Save its sound",
        limit="sound without a moving picture",
    ),
    "an empty voice": Refusal(
        {"v.wav": b"", "v.png": face()},
        "VoiceEmpty",
        ("v.wav", "0 bytes"),
        "Upload it again",
        limit="a sound longer than 0 s",
        measured="0 s",
    ),
    "a voice of no samples": Refusal(
        {"v.wav": voice(0), "v.png": face()},
        "VoiceEmpty",
        ("v.wav",),
        "Upload it again",
        limit="a sound longer than 0 s",
        measured="0 s",
    ),
    "a voice that is silent throughout": Refusal(
        {"v.wav": voice(loudest=0), "v.png": face()},
        "VoiceSilent",
        ("v.wav", "silent throughout"),
        "microphone",
        limit="a peak of at least -60 dBFS",
        measured="digital silence",
    ),
    "an empty portrait": Refusal(
        {"v.wav": voice(), "v.png": b""},
        "PortraitUnreadable",
        ("v.png", "0 bytes"),
        "Upload it again",
        limit="a complete picture",
    ),
    "a portrait without its end": Refusal(
        {"v.wav": voice(), "v.jpg": face(kind="JPEG")[:-200]},
        "PortraitUnreadable",
        ("v.jpg", "can't be read"),
        "Upload it again",
        limit="a complete picture",
    ),
    "a portrait that would have to be turned, with boxes": Refusal(
        {
            "v.wav": voice(),
            "v.jpg": face(kind="JPEG", turned=True),
            "v.json": json.dumps({"input": {"face_bbox": [9, 9, 99, 99], "ext_bbox": [0, 0, 200, 200]}}).encode(),
        },
        "PortraitUnfit",
        ("v.jpg", "boxes"),
        "leave them out",
    ),
    "nobody in the portrait": Refusal(
        {"v.wav": voice(), "v.png": face(says="NoHuman")},
        "PortraitRefused",
        ("v.png", "No person"),
        "one person",
        provider_code="InvalidFile.NoHuman",
        checks=1,
    ),
    "several people in the portrait": Refusal(
        {"v.wav": voice(), "v.png": face(says="MultiHuman")},
        "PortraitRefused",
        ("v.png", "More than one person"),
        "one person only",
        provider_code="InvalidFile.MultiHuman",
        checks=1,
    ),
    "a voice that is named settings": Refusal(
        {"settings.wav": voice(), "settings.png": face()},
        "NameReserved",
        ("settings",),
        "another name",
        base="settings",
    ),
    "a field that settings don't have": Refusal(
        {"v.wav": voice(), "v.png": face(), "v.json": b'{"parameters": {"stile": "calm"}}'},
        "SettingsInvalid",
        ("v.json", "$.parameters.stile", "style_level"),
        "mend its name",
        # of any model: which one is the job's is known only with all settings together
        limit="style_level, ratio, template_id, eye_move_freq, video_fps, mouth_move_strength, head_move_strength, "
        "paste_back, resolution, style",
        measured='"stile"',
    ),
    "a value that settings don't have": Refusal(
        {"v.wav": voice(), "v.png": face(), "v.json": b'{"parameters": {"style_level": "wild"}}'},
        "SettingsInvalid",
        ("v.json", "$.parameters.style_level", "wild"),
        "calm",
    ),
    "a JSON that can't be read": Refusal(
        {"v.wav": voice(), "v.png": face(), "v.json": b'{"parameters": '},
        "SettingsInvalid",
        ("v.json",),
        "JSON",
    ),
    "a folder's settings.json that can't be read": Refusal(
        {"settings.json": b"{]", "v.wav": voice(), "w.wav": voice(), "v.png": face()},
        "SettingsInvalid",
        ("settings.json",),
        "JSON",
        and_also=("w",),
    ),
    "a request body beside a voice of its name": Refusal(
        {
            "v.wav": voice(),
            "v.png": face(),
            "v.json": json.dumps({"input": {"audio_url": "https://example.com/hello.mp3"}}).encode(),
        },
        "JobAmbiguous",
        ("v.wav", "v.json"),
        "Delete one",
    ),
}


@dataclass(frozen=True)
class Dropped:
    """The folder of each refusal, and what the simulator counted."""

    folders: dict[str, str]
    checks: dict[str, int]


@pytest.fixture(scope="module")
def dropped(stack: Stack) -> Dropped:
    """Drop all of them; hand over when another job, dropped after them, has passed through."""
    folders = {kind: new_folder() for kind in REFUSALS}
    rules = {
        kind: stack.simulator.fault({"delay": 0}, endpoint="check", times=None, match={"contains": folder})
        for kind, folder in folders.items()
    }
    with stack.paused():
        for kind, refusal in REFUSALS.items():
            for name, content in refusal.files.items():
                stack.drop(folders[kind] + name, content if isinstance(content, bytes) else content())
        for kind, refusal in REFUSALS.items():  # the provider finds out about the rest
            stack.wait_report(folders[kind] + refusal.base, "queued" if refusal.checks else "rejected")
    for kind, refusal in REFUSALS.items():
        stack.wait_report(folders[kind] + refusal.base, "rejected")
    stack.pass_through()
    hits = {rule["id"]: rule["hits"] for rule in stack.simulator.state()["faults"]}
    stack.simulator.clear_faults()
    return Dropped(folders, {kind: hits[rule] for kind, rule in rules.items()})


def rejected(stack: Stack, dropped: Dropped, kind: str) -> dict[str, Any]:
    """Return the last report of a refusal."""
    return stack.report(dropped.folders[kind] + REFUSALS[kind].base)


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_says_what_is_wrong_which_limit_and_value_and_the_way_out(
    stack: Stack, dropped: Dropped, kind: str
) -> None:
    refusal, report = REFUSALS[kind], rejected(stack, dropped, kind)

    assert report["status"] == "rejected"
    error = report["error"]
    assert (error["code"], error["provider_code"]) == (refusal.code, refusal.provider_code)
    assert [part for part in refusal.says if part not in report["message"]] == []
    assert refusal.what_to_do in error["what_to_do"]
    if refusal.limit is not None:
        assert error["limit"] == refusal.limit
    if refusal.measured is not None:
        assert error["measured"] == refusal.measured


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_told_by_event_and_notice(stack: Stack, dropped: Dropped, kind: str) -> None:
    report = rejected(stack, dropped, kind)

    told = [event for event in stack.events.of(report["name"]) if event["status"] == "rejected"]
    assert [event["error"] for event in told] == [report["error"]]
    notice = stack.notices.wait_for(report)
    assert notice["subject"] == f"Portraitcast: {report['name']} is rejected"
    assert notice["attributes"] == {"status": "rejected", "folder": dropped.folders[kind][:-1]}
    assert json.loads(notice["message"])["error"] == report["error"]


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_makes_no_task_and_pays_for_nothing_but_its_portrait_check(
    stack: Stack, dropped: Dropped, kind: str
) -> None:
    refusal, folder = REFUSALS[kind], dropped.folders[kind]

    assert stack.tasks(folder) == []
    assert dropped.checks[kind] == refusal.checks
    assert rejected(stack, dropped, kind)["cost_cny"]["total"] == pytest.approx(0.004 * refusal.checks)
    jobs = (refusal.base, *refusal.and_also)
    assert sorted(stack.results(folder)) == [f"{folder}{job}.json" for job in jobs]


def test_a_bad_settings_json_refuses_every_job_of_its_folder(stack: Stack, dropped: Dropped) -> None:
    folder = dropped.folders["a folder's settings.json that can't be read"]

    errors = [stack.report(f"{folder}{base}")["error"] for base in ("v", "w")]

    assert [error["code"] for error in errors] == ["SettingsInvalid"] * 2


def test_a_new_portrait_after_a_refusal_is_another_try(stack: Stack, folder: str) -> None:
    stack.drop(f"{folder}v.wav", voice())
    stack.drop(f"{folder}v.png", face(size=(299, 299)))
    refused = stack.wait_report(f"{folder}v", "rejected")

    stack.drop(f"{folder}v.png", face(size=(400, 400)))
    done = stack.wait_report(f"{folder}v", "done", after=refused["revision"])

    assert done["error"] is None
    assert len(stack.tasks(folder)) == 1
