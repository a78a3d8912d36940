"""Creating tasks: each outcome of a create, looking before paying again, holding, pausing, budget, and sudden death."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import requests
from world import SUBMIT_SECONDS, FileServer, World, portrait, voice

from portraitcast.workflows.dispatch import LEASE_MARGIN

if TYPE_CHECKING:
    from collections.abc import Callable

CREATE = "/services/aigc/image2video/video-synthesis"
REFUSED = {"code": "InvalidParameter", "message": "Invalid bbox input", "request_id": "r-1"}


def foreign_task(world: World, files: FileServer, *, seconds: float = 0.4, key: str = "sk-simulator") -> None:
    """Let somebody else create a task with the same account."""
    world.s3.put_object(Bucket="uploads", Key=".theirs/v.wav", Body=voice(seconds))
    world.s3.put_object(Bucket="uploads", Key=".theirs/p.png", Body=portrait())
    given = {
        "image_url": f"{files.origin}/.theirs/p.png",
        "audio_url": f"{files.origin}/.theirs/v.wav",
        "face_bbox": [100, 50, 300, 250],
        "ext_bbox": [0, 0, 400, 400],
    }
    answer = requests.post(
        world.sim.base_url + CREATE,
        json={"model": "emo-v1", "input": given, "parameters": {}},
        headers={"Authorization": f"Bearer {key}", "X-DashScope-Async": "enable"},
        timeout=5,
    )
    assert answer.ok, answer.text


def queued_order(world: World) -> list[str]:
    names = [world.table.job(job_id) for _, job_id in world.table.queue(50)]
    return [job.name for job in names if job]


# ---------------------------------------------------------------------- a task id: paid
def test_an_accepted_create_is_stored_once_and_watched_by_one_execution(world: World) -> None:
    world.sim.set(manual=True)
    world.drop_pair("a")
    world.run(20)
    (task,) = world.tasks()
    job = world.job("a")
    assert (job.status, job.task, job.tries) == ("rendering", {"id": task["id"]}, 1)
    assert world.table.owner_of_task(task["id"]) == job.id
    assert world.execution_names() == [f"{job.id}-1-1"]
    assert world.table.slots().owners == [job.owner]
    assert world.table.slots().creating is None
    state = world.execution(f"{job.id}-1-1").execution_input
    assert "http" not in state, "no links in an execution's history"


# ---------------------------------------------------------------------- this job is wrong: not paid
def test_a_create_refused_for_the_job_rejects_it_with_the_providers_words(world: World) -> None:
    world.sim.fault({"status": 400, "body": REFUSED}, endpoint="create")
    world.drop_pair("a")
    world.run()
    report = world.report("a")
    assert report is not None
    assert report["status"] == "rejected"
    error = report["error"]
    assert (error["code"], error["provider_code"], error["request_id"]) == (
        "ProviderRejected",
        "InvalidParameter",
        "r-1",
    )
    assert error["provider_message"] == "Invalid bbox input"
    assert (world.table.slots().owners, world.table.slots().creating) == ([], None)
    assert world.table.slots().spent == 0
    assert world.new_operator_notices() == []


@pytest.mark.parametrize(("times", "status"), [(1, "done"), (2, "rejected")])
def test_a_create_whose_inputs_could_not_be_fetched_gets_one_more_try(world: World, times: int, status: str) -> None:
    body = {"code": "InvalidURL.Timeout", "message": "Downloading the input timed out.", "request_id": "r-2"}
    world.sim.fault({"status": 400, "body": body}, endpoint="create", times=times)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == status
    assert world.requests("create") == 2


# ---------------------------------------------------------------------- the account is wrong: not paid
ACCOUNT = [
    (401, "InvalidApiKey", "Invalid API-key provided."),
    (400, "Arrearage", "Access denied, please make sure your account is in good standing."),
    (403, "Model.AccessDenied", "Model access denied."),
    (404, "ModelNotFound", "Model not exist."),
    (429, "PostpaidBillOverdue", "The postpaid bill is overdue."),
    (429, "Throttling.AllocationQuota", "Free allocated quota exceeded."),
]


@pytest.mark.parametrize("endpoint", ["check", "create"])
@pytest.mark.parametrize(("http", "code", "message"), ACCOUNT[:1] + ACCOUNT[-1:])
def test_trouble_of_the_account_holds_it_and_every_job_keeps_its_place(
    world: World, endpoint: str, http: int, code: str, message: str
) -> None:
    body = {"code": code, "message": message, "request_id": "r-3"}
    world.sim.fault({"status": http, "body": body}, endpoint=endpoint, times=None)
    world.drop_pair("a")
    world.run(10)
    world.drop_pair("b", pitch=0.1)
    world.run(1200)
    for name in ("a", "b"):
        report = world.report(name)
        assert report is not None
        assert (report["status"], report["queue"]["held"]) == ("queued", "account")
        assert "operator" in report["message"]
    assert queued_order(world) == ["a", "b"]
    assert world.new_operator_notices() == ["the account is held"]
    assert world.tasks() == []
    probes = world.requests(endpoint)
    assert 4 <= probes <= 7, "probed after 60, 120, 240, 480 s and so on"
    world.sim.clear_faults()
    world.run()
    assert [world.status(n) for n in ("a", "b")] == ["done", "done"]
    assert world.new_operator_notices() == ["the account is well again"]
    assert len(world.tasks()) == 2


@pytest.mark.parametrize(("http", "code", "message"), ACCOUNT)
def test_the_accounts_codes_hold_the_account(world: World, http: int, code: str, message: str) -> None:
    body = {"code": code, "message": message, "request_id": "r-3"}
    world.sim.fault({"status": http, "body": body}, endpoint="create")
    world.drop_pair("a")
    world.run(20)
    assert world.status("a") == "queued"
    hold = world.table.slots().hold
    assert hold is not None
    assert hold.code == code
    assert world.new_operator_notices() == ["the account is held"]


# ---------------------------------------------------------------------- waiting cures it: not paid
def test_a_throttled_create_makes_the_account_wait_and_not_the_job(world: World) -> None:
    body = {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded", "request_id": "r"}
    world.sim.fault({"status": 429, "body": body, "headers": {"Retry-After": "30"}}, endpoint="create")
    world.drop_pair("a")
    world.run(10)
    world.drop_pair("b", pitch=0.1)
    world.run(15)
    assert (world.requests("create"), world.tasks()) == (1, []), "nobody creates before the 30 s are over"
    assert queued_order(world) == ["a", "b"]
    world.run()
    assert [world.status(n) for n in ("a", "b")] == ["done", "done"]
    assert world.new_operator_notices() == []


def test_three_throttled_creates_in_a_row_hold_the_account(world: World) -> None:
    body = {"code": "Throttling", "message": "Requests throttling triggered.", "request_id": "r"}
    world.sim.fault({"status": 429, "body": body}, endpoint="create", times=3)
    world.drop_pair("a")
    world.run(30)
    assert world.requests("create") == 3
    assert world.table.slots().hold is not None
    report = world.report("a")
    assert report is not None
    assert report["queue"]["held"] == "account"
    world.run()
    assert world.status("a") == "done"
    assert world.new_operator_notices() == ["the account is held", "the account is well again"]


def test_a_service_that_cannot_be_reached_costs_nothing_and_is_tried_again(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    base = world.emo._base  # the client has no other way to move
    world.emo._base = f"http://127.0.0.1:{port}/api/v1"
    world.drop_pair("a")
    world.run(30)
    assert world.status("a") == "queued"
    assert world.table.slots().hold is not None
    world.emo._base = base
    world.run()
    assert world.status("a") == "done"
    assert len(world.tasks()) == 1


def test_one_job_that_always_looks_like_the_accounts_trouble_does_not_hold_the_others(world: World) -> None:
    body = {"code": "AccessDenied", "message": "Access denied.", "request_id": "r"}
    world.sim.fault({"status": 403, "body": body}, endpoint="create", times=None, match={"contains": "bad.wav"})
    world.drop_pair("bad")
    world.run(3600)
    assert world.status("bad") == "queued", "alone it can't be told from the account's trouble"
    for n, name in enumerate(("good", "better", "best")):
        world.drop_pair(name, pitch=0.1 + n / 50)
        world.run(1000)
        assert world.status(name) == "done"
    assert (world.status("bad"), world.error("bad")) == ("rejected", "ProviderRejected")


# ---------------------------------------------------------------------- nobody knows
HALF = '{"output": {"task_id": "0000'
UNKNOWN: dict[str, tuple[dict[str, Any], bool]] = {
    "500": ({"status": 500}, False),
    "500 after a task was made": ({"status": 500, "effect": True}, True),
    "a page of a proxy": ({"status": 502, "body": "<html>Bad gateway</html>", "effect": True}, True),
    "200 with a page": ({"status": 200, "body": "<html></html>"}, False),
    "200 with half a JSON": ({"status": 200, "body": HALF, "effect": True}, True),
    "200 without a task id": ({"status": 200, "body": {"output": {}, "request_id": "r"}}, False),
    "cut before it took effect": ({"close": "before"}, False),
    "cut after it took effect": ({"close": "after"}, True),
    "no answer, made": ({"hang": True, "effect": True}, True),
    "no answer, not made": ({"hang": True}, False),
}


@pytest.mark.parametrize(("fault", "made"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_create_whose_outcome_nobody_knows_is_looked_for_and_paid_once(
    make_world: Callable[..., World], fault: dict[str, Any], made: bool
) -> None:
    world = make_world(call_seconds=1.5 if "hang" in fault else 5)
    world.sim.fault(fault, endpoint="create")
    world.drop_pair("a")
    world.run(10)
    assert world.status("a") == "queued", "submitting is shown as queued"
    world.drop_pair("b", pitch=0.1)
    world.run(40)
    assert (world.requests("create"), world.requests("list")) == (1, 0), "creates stand still meanwhile"
    world.run(60)
    assert world.requests("list") == 1, "the first look comes at LookSeconds"
    world.run()
    assert world.requests("list") == (1 if made else 2)
    assert [world.status(n) for n in ("a", "b")] == ["done", "done"]
    assert len(world.tasks()) == 2, "each is paid once"
    job = world.job("a")
    assert (job.adopted, job.attempt) == ((True, 1) if made else (False, 2))


def test_the_second_look_comes_at_five_times_look_seconds(world: World) -> None:
    world.sim.fault({"status": 500}, endpoint="create")
    world.drop_pair("a")
    world.run(4)
    began = world.table.slots().creating
    assert began is not None
    assert began.unknown_since is not None
    world.run(began.unknown_since + 290 - world.clock())
    assert (world.requests("list"), world.requests("create")) == (1, 1)
    world.run(20)
    assert (world.requests("list"), world.tasks() != []) == (2, True)


def test_a_look_that_fails_is_repeated_and_never_counted(world: World) -> None:
    world.sim.fault({"status": 500}, endpoint="create")
    world.sim.fault({"status": 503}, endpoint="list", times=2)
    world.drop_pair("a")
    world.run()
    assert world.requests("list") == 4
    assert world.status("a") == "done"
    assert len(world.tasks()) == 1


def test_a_task_that_shows_late_in_the_list_is_found_by_the_second_look(world: World) -> None:
    world.sim.set(list_lag_seconds=150)
    world.sim.fault({"close": "after"}, endpoint="create")
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), world.requests("create"), world.requests("list")) == ("done", 1, 2)


def test_two_candidates_are_left_to_a_person_with_their_ids(world: World, file_server: FileServer) -> None:
    world.sim.fault({"close": "after"}, endpoint="create")
    world.drop_pair("a")
    world.run(10)
    foreign_task(world, file_server)
    world.run()
    report = world.report("a")
    assert report is not None
    assert (report["status"], report["error"]["code"]) == ("failed", "CreateAmbiguous")
    for task in world.tasks():
        assert task["id"] in report["error"]["measured"]
    assert world.video("a") is None
    assert world.table.slots().owners == []
    assert world.requests("create") == 2, "ours and theirs"


def test_tasks_of_other_jobs_of_ours_are_no_candidates(world: World) -> None:
    world.drop_pair("a")
    world.drop_pair("b", pitch=0.1)
    world.sim.fault({"status": 500}, endpoint="create", match={"nth": 2})
    world.run()
    assert [world.status(n) for n in ("a", "b")] == ["done", "done"]
    assert [world.job(n).adopted for n in ("a", "b")] == [False, False]
    assert len(world.tasks()) == 2


def test_an_earlier_task_of_the_same_job_is_no_candidate(world: World) -> None:
    world.sim.fault({"task_fails": {"code": "InvalidURL.Timeout", "message": "Downloading timed out."}})
    world.sim.fault({"close": "before"}, endpoint="create", match={"nth": 2})
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert [t["status"] for t in world.tasks()] == ["FAILED", "SUCCEEDED"]
    assert world.job("a").adopted is False


def test_a_task_of_another_stacks_key_is_no_candidate(world: World, file_server: FileServer) -> None:
    world.sim.set(more_api_keys=("sk-another-stack",))
    world.drop_pair("first")
    world.run()  # from now on the list tells which key is ours
    world.sim.fault({"status": 500}, endpoint="create")
    world.drop_pair("a")
    world.run(10)
    foreign_task(world, file_server, key="sk-another-stack")
    world.run()
    assert (world.status("a"), world.job("a").adopted) == ("done", False)
    assert len(world.tasks()) == 3


def test_a_key_that_was_changed_does_not_hide_our_own_task(world: World) -> None:
    world.drop_pair("first")
    world.run()
    world.sim.set(api_key="sk-rotated-key", more_api_keys=("sk-simulator",))
    world.sim.fault({"close": "after"}, endpoint="create")
    world.drop_pair("a", pitch=0.1)
    world.run()
    assert (world.status("a"), world.job("a").adopted) == ("done", True)
    assert len(world.tasks()) == 2


def test_a_job_of_links_whose_outcome_is_unknown_is_left_to_a_person(world: World, file_server: FileServer) -> None:
    world.s3.put_object(Bucket="uploads", Key=".v.wav", Body=voice())
    world.s3.put_object(Bucket="uploads", Key=".p.png", Body=portrait())
    links = {"image_url": f"{file_server.origin}/.p.png", "audio_url": f"{file_server.origin}/.v.wav"}
    world.sim.fault({"close": "after"}, endpoint="create")
    world.drop("a.json", {"input": links})
    world.run()
    assert (world.status("a"), world.error("a")) == ("failed", "CreateAmbiguous")
    assert len(world.tasks()) == 1


# ---------------------------------------------------------------------- order, slots, money
def test_never_more_tasks_than_max_tasks_in_flight_and_the_oldest_first(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=2)
    names = [f"n{i}" for i in range(6)]
    for i, name in enumerate(names):
        world.drop_pair(name, pitch=0.05 + i / 100)
        world.run(1)
    world.run()
    assert [world.status(n) for n in names] == ["done"] * 6
    assert world.sim.state()["counters"]["max_open"] <= 2
    created = [t["audio_url"].rsplit("/", 1)[1].split(".")[0] for t in world.tasks()]
    assert created == names


def test_a_freed_slot_starts_the_next_job_at_once(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=1)
    world.sim.set(manual=True)
    world.drop_pair("a")
    world.drop_pair("b", pitch=0.1)
    world.run(60)
    assert (world.status("a"), world.status("b")) == ("rendering", "queued")
    world.sim.finish()
    world.sim.wait_for(lambda s: s["tasks"][0]["status"] == "SUCCEEDED")
    world.run(120)
    assert (world.status("a"), world.status("b")) == ("done", "rendering")


def test_pause_stops_creates_and_says_why_and_resume_goes_on(world: World) -> None:
    world.drop_pair("before")
    world.run(1)
    world.post({"pause": True})
    world.run(1)
    world.drop_pair("a", pitch=0.1)
    world.run(100)
    for name in ("before", "a"):
        report = world.report(name)
        assert report is not None
        assert (report["status"], report["queue"]["held"]) == ("queued", "paused")
    assert world.tasks() == []
    world.post({"pause": False})
    world.run()
    assert [world.status(n) for n in ("before", "a")] == ["done", "done"]


def test_the_days_budget_stops_creates_until_the_next_beijing_day_and_tells_operators_once(
    make_world: Callable[..., World],
) -> None:
    world = make_world(daily_budget_cny=0.04)  # one video of 0.4 s is 0.032, a check 0.004
    to_midnight = -(world.clock() + 8 * 3600) % 86_400
    world.advance(to_midnight + 60)
    for i, name in enumerate("abc"):
        world.drop_pair(name, pitch=0.05 + i / 50)
    world.run(1800)
    world.post({"sweep": True})
    world.run(600)
    assert [world.status(n) for n in "abc"] == ["done", "queued", "queued"]
    assert [(world.report(n) or {})["queue"]["held"] for n in "bc"] == ["budget", "budget"]
    assert world.new_operator_notices() == ["the day's budget is reached"]
    world.advance(86_400)
    world.run(600)
    assert [world.status(n) for n in "bc"] == ["done", "queued"]
    assert world.new_operator_notices() == ["the day's budget is reached"]  # a new day, told anew


def test_what_the_budget_stopped_goes_on_with_the_next_beijing_day_and_waits_for_no_sweep(
    make_world: Callable[..., World],
) -> None:
    world = make_world(daily_budget_cny=0.04)
    two_hours_before = -(world.clock() + 10 * 3600) % 86_400
    world.advance(two_hours_before)
    world.drop_pair("a")
    world.drop_pair("b", pitch=0.1)
    world.run(7200 - 60)
    assert [world.status(n) for n in "ab"] == ["done", "queued"]
    assert world.timers.sent.count({"wake": True}) <= 20, "one each quarter of an hour, and those of the first video"
    world.run(180)
    assert world.status("b") == "done"


# ---------------------------------------------------------------------- the portrait check
def test_many_voices_of_one_portrait_need_one_check_and_a_new_ratio_another(world: World) -> None:
    world.drop("acme/anna.png", portrait())
    for n in range(7):
        world.drop(f"acme/{n}.wav", voice(pitch=0.05 + n / 100))
    world.drop("acme/wide.wav", voice())
    world.drop("acme/wide.json", {"parameters": {"ratio": "3:4"}})
    world.run()
    assert {world.status(f"acme/{n}") for n in [*range(7), "wide"]} == {"done"}
    assert world.requests("check") == 2
    paid = [(r["cost_cny"]["check"]) for n in [*range(7), "wide"] if (r := world.report(f"acme/{n}"))]
    assert sum(paid) == pytest.approx(2 * 0.004), "each check is on one report only"


def test_a_refused_portrait_is_checked_once_for_all_its_voices_and_again_when_it_comes_anew(world: World) -> None:
    world.drop("acme/anna.png", portrait(note="FullFace"))
    for n in range(3):
        world.drop(f"acme/{n}.wav", voice(pitch=0.05 + n / 100))
    world.run()
    assert {(world.status(f"acme/{n}"), world.error(f"acme/{n}")) for n in range(3)} == {
        ("rejected", "PortraitRefused")
    }
    assert world.requests("check") == 1
    world.drop("acme/anna.png", portrait(note="FullFace"))
    world.run()
    assert world.requests("check") == 2, "the same bytes uploaded anew are another try"
    world.drop("acme/anna.png", portrait())
    world.run()
    assert {world.status(f"acme/{n}") for n in range(3)} == {"done"}


def test_boxes_of_one_portrait_are_never_used_for_another(world: World) -> None:
    body = {"code": "Throttling", "message": "Requests throttling triggered.", "request_id": "r"}
    world.sim.fault({"status": 429, "body": body, "headers": {"Retry-After": "60"}}, endpoint="create")
    world.drop_pair("a")
    world.run(10)
    assert world.job("a").boxes is not None
    world.drop("a.png", portrait(size=(800, 600)))
    world.run()
    assert world.status("a") == "done"
    assert world.tasks()[0]["ext_bbox"] == (100, 0, 700, 600), "the middle of the new picture"


# ---------------------------------------------------------------------- sudden death
@pytest.mark.parametrize("after", [False, True], ids=["before the create left", "after it was accepted"])
def test_a_create_whose_function_died_is_looked_for_once_its_lease_is_over(world: World, after: bool) -> None:
    world.dies(world.emo, "create", after=after)
    world.drop_pair("a")
    world.run(5)
    creating = world.table.slots().creating
    assert creating is not None
    assert creating.lease_until >= creating.sent_at + SUBMIT_SECONDS + LEASE_MARGIN - 10
    world.drop_pair("b", pitch=0.1)
    world.run(100)
    assert (len(world.tasks()), world.requests("list")) == (int(after), 0), "within the lease nobody creates or looks"
    world.run()
    assert [world.status(n) for n in ("a", "b")] == ["done", "done"]
    assert world.job("a").adopted is after
    assert len(world.tasks()) == 2, "each is paid once"


DEATHS = [  # tests/chaos goes through all; these are the ones that matter most
    ("table", "commit", range(2, 7)),
    ("emo", "check_portrait", [1]),
    ("emo", "query", [1]),
    ("emo", "list_tasks", [1]),
    ("results", "put_report", [1, 4]),
    ("results", "put_video", [1]),
    ("teller", "publish", [1, 4]),
    ("executions", "start", [1]),
    ("queue", "send", range(1, 4)),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "method", "nth"), [(o, m, n) for o, m, calls in DEATHS for n in calls])
def test_a_function_that_dies_at_any_call_loses_nothing_and_pays_once(
    world: World, owner: str, method: str, nth: int, after: bool
) -> None:
    if method == "list_tasks":
        world.sim.fault({"close": "after"}, endpoint="create")
    world.dies(getattr(world, owner), method, after=after, nth=nth)
    world.drop("acme/line.wav", voice())
    world.run(1)
    world.drop("acme/anna.png", portrait())
    world.run(1500)
    world.sweep(3)
    assert world.status("acme/line") == "done"
    assert len(world.tasks()) == 1
    assert world.video("acme/line") is not None
    assert world.table.slots().owners == []
    assert "done" in [e["status"] for e in world.new_events()]
    assert len(world.new_notices()) >= 1
    assert world.dead == []
