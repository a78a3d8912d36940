"""The account's and the provider's troubles are not the jobs' troubles; and stopping by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Stack

    from simulator import Simulator


def test_pausing_holds_jobs_and_resuming_sends_them(stack: Stack, folder: str) -> None:
    name = f"{folder}line"
    with stack.paused():
        stack.drop_pair(name)
        held = stack.wait_report(name, "queued")
        assert held["queue"] == {"place": 1, "of": 1, "held": "paused"}
        assert "paused" in held["message"]
        assert stack.tasks(folder) == []

    stack.wait_report(name, "done")

    assert len(stack.tasks(folder)) == 1


def test_pausing_lets_what_is_being_made_come_to_its_end(stack: Stack, simulator: Simulator, folder: str) -> None:
    name = f"{folder}line"
    stack.hold_rendering(name)

    with stack.paused():
        simulator.set(manual=False)
        stack.wait_report(name, "done")


def test_a_wrong_key_holds_all_jobs_in_their_places_until_it_is_right_and_tells_the_operator_once_each(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    names, told = [f"{folder}one", f"{folder}two"], len(stack.operators.so_far())
    simulator.trouble("invalid_key")
    calls = calls_so_far(simulator)
    for name in names:
        stack.drop_pair(name)

    held = [
        stack.events.wait(
            lambda r, name=name: r["name"] == name and r["queue"] is not None and r["queue"]["held"] == "account"
        )
        for name in names
    ]
    simulator.wait_for(lambda _: calls_so_far(simulator) >= calls + 3, 60)  # it is tried again, by itself
    assert [report["status"] for report in held] == ["queued", "queued"]
    assert stack.tasks(folder) == []
    simulator.trouble("ok")
    for name in names:
        stack.wait_report(name, "done")
    stack.operators.wait(lambda notice: "well again" in notice["subject"], since=told)
    stack.pass_through()

    subjects = [notice["subject"] for notice in stack.operators.so_far()[told:]]
    assert subjects == ["Portraitcast: the account is held", "Portraitcast: the account is well again"]
    assert "InvalidApiKey" in stack.operators.so_far()[told]["message"]
    assert [len(stack.tasks(name)) for name in names] == [1, 1]


def calls_so_far(simulator: Simulator) -> int:
    requests = simulator.state()["counters"]["requests"]
    return int(requests.get("check", 0) + requests.get("create", 0))


def test_a_create_that_is_cut_after_it_took_effect_is_found_and_paid_once(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    simulator.fault({"close": "after"}, endpoint="create", match={"contains": folder})

    stack.drop_pair(f"{folder}line")
    done = stack.wait_report(f"{folder}line", "done")

    (task,) = stack.tasks(folder)
    assert done["task"]["id"] == task["id"]
    assert done["tries"] == 1


def test_a_create_that_breaks_without_effect_is_looked_for_then_sent_again_and_paid_once(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    rule = simulator.fault(
        {"status": 500, "body": "<html>Internal Server Error</html>"}, endpoint="create", match={"contains": folder}
    )
    lists = simulator.state()["counters"]["requests"].get("list", 0)

    stack.drop_pair(f"{folder}line")
    done = stack.wait_report(f"{folder}line", "done")

    assert next(each["hits"] for each in simulator.state()["faults"] if each["id"] == rule) == 1
    assert simulator.state()["counters"]["requests"]["list"] >= lists + 2
    assert len(stack.tasks(folder)) == 1
    assert done["tries"] == 1


def test_a_video_that_comes_as_a_page_is_fetched_again(stack: Stack, simulator: Simulator, folder: str) -> None:
    simulator.fault({"results": "html"}, match={"contains": folder})

    stack.drop_pair(f"{folder}line")
    done = stack.wait_report(f"{folder}line", "done")

    assert stack.result(f"{folder}line.mp4")[4:8] == b"ftyp"
    assert len(stack.tasks(folder)) == 1
    assert done["error"] is None
