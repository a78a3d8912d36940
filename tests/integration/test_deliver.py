"""Every end of a task: videos that come, videos that can't be had, and failures."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import av
import pytest
from world import RESULTS, World, portrait, voice

from portraitcast.adapters.records import from_plain
from portraitcast.domain.execution import Execution
from portraitcast.domain.job import TASK_LIFE_SECONDS, Status
from portraitcast.errors import TryLaterError

if TYPE_CHECKING:
    from collections.abc import Callable

TRANSIENT = [
    {"code": "InvalidURL.Timeout", "message": "Downloading the input timed out."},
    {"code": "InvalidURL.ConnectionRefused", "message": "The connection to the input was refused."},
    {"code": "InvalidParameter.DataInspection", "message": "Unable to download the media resource."},
    {"code": "InternalError.Timeout", "message": "The task timed out."},
]


def state_of(world: World, name: str) -> Execution:
    """Return what a job's execution carries now."""
    return from_plain(Execution, world.states[world.execution_of(name)])


def sha256_there(world: World, name: str) -> str:
    return hashlib.sha256(world.video(name) or b"").hexdigest()


# ---------------------------------------------------------------------- good ends
def test_a_video_lies_whole_beside_its_report(world: World) -> None:
    world.drop_pair("acme/line", seconds=1.0)
    world.run()
    report, video = world.its_report("acme/line"), world.video("acme/line")
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
    assert world.table.account().tasks_in_flight == {}
    assert world.execution(world.execution_of("acme/line")).status == "SUCCEEDED"


def test_called_twice_delivers_once(world: World) -> None:
    world.drop_pair("a")
    world.run()
    revision = world.job("a").revision
    world.new_events()
    assert world.deliver.task(state_of(world, "a")).published is True
    assert (world.job("a").revision, world.video_versions("a"), world.new_events()) == (revision, 1, [])


def test_put_before_death_is_not_put_again(world: World) -> None:
    world.dies(world.results, "put_video", after=True)
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), world.video_versions("a")) == ("done", 1)
    assert world.its_report("a")["video"]["sha256"] == sha256_there(world, "a")


def test_refused_by_s3_is_put_later(world: World) -> None:
    """The video is made once, and the next job is not held up."""
    world.rendering("a")
    (name,) = world.execution_names()
    world.finish_tasks()
    world.fails(world.results, "put_video", 1)
    with pytest.raises(TryLaterError):
        world.deliver.task(state_of(world, "a"))
    assert world.table.account().tasks_in_flight == {}
    world.rule(name, "FAILED")
    world.run()
    assert world.status("a") == "done"
    assert world.video("a") is not None
    assert len(world.tasks()) == 1


def test_called_too_early_goes_back_to_waiting(world: World) -> None:
    world.rendering("a")
    answer = world.deliver.task(state_of(world, "a"))
    assert (answer.ended, answer.published) == (False, False)
    assert world.status("a") == "rendering"
    assert list(world.table.account().tasks_in_flight) == [world.job("a").owner]


# ---------------------------------------------------------------------- a slow deliver, and a newer video
def _newer_video(world: World) -> None:
    """Bring the job to its end by another call of deliver, and a newer video in its place."""
    world.run()
    assert world.status("a") == "done"
    world.drop("a.wav", voice(pitch=0.3))
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 2)


@pytest.mark.parametrize("moment", ["before it asks the provider", "before it reads the job again", "before its PUT"])
def test_a_slow_deliver_replaces_nothing(world: World, moment: str) -> None:
    """It has fetched the old video, and stands still while the job ends and a newer video is put."""
    world.rendering("a")
    world.finish_tasks()
    slow = state_of(world, "a")
    newer: list[str] = []

    def stands_still(real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        cure()
        _newer_video(world)
        newer.append(sha256_there(world, "a"))
        return real(*args, **kwargs)

    if moment == "before its PUT":
        cure = world.instead(world.results, "put_video", stands_still)
    elif moment == "before it asks the provider":
        cure = world.instead(world.service, "query", stands_still)
    else:
        cure = world.instead(world.deliver, "_put", stands_still)
    answer = world.deliver.task(slow)
    if not answer.published:  # it comes again, as the state machine would have it
        answer = world.deliver.task(answer)
    assert answer.published
    assert [sha256_there(world, "a")] == newer
    assert world.its_report("a")["video"]["sha256"] == newer[0]
    assert world.video_versions("a") == 2


def test_two_delivers_at_once_put_one_video(world: World) -> None:
    """The slow one of the two finds the very video that it would have put."""
    world.rendering("a")
    world.finish_tasks()
    state = state_of(world, "a")

    def quicker(real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        cure()
        assert world.deliver.task(state).published
        return real(*args, **kwargs)

    cure = world.instead(world.results, "put_video", quicker)
    assert world.deliver.task(state).published
    assert (world.status("a"), world.video_versions("a")) == ("done", 1)
    assert world.its_report("a")["video"]["sha256"] == sha256_there(world, "a")


def test_deleted_while_it_is_put(world: World) -> None:
    """The old video vanishes between the look and the PUT: the new one comes all the same."""
    world.drop_pair("a")
    world.run()

    def deleted(real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        cure()
        world.s3.delete_object(Bucket=RESULTS, Key="a.mp4")
        return real(*args, **kwargs)

    cure = world.instead(world.results, "put_video", deleted)
    world.drop("a.wav", voice(pitch=0.3))
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 2)
    assert world.its_report("a")["video"]["sha256"] == sha256_there(world, "a")


# ---------------------------------------------------------------------- asked again
def _foreign(world: World) -> None:
    world.s3.put_object(Bucket=RESULTS, Key="a.mp4", Body=b"somebody's own film", ContentType="video/mp4")


def _deleted(world: World) -> None:
    world.s3.delete_object(Bucket=RESULTS, Key="a.mp4")


def _old_version(world: World) -> None:
    """An older version of our own is brought back, with its metadata: as a slow deliver would have left it."""
    world.drop("a.wav", voice(pitch=0.3))
    world.run()
    listed = world.s3.list_object_versions(Bucket=RESULTS, Prefix="a.mp4")["Versions"]
    old = next(version["VersionId"] for version in listed if not version["IsLatest"])
    world.s3.copy_object(Bucket=RESULTS, Key="a.mp4", CopySource={"Bucket": RESULTS, "Key": "a.mp4", "VersionId": old})


@pytest.mark.parametrize("lies_there", [_foreign, _deleted, _old_version])
def test_asked_again_looks_at_what_lies_there(world: World, lies_there: Callable[[World], None]) -> None:
    """Where another video lies under the name than the report tells of, "done" would be a lie."""
    world.drop_pair("a")
    world.run()
    lies_there(world)
    made = len(world.tasks())
    world.drop("a.wav", voice(pitch=0.08 if made == 1 else 0.3))
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", made + 1)
    assert world.its_report("a")["video"]["sha256"] == sha256_there(world, "a")


def test_asked_again_costs_nothing(world: World) -> None:
    world.drop_pair("a")
    world.run()
    world.drop("a.wav", voice())
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)
    assert world.its_report("a")["asked_again_at"] is not None


# ---------------------------------------------------------------------- bad ends
@pytest.mark.parametrize("words", [{"code": "InternalError", "message": "It broke."}, {}], ids=["said", "unsaid"])
def test_a_failed_task_fails_its_job(world: World, words: dict[str, str]) -> None:
    """With the provider's words, if there are any."""
    world.sim.fault({"task_fails": words})
    world.drop_pair("a")
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("failed", "TaskFailed")
    assert report["error"]["provider_code"] == words.get("code")
    assert report["error"]["provider_message"] == words.get("message")
    assert report["cost_cny"]["video"] is None
    assert len(world.tasks()) == 1, "every other failure is final"
    assert world.table.account().tasks_in_flight == {}
    assert [n["MessageAttributes"]["status"]["Value"] for n in world.new_notices()] == ["failed"]


@pytest.mark.parametrize("words", TRANSIENT, ids=lambda w: w["code"])
def test_a_failed_download_gets_one_attempt(world: World, words: dict[str, str]) -> None:
    world.sim.fault({"task_fails": words})
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert [t["status"] for t in world.tasks()] == ["FAILED", "SUCCEEDED"]
    assert world.its_report("a")["tries"] == 2


def test_the_second_failed_download_is_final(world: World) -> None:
    world.sim.fault({"task_fails": TRANSIENT[0]}, times=None)
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), world.error("a"), len(world.tasks())) == ("failed", "TaskFailed", 2)


def test_an_unknown_status_is_still_running(world: World) -> None:
    world.sim.fault({"task_status": "SUSPENDED"}, times=6)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 500}, {"close": "before"}, {"status": 200, "body": "x"}])
def test_trouble_while_polling_is_no_end(world: World, fault: dict[str, Any]) -> None:
    world.sim.fault(fault, endpoint="query", times=5)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert len(world.execution_names()) == 1


def test_no_link_is_believed_the_third_time(world: World) -> None:
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
def test_a_fresh_link_is_tried(world: World, fault: dict[str, Any]) -> None:
    """Nobody ever sees a half video, or a page, under a video's name."""
    world.sim.fault(fault, endpoint="result", times=3)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert world.requests("result") == 4
    assert world.video_versions("a") == 1
    assert len(world.tasks()) == 1


def test_a_download_in_vain_holds_no_slot(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=1)
    world.sim.fault({"status": 404}, endpoint="result", times=20, match={"contains": "a.wav"})
    world.drop_pair("a")
    world.drop_pair("b", pitch=0.1)
    world.run(400)
    assert (world.status("a"), world.status("b")) == ("rendering", "done")


def test_not_brought_for_a_day_fails(world: World) -> None:
    world.sim.fault({"status": 404}, endpoint="result", times=None)
    world.drop_pair("a")
    world.run(600)
    assert world.status("a") == "rendering"
    world.advance(TASK_LIFE_SECONDS)
    world.run()
    assert (world.status("a"), world.error("a")) == ("failed", "DeliveryFailed")


def test_an_unlisted_host_is_not_asked(make_world: Callable[..., World]) -> None:
    world = make_world(extra_video_hosts="http://127.0.0.1:1")
    world.drop_pair("a")
    world.run(300)
    assert (world.status("a"), world.requests("result")) == ("rendering", 0)


def test_adopted_of_another_length_is_kept_back(world: World) -> None:
    world.sim.fault({"close": "before"}, endpoint="create")
    world.drop_pair("a", seconds=0.4)
    world.run(10)
    world.foreign_task(seconds=2.0)
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("failed", "CreateAmbiguous")
    assert report["error"]["measured"].startswith("2.0")
    assert world.video("a") is None


# ---------------------------------------------------------------------- the provider answers nonsense
FORMS = ["results_list", "results_nested", "results_beside"]
ODD = ["dates_early", "dates_late", "numbers_huge", "numbers_nan", "numbers_long", "deep", "not_utf8", "wrong_types"]
WORDS = {"surrogates": "half \ud83d a pair \x00", "long": "x" * 300_000}


@pytest.mark.parametrize("form", FORMS)
def test_no_form_loses_a_paid_video(world: World, form: str) -> None:
    world.sim.fault({"nonsense": form}, endpoint="query", times=None)
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)
    assert world.video("a") is not None


@pytest.mark.parametrize("odd", [*ODD, "surrogates", "long_texts"])
def test_odd_answers_lose_no_video(world: World, odd: str) -> None:
    """Each call's first answers are odd: a create whose id can't be read is looked for, the others are repeated."""
    for endpoint in ("check", "create", "query"):
        world.sim.fault({"nonsense": odd}, endpoint=endpoint, times=2)
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)
    assert world.dead == []


TIMES = ("submit_time", "scheduled_time", "end_time")


@pytest.mark.parametrize(
    "odd",
    [
        {"nonsense": "dates_early"},
        {"nonsense": "dates_late"},
        {"merge": {"output": dict.fromkeys(TIMES, "0002-01-01 00:00:00.000")}},
        {"merge": {"output": dict.fromkeys(TIMES, "9998-12-31 23:59:59.999")}},
    ],
    ids=["before any calendar", "after any", "the year 2", "the year 9998"],
)
@pytest.mark.parametrize("end", ["failed", "done"])
def test_impossible_dates_stop_no_end(world: World, odd: dict[str, Any], end: str) -> None:
    """The times that can't be are left out of the report; the job ends, and its change is published."""
    if end == "failed":
        world.sim.fault({"task_fails": {"code": "InternalError", "message": "It broke."}})
    world.sim.fault(odd, endpoint="query", times=None)
    world.drop_pair("a")
    world.run()
    report = world.its_report("a")
    assert report["status"] == end
    assert {report["task"][name] for name in TIMES} == {None}
    assert [event["status"] for event in world.new_events()][-1] == end
    assert not world.job("a").unpublished


@pytest.mark.parametrize("text", WORDS.values(), ids=WORDS)
def test_a_failed_task_ends_whatever_is_said(world: World, text: str) -> None:
    world.sim.fault({"task_fails": {"code": f"InternalError.{text}", "message": text}})
    world.drop_pair("a")
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("failed", "TaskFailed")
    assert 1 <= len(report["error"]["provider_message"]) <= 500
    assert [event["status"] for event in world.new_events()][-1] == "failed"
    assert all(len(str(state)) < 20_000 for state in world.states.values()), "256 KiB is what a state may have"
    assert world.table.account().tasks_in_flight == {}


@pytest.mark.parametrize("endpoint", ["check", "create"])
@pytest.mark.parametrize("text", WORDS.values(), ids=WORDS)
def test_a_refusal_is_recorded_whatever_is_said(world: World, endpoint: str, text: str) -> None:
    body = {"code": "InvalidParameter.Image", "message": f"image {text}", "request_id": text}
    world.sim.fault({"status": 400, "body": body}, endpoint=endpoint)
    world.drop_pair("a")
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("rejected", "ProviderRejected")
    assert report["error"]["provider_message"].startswith("image")
    assert len(str(report)) < 20_000
    account = world.table.account()
    assert (account.tasks_in_flight, account.open_create, account.check) == ({}, None, None)
    assert world.dead == []


@pytest.mark.parametrize("text", WORDS.values(), ids=WORDS)
def test_a_refused_portrait_whatever_is_said(world: World, text: str) -> None:
    output = {"check_pass": False, "code": f"InvalidFile.{text}", "message": text}
    body = {"output": output, "request_id": text}
    world.sim.fault({"status": 200, "body": body}, endpoint="check")
    world.drop("a.png", portrait())
    world.drop("a.wav", voice())
    world.run()
    assert (world.status("a"), world.error("a")) == ("rejected", "PortraitRefused")
    assert world.table.account().check is None


@pytest.mark.parametrize("odd", [*ODD, "surrogates", "long_texts"])
def test_an_odd_list_is_never_believed_for_another(world: World, odd: str) -> None:
    """A list that can't be read says nothing; one whose rows have no time neither. Nothing is paid twice."""
    world.sim.fault({"close": "after"}, endpoint="create")
    world.sim.fault({"nonsense": odd}, endpoint="list", times=2)
    world.drop_pair("a")
    world.run()
    assert (world.job("a").status, len(world.tasks())) == (Status.DONE, 1)
