"""Creating a task: each certain outcome of a create and of a portrait check, and what they do to the day's budget."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from world import World, portrait, voice

from portraitcast.domain.job import Status, Task

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED = {"code": "InvalidParameter", "message": "Invalid bbox input", "request_id": "r-1"}
THROTTLED = {"code": "Throttling", "message": "Requests throttling triggered.", "request_id": "r"}
CHECK_CNY, VIDEO_CNY = 0.004, 0.032  # of a video of 0.4 s


def queued_order(world: World) -> list[str]:
    jobs = [world.table.job(entry.job) for entry in world.table.queue("emo-v1", 50)]
    return [job.name for job in jobs if job]


def unavailable(port: int) -> str:
    return f"http://127.0.0.1:{port}/api/v1"


# ---------------------------------------------------------------------- a task id: paid
def test_accepted_is_stored_and_monitored(world: World) -> None:
    world.sim.set(manual=True)
    world.drop_pair("a")
    world.run(20)
    (task,) = world.tasks()
    job = world.job("a")
    assert isinstance(job.task, Task)
    assert (job.status, job.task.id, job.tries) == (Status.RENDERING, task["id"], 1)
    assert world.table.is_known_task(task["id"])
    assert world.execution_names() == [f"{job.id}-1-1"]
    account = world.table.account()
    assert (account.tasks_in_flight, account.open_create) == ({job.owner: "emo-v1"}, None)
    state = world.execution(f"{job.id}-1-1").execution_input
    assert "http" not in state, "no links in an execution's history"


# ---------------------------------------------------------------------- this job is wrong: not paid
def test_refused_create_rejects_the_job(world: World) -> None:
    world.sim.fault({"status": 400, "body": REFUSED}, endpoint="create")
    world.drop_pair("a")
    world.run()
    report = world.its_report("a")
    assert report["status"] == "rejected"
    error = report["error"]
    told = (error["code"], error["provider_code"], error["request_id"], error["provider_message"])
    assert told == ("ProviderRejected", "InvalidParameter", "r-1", "Invalid bbox input")
    account = world.table.account()
    assert (account.tasks_in_flight, account.open_create) == ({}, None)
    assert account.spent == CHECK_CNY, "what was refused gives its fee back; the check was paid"
    assert world.new_operator_notices() == []


@pytest.mark.parametrize(("times", "status"), [(1, "done"), (2, "rejected")])
def test_unfetched_link_gets_one_more_try(world: World, times: int, status: str) -> None:
    """The owner's own link: nobody but the owner can mend it."""
    world.s3.put_object(Bucket="uploads", Key=".v.wav", Body=voice())
    body = {"code": "InvalidURL.Timeout", "message": "Downloading the input timed out.", "request_id": "r-2"}
    world.sim.fault({"status": 400, "body": body}, endpoint="create", times=times)
    world.drop("a.png", portrait())
    world.drop("a.json", {"input": {"audio_url": f"{world.files.origin}/.v.wav"}})
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
# What is no code of the account's, and befalls every job all the same: a wrong base address, a service that changed.
EVERY_JOBS = [
    (400, "InvalidParameter", "url error, please check url\uff01"),
    (400, "InvalidParameter", "Required parameter(s) missing or invalid, please check the request parameters."),
    (400, "InvalidParameter", "An odd word that nobody has seen."),
    (400, "BadRequest.IllegalInput", "The request is not valid."),
    (404, "NotFound", "No static resource api/v2."),
    (400, "InvalidParameter", "No static resource services/aigc/image2video."),
    (400, "InvalidURL.ConnectionRefused", "The connection to the input was refused."),
    (400, "InvalidURL.Timeout", "Downloading the input timed out."),
    (400, "InvalidParameter.DataInspection", "Unable to download the media resource during the data inspection."),
]
CODES = [f"{code} {message[:16]}" for _, code, message in EVERY_JOBS]


@pytest.mark.parametrize("endpoint", ["check", "create"])
@pytest.mark.parametrize(("http", "code", "message"), ACCOUNT[:1] + ACCOUNT[-1:])
def test_account_trouble_holds_every_job(world: World, endpoint: str, http: int, code: str, message: str) -> None:
    body = {"code": code, "message": message, "request_id": "r-3"}
    world.sim.fault({"status": http, "body": body}, endpoint=endpoint, times=None)
    world.drop_pair("a")
    world.run(10)
    world.drop_pair("b", pitch=0.1)
    world.run(1200)
    for name in ("a", "b"):
        report = world.its_report(name)
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
def test_account_codes(world: World, http: int, code: str, message: str) -> None:
    body = {"code": code, "message": message, "request_id": "r-3"}
    world.sim.fault({"status": http, "body": body}, endpoint="create")
    world.drop_pair("a")
    world.run(20)
    assert world.status("a") == "queued"
    breaker = world.table.account().breaker
    assert breaker is not None
    assert breaker.code == code
    assert world.new_operator_notices() == ["the account is held"]


@pytest.mark.parametrize("endpoint", ["check", "create"])
@pytest.mark.parametrize(("http", "code", "message"), EVERY_JOBS, ids=CODES)
def test_what_befalls_all_is_the_stacks(world: World, endpoint: str, http: int, code: str, message: str) -> None:
    """Whatever its code is: jobs keep their places, the operator is told, and nobody is sent to mend their files."""
    body = {"code": code, "message": message, "request_id": "r-3"}
    world.sim.fault({"status": http, "body": body}, endpoint=endpoint, times=None)
    names = ["a", "b", "c", "d"]
    for n, name in enumerate(names):
        world.drop(f"{name}.png", portrait(60 + n))
        world.drop(f"{name}.wav", voice(pitch=0.08 + n / 50))
        world.run(10)
    world.run(1200)
    assert [world.status(name) for name in names] == ["queued"] * 4
    assert [world.held(name) for name in names] == ["account"] * 4
    assert queued_order(world) == names
    assert world.new_operator_notices() == ["the account is held"]
    world.sim.clear_faults()
    world.run()
    assert [world.status(name) for name in names] == ["done"] * 4
    assert len(world.tasks()) == 4


@pytest.mark.parametrize("message", ["The style_level is invalid.", "Invalid bbox input"])
def test_the_third_alike_is_the_stacks(world: World, message: str) -> None:
    """Words about an input, and yet each job meets them: after two the rest keep their places."""
    body = {"code": "InvalidParameter", "message": message, "request_id": "r-3"}
    world.sim.fault({"status": 400, "body": body}, endpoint="create", times=None)
    names = ["a", "b", "c", "d"]
    for n, name in enumerate(names):
        world.drop_pair(name, pitch=0.08 + n / 50)
        world.run(10)
    world.run(300)
    assert [world.status(name) for name in names] == ["rejected", "rejected", "queued", "queued"]
    assert world.new_operator_notices() == ["the account is held"]
    world.sim.clear_faults()
    world.run()
    assert [world.status(name) for name in names] == ["rejected", "rejected", "done", "done"]


def test_judged_contents_are_each_their_own(world: World) -> None:
    body = {"code": "DataInspectionFailed", "message": "Input may contain inappropriate content.", "request_id": "r"}
    world.sim.fault({"status": 400, "body": body}, endpoint="create", times=None)
    for n in range(4):
        world.drop_pair(f"{n}", pitch=0.08 + n / 50)
        world.run(10)
    assert [world.status(f"{n}") for n in range(4)] == ["rejected"] * 4
    assert world.new_operator_notices() == []


@pytest.mark.parametrize("body", [dict(zip(("code", "message"), each[1:], strict=True)) for each in EVERY_JOBS[1:6:2]])
def test_one_bad_job_holds_up_nobody(world: World, body: dict[str, str]) -> None:
    """Alone it can't be told from the stack's trouble; once others have passed twice, it is its own."""
    world.sim.fault({"status": 400, "body": body}, endpoint="create", times=None, match={"contains": "bad.wav"})
    world.drop_pair("bad")
    world.run(600)
    assert world.status("bad") == "queued"
    for n, name in enumerate(("good", "better", "best")):
        world.drop_pair(name, pitch=0.1 + n / 50)
        world.run(1000)
        assert world.status(name) == "done"
    world.run(1000)
    assert (world.status("bad"), world.error("bad")) == ("rejected", "ProviderRejected")


def test_a_bad_jobs_access_holds_nobody(world: World) -> None:
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


def test_trouble_leaves_an_orphans_slot(make_world: Callable[..., World]) -> None:
    """A check that fails for the account must not free the slot of the same job's orphaned task."""
    world = make_world(max_tasks_in_flight=2)
    world.rendering("a")
    orphan = world.job("a").owner
    world.rule(world.execution_of("a"), "ABORTED")
    body = {"code": "InvalidApiKey", "message": "Invalid API-key provided."}
    world.sim.fault({"status": 401, "body": body}, endpoint="check")
    world.drop("a.png", portrait(90))
    world.run(20)
    assert (world.status("a"), world.held("a")) == ("queued", "account")
    assert list(world.table.account().tasks_in_flight) == [orphan]


# ---------------------------------------------------------------------- waiting cures it: not paid
def test_throttled_makes_the_account_wait(world: World) -> None:
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


def test_three_throttled_open_the_breaker(world: World) -> None:
    world.sim.fault({"status": 429, "body": THROTTLED}, endpoint="create", times=3)
    world.drop_pair("a")
    world.run(30)
    assert world.requests("create") == 3
    assert world.table.account().breaker is not None
    assert world.held("a") == "account"
    world.run()
    assert world.status("a") == "done"
    assert world.new_operator_notices() == ["the account is held", "the account is well again"]


def test_unreachable_costs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(world.service, "_base", unavailable(port))  # the client has no other way to move
        world.drop_pair("a")
        world.run(30)
        assert world.status("a") == "queued"
        assert world.table.account().breaker is not None
    world.run()
    assert world.status("a") == "done"
    assert len(world.tasks()) == 1


# ---------------------------------------------------------------------- money
def test_budget_stops_until_the_next_day(make_world: Callable[..., World]) -> None:
    world = make_world(daily_budget_cny=0.04)  # one video of 0.4 s is 0.032, a check 0.004
    world.advance_to_beijing_midnight(before=-60)
    for i, name in enumerate("abc"):
        world.drop_pair(name, pitch=0.05 + i / 50)
    world.run(1800)
    world.post({"sweep": True})
    world.run(600)
    assert [world.status(n) for n in "abc"] == ["done", "queued", "queued"]
    assert [world.held(n) for n in "bc"] == ["budget", "budget"]
    assert world.new_operator_notices() == ["the day's budget is reached"], "once"
    world.advance(86_400)
    world.run(600)
    assert [world.status(n) for n in "bc"] == ["done", "queued"]
    assert world.new_operator_notices() == ["the day's budget is reached"], "a new day, told anew"


def test_a_new_day_needs_no_sweep(make_world: Callable[..., World]) -> None:
    world = make_world(daily_budget_cny=0.04)
    world.advance_to_beijing_midnight(before=7200)
    world.drop_pair("a")
    world.drop_pair("b", pitch=0.1)
    world.run(7200 - 60)
    assert [world.status(n) for n in "ab"] == ["done", "queued"]
    assert world.timers.sent.count({"wake": True}) <= 20, "one each quarter of an hour, and those of the first video"
    world.run(180)
    assert world.status("b") == "done"


def test_dearer_than_a_day_is_rejected(make_world: Callable[..., World]) -> None:
    """Whose own price is above the ceiling would stand at the head for ever."""
    world = make_world(daily_budget_cny=0.05)
    world.drop_pair("dear", seconds=2.0)
    world.run(10)
    world.drop_pair("cheap", pitch=0.1)
    world.run()
    error = world.its_report("dear")["error"]
    assert (world.status("dear"), error["code"]) == ("rejected", "OverBudget")
    assert (error["limit"], error["measured"]) == ("CNY 0.05 a day", "CNY 0.16")
    message = world.its_report("dear")["message"]
    assert "0.16" in message
    assert "0.05" in message
    assert world.status("cheap") == "done"
    assert world.new_operator_notices() == []
    assert [task["audio_url"].count("dear") for task in world.tasks()] == [0]


def test_dearer_than_a_day_by_its_check(make_world: Callable[..., World]) -> None:
    """The price is the video's and the check's: together a thousandth too much."""
    world = make_world(daily_budget_cny=0.035)
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), world.error("a")) == ("rejected", "OverBudget")
    assert sum(world.sim.state()["counters"]["requests"].values()) == 0


def test_dearer_than_a_day_can_be_mended(make_world: Callable[..., World]) -> None:
    world = make_world(daily_budget_cny=0.05)
    world.drop_pair("a", seconds=2.0)
    world.run()
    world.drop("a.wav", voice())
    world.run()
    assert world.status("a") == "done"


def test_a_voice_by_link_counts_as_longest(make_world: Callable[..., World]) -> None:
    """Nobody has measured it, so it counts with 60 s: CNY 4.80."""
    world = make_world(daily_budget_cny=4.0)
    world.drop("a.png", portrait())
    world.drop("a.json", {"input": {"audio_url": f"{world.files.origin}/.v.wav"}})
    world.run()
    assert (world.status("a"), world.error("a")) == ("rejected", "OverBudget")


def test_checks_count_in_the_days_spending(make_world: Callable[..., World]) -> None:
    """20 refused portraits are CNY 0.08: the ceiling of 0.06 must end them."""
    world = make_world(daily_budget_cny=0.06)
    world.advance_to_beijing_midnight(before=-60)
    for n in range(20):
        world.drop(f"{n:02}.png", portrait(n, note="NoHuman"))
        world.drop(f"{n:02}.wav", voice())
    world.run(3600)
    checks = world.requests("check")
    assert world.table.account().spent == pytest.approx(checks * CHECK_CNY)
    assert checks == 7, "the 8th, with its video, is more than is left of CNY 0.06"
    assert world.new_operator_notices() == ["the day's budget is reached"]


TAKEN = {"status": 500, "body": {"code": "InternalError", "message": "An internal error has occurred."}}


@pytest.mark.parametrize(
    ("fault", "spent"),
    [
        ({"close": "before"}, CHECK_CNY),
        (TAKEN, CHECK_CNY),
        ({"status": 200, "body": "<html></html>"}, CHECK_CNY),
        ({"status": 429, "body": THROTTLED, "headers": {"Retry-After": "900"}}, 0.0),
        ({"status": 401, "body": {"code": "InvalidApiKey", "message": "Invalid API-key provided."}}, 0.0),
    ],
    ids=["cut", "ill", "a page", "throttled", "account"],
)
def test_a_check_is_spent_until_known(world: World, fault: dict[str, Any], spent: float) -> None:
    world.sim.fault(fault, endpoint="check")
    world.drop_pair("a")
    world.run(4)
    assert world.requests("check") == 1
    assert world.table.account().spent == spent


def test_a_check_whose_function_died_is_spent(world: World) -> None:
    world.advance_to_beijing_midnight(before=6 * 3600)  # its message comes again twelve minutes later: the same day
    world.dies(world.service, "check_portrait", after=True)
    world.drop_pair("a")
    world.run(10)
    assert world.table.account().spent == CHECK_CNY
    world.run()
    assert world.status("a") == "done"
    assert world.table.account().spent == pytest.approx(2 * CHECK_CNY + VIDEO_CNY)


def back_before_midnight(world: World) -> None:
    """Let the clock be as a function sees it whose own is behind: it is still the day before."""
    world.advance(-(world.clock() + 8 * 3600) % 86_400 - 86_400 - LATE)


LATE = 30.0  # s; less than a second does the same, and would make this a timed test


def test_midnight_with_clocks_that_differ(make_world: Callable[..., World]) -> None:
    """A function whose clock is behind spends on the day that has begun, and sees what that has spent."""
    world = make_world(daily_budget_cny=0.08, pair_seconds=0)
    world.advance_to_beijing_midnight(before=-LATE)
    world.drop_pair("new")
    world.run(600)
    spent = world.table.account()
    assert spent.spent == pytest.approx(CHECK_CNY + VIDEO_CNY)
    back_before_midnight(world)
    world.drop_pair("late", pitch=0.1)
    world.run(LATE / 2)
    assert len(world.tasks()) == 2, "there is enough left for one more"
    account = world.table.account()
    assert account.spent_day == spent.spent_day
    assert account.spent == pytest.approx(CHECK_CNY + 2 * VIDEO_CNY)
    world.advance(2 * LATE)
    world.drop_pair("next", pitch=0.2)
    world.run(600)
    assert (world.status("next"), world.held("next"), len(world.tasks())) == ("queued", "budget", 2)


def test_midnight_tells_operators_once(make_world: Callable[..., World]) -> None:
    world = make_world(daily_budget_cny=0.04)
    world.advance_to_beijing_midnight(before=600)
    world.post({"pause": True})
    world.drop_pair("a")
    world.drop_pair("b", pitch=0.1)
    world.run(600 + LATE)
    world.post({"pause": False})
    world.run(60)
    assert (world.status("a"), world.held("b")) == ("done", "budget")
    assert world.new_operator_notices() == ["the day's budget is reached"]
    back_before_midnight(world)
    world.dispatch_now()
    world.advance(2 * LATE)
    world.dispatch_now()
    assert world.new_operator_notices() == []
    assert world.held("b") == "budget"


# ---------------------------------------------------------------------- the portrait check
def test_one_check_for_many_voices(world: World) -> None:
    world.drop("acme/anna.png", portrait())
    for n in range(7):
        world.drop(f"acme/{n}.wav", voice(pitch=0.05 + n / 100))
    world.drop("acme/wide.wav", voice())
    world.drop("acme/wide.json", {"parameters": {"ratio": "3:4"}})
    world.run()
    assert {world.status(f"acme/{n}") for n in [*range(7), "wide"]} == {"done"}
    assert world.requests("check") == 2, "a new ratio needs another"
    paid = [world.its_report(f"acme/{n}")["cost_cny"]["check"] for n in [*range(7), "wide"]]
    assert sum(paid) == pytest.approx(2 * CHECK_CNY), "each check is on one report only"


def test_refused_portrait_is_checked_once(world: World) -> None:
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


def test_boxes_are_of_that_portrait(world: World) -> None:
    world.sim.fault({"status": 429, "body": THROTTLED, "headers": {"Retry-After": "60"}}, endpoint="create")
    world.drop_pair("a")
    world.run(10)
    assert world.job("a").boxes is not None
    world.drop("a.png", portrait(size=(800, 600)))
    world.run()
    assert world.status("a") == "done"
    assert world.tasks()[0]["ext_bbox"] == (100, 0, 700, 600), "the middle of the new picture"


@pytest.mark.parametrize("model", ["liveportrait", "wan2.2-s2v"])
def test_checks_without_boxes(world: World, model: str) -> None:
    """Two voices of one portrait: one check, whose answer holds no boxes, and creates without any."""
    world.drop("acme/settings.json", {"model": model})
    world.drop("acme/anna.png", portrait())
    for n in range(2):
        world.drop(f"acme/{n}.wav", voice(1.2, pitch=0.05 + n / 100))
    world.run()
    assert [world.status(f"acme/{n}") for n in range(2)] == ["done", "done"]
    assert world.requests("check") == 1
    assert [(task["model"], task["face_bbox"]) for task in world.tasks()] == [(model, None)] * 2
    assert world.job("acme/0").boxes is None


@pytest.mark.parametrize("model", ["liveportrait", "wan2.2-s2v"])
def test_a_check_without_boxes_refuses(world: World, model: str) -> None:
    world.drop("a.json", {"model": model})
    world.drop("a.png", portrait(note="NoHuman"))
    world.drop("a.wav", voice(1.2))
    world.run()
    assert (world.status("a"), world.error("a")) == ("rejected", "PortraitRefused")
    assert world.requests("create") == 0


@pytest.mark.parametrize("models", [("emo-v1", "liveportrait"), ("liveportrait", "wan2.2-s2v")])
def test_models_have_checks_of_their_own(world: World, models: tuple[str, str]) -> None:
    """What passed one model's check has not passed another's."""
    world.drop("anna.png", portrait())
    world.drop("a.json", {"model": models[0]})
    world.drop("a.wav", voice(1.2))
    world.run()
    world.drop("b.json", {"model": models[1]})
    world.drop("b.wav", voice(1.2))
    world.run()
    assert [world.status(n) for n in "ab"] == ["done", "done"]
    assert world.requests("check") == 2
