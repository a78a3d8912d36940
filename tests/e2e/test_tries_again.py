"""Dropping again, and deleting: same bytes cost nothing, new ones make a new video, what isn't sent is withdrawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from makers import face, seconds_of, sha256, voice

if TYPE_CHECKING:
    from conftest import Stack

    from simulator import Simulator


def test_the_same_bytes_again_are_noted_without_an_event_or_a_task(stack: Stack, folder: str) -> None:
    name = f"{folder}line"
    stack.drop_pair(name)
    stack.wait_report(name, "done")
    video, told = stack.result(f"{name}.mp4"), len(stack.events.of(name))

    stack.drop_pair(name)
    stack.until(lambda: stack.report(name)["asked_again_at"], "the report says that it was asked again")
    stack.pass_through()

    assert stack.report(name)["status"] == "done"
    assert len(stack.events.of(name)) == told
    assert len(stack.tasks(folder)) == 1
    assert stack.result(f"{name}.mp4") == video


def test_new_bytes_make_a_new_video_and_the_old_one_stays_until_then(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    name = f"{folder}line"
    stack.drop_pair(name)
    first = stack.wait_report(name, "done")
    old = stack.result(f"{name}.mp4")
    simulator.set(manual=True)

    stack.drop(f"{name}.wav", voice(2.2))
    rendering = stack.wait_report(name, "rendering", after=first["revision"])
    assert rendering["video"] == first["video"]
    assert stack.result(f"{name}.mp4") == old
    simulator.set(manual=False)
    second = stack.wait_report(name, "done", after=first["revision"])

    assert second["video"]["seconds"] == pytest.approx(2.2, abs=0.1)
    assert seconds_of(stack.result(f"{name}.mp4")) == pytest.approx(2.2, abs=0.05)
    assert sha256(stack.result(f"{name}.mp4")) == second["video"]["sha256"] != first["video"]["sha256"]
    assert [task["audio_sha256"] for task in stack.tasks(folder)] == [sha256(voice()), sha256(voice(2.2))]


def test_new_bytes_while_the_old_ones_render_are_a_second_video_after_the_paid_one(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    name = f"{folder}line"
    stack.hold_rendering(name)

    stack.drop(f"{name}.wav", voice(2.2))
    stack.send({"pause": False})  # handled after the drop: nothing that was dropped before is on its way
    simulator.set(manual=False)
    first = stack.wait_report(name, "done")
    second = stack.wait_report(name, "done", after=first["revision"])

    assert first["video"]["seconds"] == pytest.approx(1.0, abs=0.1)
    assert second["video"]["seconds"] == pytest.approx(2.2, abs=0.1)
    assert len(stack.tasks(folder)) == 2


def test_a_second_voice_of_a_sent_job_is_only_told(stack: Stack, folder: str) -> None:
    """The job's report says that it was refused, by event and notice too; the job stays as it is."""
    name = f"{folder}line"
    stack.drop_pair(name)
    done = stack.wait_report(name, "done")

    stack.drop(f"{name}.mp3", b"another voice")
    refused = stack.wait_report(name, "done", after=done["revision"])
    notice = stack.notices.wait_for(refused)
    stack.pass_through()

    assert refused["error"]["code"] == "JobAmbiguous"
    assert f"{name}.mp3" in refused["message"]
    assert f"{name}.wav" in refused["message"]
    assert "another name" in refused["error"]["what_to_do"]
    assert notice["attributes"]["status"] == "done"
    assert stack.report(name) == refused
    assert refused["video"] == done["video"]
    assert len(stack.tasks(folder)) == 1


def test_a_failed_jobs_files_dropped_again_are_another_try(stack: Stack, simulator: Simulator, folder: str) -> None:
    name = f"{folder}line"
    simulator.fault({"task_fails": {"code": "InternalError.Algo"}}, match={"contains": folder})
    stack.drop_pair(name)
    failed = stack.wait_report(name, "failed")

    stack.drop(f"{name}.wav", voice())
    done = stack.wait_report(name, "done", after=failed["revision"])

    assert (failed["tries"], done["tries"]) == (1, 2)
    assert len(stack.tasks(folder)) == 2


def test_deleting_the_voice_of_a_queued_job_withdraws_it(stack: Stack, folder: str) -> None:
    name = f"{folder}line"
    with stack.paused():
        stack.drop_pair(name)
        stack.wait_report(name, "queued")
        stack.delete(f"{name}.wav")
        withdrawn = stack.wait_report(name, "withdrawn")
    stack.pass_through()

    assert withdrawn["error"] is None
    assert stack.tasks(folder) == []
    assert stack.results(folder) == [f"{name}.json"]
    assert stack.report(name)["status"] == "withdrawn"
    assert stack.notices.of(name) == []


def test_deleting_the_voice_of_a_waiting_job_withdraws_it_and_its_portrait_starts_nothing(
    stack: Stack, folder: str
) -> None:
    name = f"{folder}line"
    stack.drop(f"{name}.wav", voice())
    stack.wait_report(name, "waiting")

    stack.delete(f"{name}.wav")
    stack.wait_report(name, "withdrawn")
    stack.drop(f"{name}.png", face())
    stack.pass_through()

    assert stack.report(name)["status"] == "withdrawn"
    assert stack.tasks(folder) == []


def test_a_withdrawn_jobs_voice_dropped_again_starts_it(stack: Stack, folder: str) -> None:
    name = f"{folder}line"
    stack.drop(f"{name}.wav", voice())
    stack.wait_report(name, "waiting")
    stack.delete(f"{name}.wav")
    stack.wait_report(name, "withdrawn")

    stack.drop_pair(name)
    stack.wait_report(name, "done")

    assert len(stack.tasks(folder)) == 1


def test_deleting_files_after_the_job_is_sent_changes_nothing(stack: Stack, simulator: Simulator, folder: str) -> None:
    name = f"{folder}line"
    stack.hold_rendering(name)
    simulator.wait_for(lambda state: any(folder in t["audio_url"] and t["audio_sha256"] for t in state["tasks"]), 60)

    stack.delete(f"{name}.wav")
    stack.delete(f"{name}.png")
    simulator.set(manual=False)
    stack.wait_report(name, "done")
    stack.pass_through()

    assert stack.report(name)["status"] == "done"
    assert sorted(stack.results(folder)) == [f"{name}.json", f"{name}.mp4"]
