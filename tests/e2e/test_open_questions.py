"""Questions: a job that can't be decided waits, its report asks, and the answer starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from makers import face, new_folder, sha256, voice

if TYPE_CHECKING:
    from conftest import Stack


@pytest.fixture(scope="module")
def two_portraits(stack: Stack) -> dict[str, str]:
    """Drop a voice and two portraits of other names, for each answer anew; hand over folders whose question stands."""
    folders = {answer: new_folder() for answer in ("ask", "delete", "name")}
    with stack.paused():
        for folder in folders.values():
            stack.drop(f"{folder}anna.png", face(1))
            stack.drop(f"{folder}ben.png", face(2))
            stack.drop(f"{folder}line.wav", voice())
        for folder in folders.values():
            asked(stack, f"{folder}line", "PortraitAmbiguous")
    return folders


def asked(stack: Stack, name: str, code: str) -> dict[str, Any]:
    """Wait for a job's question."""
    return stack.events.wait(lambda r: r["name"] == name and r["status"] == "waiting" and _code(r) == code)


def _code(report: dict[str, Any]) -> str | None:
    return report["error"] and report["error"]["code"]


def test_two_portraits_and_no_match_are_listed_and_asked_about(stack: Stack, two_portraits: dict[str, str]) -> None:
    folder = two_portraits["ask"]

    stack.pass_through()
    report = stack.report(f"{folder}line")

    assert report["status"] == "waiting"
    assert report["candidates"] == {"keys": [f"{folder}anna.png", f"{folder}ben.png"], "count": 2}
    assert "the name line" in report["error"]["what_to_do"]
    assert "line.json" in report["error"]["what_to_do"]
    assert stack.tasks(folder) == []


def test_deleting_one_of_two_portraits_starts_the_job_with_the_other(
    stack: Stack, two_portraits: dict[str, str]
) -> None:
    folder = two_portraits["delete"]

    stack.delete(f"{folder}anna.png")
    done = stack.wait_report(f"{folder}line", "done")

    assert done["inputs"]["portrait"]["key"] == f"{folder}ben.png"
    assert [task["image_sha256"] for task in stack.tasks(folder)] == [sha256(face(2))]


def test_uploading_a_portrait_of_the_voices_name_beside_two_others_starts_the_job_with_it(
    stack: Stack, two_portraits: dict[str, str]
) -> None:
    folder = two_portraits["name"]

    stack.drop(f"{folder}line.jpg", face(3, kind="JPEG"))
    done = stack.wait_report(f"{folder}line", "done")

    assert done["inputs"]["portrait"]["chosen_by"] == "same_name"
    assert [task["image_sha256"] for task in stack.tasks(folder)] == [sha256(face(3, kind="JPEG"))]


def test_two_voices_of_one_name_are_asked_about_and_deleting_one_starts_the_job_with_the_other(
    stack: Stack, folder: str
) -> None:
    stack.drop(f"{folder}line.wav", voice())
    stack.drop(f"{folder}line.mp3", b"never looked at")
    question = asked(stack, f"{folder}line", "VoiceAmbiguous")
    assert question["candidates"] == {"keys": [f"{folder}line.mp3", f"{folder}line.wav"], "count": 2}
    stack.drop(f"{folder}line.png", face())
    stack.pass_through()
    assert stack.tasks(folder) == []

    stack.delete(f"{folder}line.mp3")
    stack.wait_report(f"{folder}line", "done")

    assert [task["audio_sha256"] for task in stack.tasks(folder)] == [sha256(voice())]


def test_a_voice_without_a_portrait_is_asked_about_and_any_portrait_of_the_folder_starts_it(
    stack: Stack, folder: str
) -> None:
    stack.drop(f"{folder}line.wav", voice())
    question = asked(stack, f"{folder}line", "PortraitMissing")
    assert question["inputs"]["voice"]["seconds"] == pytest.approx(1.0)
    assert "line.png" in question["error"]["what_to_do"]

    stack.drop(f"{folder}anybody.jpg", face(4, kind="JPEG"))
    done = stack.wait_report(f"{folder}line", "done")

    assert done["inputs"]["portrait"]["chosen_by"] == "only_image"
    assert len(stack.tasks(folder)) == 1
