"""Every end of a task, good or bad, and executions that ended where no Catch can see."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import av
import pytest
import requests
from world import RESULTS, FileServer, World, portrait, voice

from portraitcast.workflows.poll import TASK_LIFE

if TYPE_CHECKING:
    from collections.abc import Callable

TRANSIENT = [
    {"code": "InvalidURL.Timeout", "message": "Downloading the input timed out."},
    {"code": "InvalidURL.ConnectionRefused", "message": "The connection to the input was refused."},
    {"code": "InvalidParameter.DataInspection", "message": "Unable to download the media resource."},
    {"code": "InternalError.Timeout", "message": "The task timed out."},
]


def versions(world: World, key: str) -> int:
    listed = world.s3.list_object_versions(Bucket=RESULTS, Prefix=key).get("Versions", [])
    return sum(v["Key"] == key for v in listed)


def rendering(world: World, *names: str) -> None:
    """Bring jobs to the provider and keep their tasks there: the first RUNNING, the others PENDING."""
    world.sim.set(manual=True)
    for n, name in enumerate(names):
        world.drop_pair(name, pitch=0.08 + n / 50)
        world.run(8)
        assert world.status(name) == "rendering"


def execution_of(world: World, name: str) -> str:
    job = world.job(name)
    return f"{job.id}-{job.attempt}-{job.watch}"


def finish(world: World) -> None:
    world.sim.set(manual=False)


# ---------------------------------------------------------------------- good ends
def test_a_finished_video_lies_whole_beside_its_report_which_tells_its_measures(world: World) -> None:
    world.drop_pair("acme/line", seconds=1.0)
    world.run()
    report, video = world.report("acme/line"), world.video("acme/line")
    assert report is not None
    assert video is not None
    with av.open(io.BytesIO(video)) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (512, 512)
        assert file.streams.audio
    told = report["video"]
    assert told["key"] == "acme/line.mp4"
    assert (told["bytes"], told["sha256"]) == (len(video), hashlib.sha256(video).hexdigest())
    assert (told["width"], told["height"]) == (512, 512)
    assert told["seconds"] == pytest.approx(1.0, abs=0.1)
    assert report["cost_cny"]["total"] == pytest.approx(0.004 + 0.08, abs=0.01)
    assert report["task"]["end_time"] >= report["task"]["scheduled_time"] >= report["task"]["submit_time"]
    head = world.s3.head_object(Bucket=RESULTS, Key="acme/line.mp4")
    assert head["ContentType"] == "video/mp4"
    assert world.table.slots().owners == []
    assert world.execution(execution_of(world, "acme/line")).status == "SUCCEEDED"


def test_a_deliver_that_is_called_twice_brings_and_tells_once(world: World) -> None:
    world.drop_pair("a")
    world.run()
    state = world.states[execution_of(world, "a")]
    revision = world.job("a").revision
    world.new_events()
    assert world.delivery.deliver(state)["told"] is True
    assert (world.job("a").revision, versions(world, "a.mp4"), world.new_events()) == (revision, 1, [])


def test_a_video_that_was_put_by_a_function_that_died_is_not_put_again(world: World) -> None:
    world.dies(world.results, "put_video", after=True)
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), versions(world, "a.mp4")) == ("done", 1)
    report, video = world.report("a"), world.video("a")
    assert report is not None
    assert video is not None
    assert report["video"]["sha256"] == hashlib.sha256(video).hexdigest()


# ---------------------------------------------------------------------- bad ends
@pytest.mark.parametrize("words", [{"code": "InternalError", "message": "It broke."}, {}], ids=["said", "unsaid"])
def test_a_failed_task_fails_its_job_with_the_providers_words_if_there_are_any(
    world: World, words: dict[str, str]
) -> None:
    world.sim.fault({"task_fails": words})
    world.drop_pair("a")
    world.run()
    report = world.report("a")
    assert report is not None
    assert (report["status"], report["error"]["code"]) == ("failed", "TaskFailed")
    assert report["error"]["provider_code"] == words.get("code")
    assert report["error"]["provider_message"] == words.get("message")
    assert report["cost_cny"]["video"] is None
    assert len(world.tasks()) == 1, "every other failure is final"
    assert world.table.slots().owners == []
    assert [n["MessageAttributes"]["status"]["Value"] for n in world.new_notices()] == ["failed"]


@pytest.mark.parametrize("words", TRANSIENT, ids=lambda w: w["code"])
def test_a_failure_that_may_have_been_the_download_gets_one_new_attempt(world: World, words: dict[str, str]) -> None:
    world.sim.fault({"task_fails": words})
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert [t["status"] for t in world.tasks()] == ["FAILED", "SUCCEEDED"]
    report = world.report("a")
    assert report is not None
    assert report["tries"] == 2


def test_the_second_such_failure_is_final(world: World) -> None:
    world.sim.fault({"task_fails": TRANSIENT[0]}, times=None)
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), world.error("a"), len(world.tasks())) == ("failed", "TaskFailed", 2)


def test_a_status_that_nobody_knows_is_still_running(world: World) -> None:
    world.sim.fault({"task_status": "SUSPENDED"}, times=6)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"close": "before"}, {"status": 200, "body": "x"}])
def test_trouble_of_the_provider_while_looking_is_no_end(world: World, fault: dict[str, Any]) -> None:
    world.sim.fault(fault, endpoint="query", times=5)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert len(world.execution_names()) == 1


def test_a_task_out_of_sight_frees_its_slot_after_three_looks_and_the_job_goes_on(world: World) -> None:
    world.sim.fault({"task_status": "UNKNOWN"}, times=6)
    world.drop_pair("a")
    world.run(10)
    task = world.tasks()[0]["id"]
    world.run(150)
    assert world.status("a") == "rendering"
    assert world.table.slots().owners == []
    assert world.new_operator_notices() == ["a task is out of sight"]
    world.run()
    assert world.status("a") == "done"
    assert world.job("a").task is not None
    assert world.tasks()[0]["id"] == task


def test_a_task_that_stays_out_of_sight_fails_at_24_hours(world: World) -> None:
    world.sim.fault({"task_status": "UNKNOWN"}, times=None)
    world.drop_pair("a")
    world.run(600)
    assert world.status("a") == "rendering"
    world.advance(TASK_LIFE)
    world.run()
    assert (world.status("a"), world.error("a")) == ("failed", "TaskFailed")


def test_success_without_a_link_is_looked_at_three_times_and_then_fails(world: World) -> None:
    world.sim.fault({"no_link": True}, times=2)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    world.sim.fault({"no_link": True}, times=None)
    world.drop_pair("b", pitch=0.1)
    world.run()
    assert (world.status("b"), world.error("b")) == ("failed", "TaskFailed")


# ---------------------------------------------------------------------- the video can't be had
@pytest.mark.parametrize(
    "fault",
    [
        {"results": "html"},
        {"results": "truncated"},
        {"results": "wrong_length"},
        {"results": {"redirect": "http://169.254.169.254/latest/meta-data/"}},
        {"results": {"redirect": "http://127.0.0.1:1/elsewhere.mp4"}},
        {"status": 404},
        {"status": 403, "body": "<Error><Code>AccessDenied</Code></Error>"},
        {"close": "before"},
    ],
    ids=["a page", "cut off", "half a file", "metadata service", "other origin", "404", "403", "connection cut"],
)
def test_a_video_that_cannot_be_had_is_tried_again_with_a_fresh_link(world: World, fault: dict[str, Any]) -> None:
    world.sim.fault(fault, endpoint="result", times=3)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert world.requests("result") == 4
    assert versions(world, "a.mp4") == 1, "nobody ever sees a half video"
    assert len(world.tasks()) == 1


def test_the_slot_is_free_while_a_video_is_being_fetched_in_vain(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=1)
    world.sim.fault({"status": 404}, endpoint="result", times=20, match={"contains": "a.wav"})
    world.drop_pair("a")
    world.drop_pair("b", pitch=0.1)
    world.run(400)
    assert (world.status("a"), world.status("b")) == ("rendering", "done")


def test_a_video_that_was_made_but_never_brought_within_24_hours_fails_as_a_delivery(world: World) -> None:
    world.sim.fault({"status": 404}, endpoint="result", times=None)
    world.drop_pair("a")
    world.run(600)
    assert world.status("a") == "rendering"
    world.advance(TASK_LIFE)
    world.run()
    assert (world.status("a"), world.error("a")) == ("failed", "DeliveryFailed")


def test_a_video_from_a_host_that_nobody_listed_is_not_fetched(make_world: Callable[..., World]) -> None:
    world = make_world(extra_video_hosts="http://127.0.0.1:1")
    world.drop_pair("a")
    world.run(300)
    assert (world.status("a"), world.requests("result")) == ("rendering", 0)


def test_an_adopted_video_of_another_length_is_not_delivered(world: World, file_server: FileServer) -> None:
    world.sim.fault({"close": "before"}, endpoint="create")
    world.drop_pair("a", seconds=0.4)
    world.run(10)
    world.s3.put_object(Bucket="uploads", Key=".v.wav", Body=voice(2.0))
    world.s3.put_object(Bucket="uploads", Key=".p.png", Body=portrait())
    given = {
        "image_url": f"{file_server.origin}/.p.png",
        "audio_url": f"{file_server.origin}/.v.wav",
        "face_bbox": [100, 50, 300, 250],
        "ext_bbox": [0, 0, 400, 400],
    }
    answer = requests.post(
        f"{world.sim.base_url}/services/aigc/image2video/video-synthesis",
        json={"model": "emo-v1", "input": given, "parameters": {}},
        headers={"Authorization": "Bearer sk-simulator", "X-DashScope-Async": "enable"},
        timeout=5,
    )
    assert answer.ok
    world.run()
    report = world.report("a")
    assert report is not None
    assert (report["status"], report["error"]["code"]) == ("failed", "CreateAmbiguous")
    assert report["error"]["measured"].startswith("2.0")
    assert world.video("a") is None


# ---------------------------------------------------------------------- aborted by hand
def test_aborting_cancels_a_task_that_is_still_pending(world: World) -> None:
    rendering(world, "a", "b")
    world.rule(execution_of(world, "b"), "ABORTED")
    assert [t["status"] for t in world.tasks()] == ["RUNNING", "CANCELED"]
    assert (world.status("b"), world.error("b")) == ("failed", "ExecutionAborted")
    assert world.table.slots().owners == [world.job("a").owner]


def test_an_aborted_jobs_running_task_keeps_its_slot_until_it_has_ended(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=1)
    rendering(world, "a")
    world.rule(execution_of(world, "a"), "ABORTED")
    assert (world.status("a"), world.error("a")) == ("failed", "ExecutionAborted")
    world.drop_pair("b", pitch=0.1)
    world.run(600)
    world.post({"sweep": True})
    world.run(60)
    assert (world.status("b"), len(world.tasks())) == ("queued", 1)
    world.sim.finish()
    world.sim.wait_for(lambda s: s["tasks"][0]["status"] == "SUCCEEDED")
    finish(world)
    world.run()
    assert world.status("b") == "done"
    assert world.status("a") == "failed"
    assert world.sim.state()["counters"]["max_open"] == 1


def test_the_same_files_dropped_again_take_up_the_task_of_an_aborted_execution(world: World) -> None:
    rendering(world, "a")
    world.rule(execution_of(world, "a"), "ABORTED")
    world.drop("a.wav", voice())
    world.run(60)
    assert world.status("a") == "rendering"
    finish(world)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)


def test_the_same_files_take_up_the_task_also_when_it_has_ended_meanwhile(world: World) -> None:
    rendering(world, "a")
    world.rule(execution_of(world, "a"), "ABORTED")
    finish(world)
    world.sim.wait_for(lambda s: s["tasks"][0]["status"] == "SUCCEEDED")
    world.run(1000)
    assert world.table.slots().owners == []
    world.drop("a.wav", voice())
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1), "what is paid is delivered"


def test_other_files_after_an_abort_are_a_new_video(world: World) -> None:
    rendering(world, "a")
    world.rule(execution_of(world, "a"), "ABORTED")
    world.drop("a.wav", voice(pitch=0.2))
    finish(world)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 2)


def test_an_execution_that_was_aborted_after_its_task_ended_is_delivered_all_the_same(world: World) -> None:
    rendering(world, "a")
    finish(world)
    world.sim.wait_for(lambda s: s["tasks"][0]["status"] == "SUCCEEDED")
    world.rule(execution_of(world, "a"), "ABORTED")
    assert world.status("a") == "done"


# ---------------------------------------------------------------------- the net
@pytest.mark.parametrize("status", ["TIMED_OUT", "FAILED"])
def test_an_execution_that_broke_is_followed_by_one_new_watch(world: World, status: str) -> None:
    rendering(world, "a")
    name = execution_of(world, "a")
    world.rule(name, status)
    world.rule(name, status)  # the event comes at least once
    finish(world)
    world.run()
    assert world.status("a") == "done"
    job = world.job("a")
    assert world.execution_names() == [f"{job.id}-1-1", f"{job.id}-1-2"]
    assert len(world.tasks()) == 1
    assert "an execution broke" in world.new_operator_notices()


def test_the_schedule_watches_a_task_whose_execution_ended_without_an_event(world: World) -> None:
    rendering(world, "a")
    world.end(execution_of(world, "a"), "FAILED")
    world.run(120)
    finish(world)
    world.sweep(1)
    assert world.status("a") == "done"
    assert len(world.execution_names()) == 2


def test_the_schedule_tells_what_stayed_untold(world: World) -> None:
    rendering(world, "a")
    world.dies(world.results, "put_report", nth=1)
    finish(world)
    world.run(100)
    cured = world.status("a")
    world.sweep(1)
    assert (cured in {"rendering", "done"}, world.status("a")) == (True, "done")
    job = world.job("a")
    job.change(world.clock())  # a change whose function died before it told
    world.table.commit(job=job)
    world.new_events()
    world.run(300)
    world.sweep(1)
    assert [(e["status"], e["revision"]) for e in world.new_events()] == [("done", job.revision)]
    report = world.report("a")
    assert report is not None
    assert report["revision"] == job.revision


def test_the_schedule_frees_a_leaked_slot_and_leaves_those_in_use(world: World) -> None:
    rendering(world, "a")
    leaked = ["0" * 32 + "#1", f"{world.job_id('a')}#0"]

    def leak(slots: Any) -> bool:
        slots.owners += leaked
        return True

    world.table.change_slots(leak)
    world.post({"sweep": True})
    world.run(60)
    assert world.table.slots().owners == [world.job("a").owner]
