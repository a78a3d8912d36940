"""Refusals: each says the code, the limit, the value and the way out, is told, and costs nothing but its check."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from makers import face, new_folder, voice

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Stack

    Content = bytes | Callable[[], bytes]

MIB = 1_048_576


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
    "a portrait's side of 399 px": Refusal(
        {"v.wav": voice(), "v.png": partial(face, 1, (399, 500))},
        "PortraitTooSmall",
        ("v.png", "399 by 500 pixels"),
        "at least 400 by 400 pixels",
        limit="400 px",
        measured="399 px",
    ),
    "a portrait's side of 7001 px": Refusal(
        {"v.wav": voice(), "v.png": partial(face, 1, (7001, 400))},
        "PortraitTooLarge",
        ("v.png", "7001 by 400 pixels"),
        "no side is over 7000 pixels",
        limit="7000 px",
        measured="7001 px",
    ),
    "a voice of 61 s": Refusal(
        {"v.wav": partial(voice, 61, rate=8000), "v.png": face()},
        "VoiceTooLong",
        ("v.wav", "61.0 s", "60 s"),
        "Cut it to 60 s",
        limit="60 s",
        measured="61.0 s",
    ),
    "a voice one byte over 15 MB": Refusal(
        {"v.mp3": lambda: bytes(15 * MIB + 1), "v.png": face()},
        "VoiceTooBig",
        ("v.mp3", "15 MB"),
        "make it shorter",
        limit="15 MB",
        measured="15.000001 MB",
    ),
    "a WAV named .mp3": Refusal(
        {"v.mp3": voice(), "v.png": face()},
        "VoiceTypeMismatch",
        ("v.mp3", "WAV"),
        "v.wav",
        limit="an MP3 sound",
        measured="a WAV sound",
    ),
    "a picture under a voice's name": Refusal(
        {"v.mp3": face(kind="JPEG"), "v.png": face()},
        "VoiceTypeMismatch",
        ("v.mp3", "JPEG"),
        "Save the voice as an MP3 or WAV",
        limit="an MP3 sound",
        measured="a JPEG picture",
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
    "a WAV that was cut short": Refusal(
        {"v.wav": voice()[:20_000], "v.png": face()},
        "VoiceUnreadable",
        ("v.wav", "can't be read"),
        "Upload it again",
        limit="a complete MP3 or WAV",
    ),
    "an empty portrait": Refusal(
        {"v.wav": voice(), "v.png": b""},
        "PortraitUnreadable",
        ("v.png", "0 bytes"),
        "Upload it again",
        limit="a complete JPEG, PNG, BMP or WebP",
    ),
    "a portrait without its end": Refusal(
        {"v.wav": voice(), "v.jpg": face(kind="JPEG")[:-200]},
        "PortraitUnreadable",
        ("v.jpg", "can't be read"),
        "Upload it again",
        limit="a complete JPEG, PNG, BMP or WebP",
    ),
    "a sound that the service doesn't read": Refusal(
        {"v.M4A": voice(), "v.png": face()},
        "UnsupportedType",
        ("v.M4A",),
        "one of .mp3, .wav",
        limit=".mp3, .wav",
        measured=".m4a",
    ),
    "a picture that the service doesn't read": Refusal(
        {"v.wav": voice(), "v.heic": b"ftypheic"},
        "UnsupportedType",
        ("v.heic",),
        ".webp",
        limit=".bmp, .jpeg, .jpg, .png, .webp",
        measured=".heic",
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
    stack.drop(f"{folder}v.png", face(size=(399, 399)))
    refused = stack.wait_report(f"{folder}v", "rejected")

    stack.drop(f"{folder}v.png", face(size=(400, 400)))
    done = stack.wait_report(f"{folder}v", "done", after=refused["revision"])

    assert done["error"] is None
    assert len(stack.tasks(folder)) == 1
