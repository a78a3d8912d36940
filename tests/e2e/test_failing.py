"""Bad ends: a task that fails, an execution that somebody ends by hand, an AWS that refuses for a moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from makers import voice

from stacks import changed_policy

if TYPE_CHECKING:
    from conftest import Stack

    from simulator import Simulator

PAIR_SECONDS = 1  # the stack's parameter


def abort(stack: Stack, report: dict[str, Any]) -> None:
    """End a job's execution as a person would, in the console."""
    states, machine = stack.client("stepfunctions"), stack.outputs["state_machine_arn"]
    pages = states.get_paginator("list_executions").paginate(stateMachineArn=machine, statusFilter="RUNNING")
    running = [each for page in pages for each in page["executions"] if each["name"].startswith(report["job"])]
    (execution,) = running
    states.stop_execution(executionArn=execution["executionArn"])


def hold_running(stack: Stack, simulator: Simulator, name: str) -> dict[str, Any]:
    """Drop a pair whose task runs until the simulator is told otherwise; return the report that it renders."""
    rendering = stack.hold_rendering(name)
    simulator.wait_for(lambda s: any(name in t["audio_url"] and t["status"] == "RUNNING" for t in s["tasks"]), 60)
    return rendering


def status_at_provider(stack: Stack, name: str) -> list[str]:
    return [task["status"] for task in stack.tasks(name)]


def test_a_failed_task_fails_its_job_with_the_providers_words_and_lets_the_next_one_go(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    wrong = {"code": "InternalError.Algo", "message": "the face was lost on the way"}
    simulator.fault({"task_fails": wrong}, match={"contains": folder})

    stack.drop_pair(f"{folder}line")
    failed = stack.wait_report(f"{folder}line", "failed")
    notice = stack.notices.wait_for(failed)
    stack.pass_through()

    error = failed["error"]
    assert (error["code"], error["provider_code"]) == ("TaskFailed", wrong["code"])
    assert error["provider_message"] == wrong["message"]
    assert wrong["message"] in failed["message"]
    assert "Drop the same files again" in error["what_to_do"]
    assert notice["attributes"] == {"status": "failed", "folder": folder[:-1]}
    assert notice["subject"] == f"Portraitcast: {folder}line is failed"
    assert stack.results(folder) == [f"{folder}line.json"]
    assert len(stack.tasks(folder)) == 1
    assert failed["cost_cny"]["video"] is None


def test_an_execution_aborted_by_hand_fails_its_job_and_keeps_its_slot_until_its_task_has_ended(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    one, two, three = (f"{folder}{name}" for name in ("one", "two", "three"))
    rendering = hold_running(stack, simulator, one)
    stack.drop_pair(two)
    stack.wait_report(two, "rendering")

    abort(stack, rendering)
    failed = stack.wait_report(one, "failed")
    notice = stack.notices.wait_for(failed)
    stack.drop_pair(three)
    stack.wait_report(three, "queued")
    may_be_sent = time.monotonic() + PAIR_SECONDS
    stack.until(lambda: time.monotonic() > may_be_sent, "the third job may be sent")
    stack.send({"wake": True})

    assert failed["error"]["code"] == "ExecutionAborted"
    assert "by hand" in failed["message"]
    assert "Drop the same files again" in failed["error"]["what_to_do"]
    assert notice["attributes"]["status"] == "failed"
    assert [status_at_provider(stack, name) for name in (one, two, three)] == [["RUNNING"], ["PENDING"], []]

    simulator.finish(stack.tasks(one)[0]["id"])
    stack.wait_report(three, "rendering")
    simulator.set(manual=False)
    stack.wait_report(two, "done")
    stack.wait_report(three, "done")
    assert stack.report(one)["status"] == "failed"


def test_an_execution_aborted_while_its_task_waits_has_the_task_cancelled(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    one, two = f"{folder}one", f"{folder}two"
    hold_running(stack, simulator, one)
    stack.drop_pair(two)
    rendering = stack.wait_report(two, "rendering")

    abort(stack, rendering)
    failed = stack.wait_report(two, "failed")

    assert failed["error"]["code"] == "ExecutionAborted"
    assert "cancelled" in failed["message"]
    assert status_at_provider(stack, two) == ["CANCELED"]
    simulator.set(manual=False)
    stack.wait_report(one, "done")


def test_the_same_files_dropped_after_an_abort_take_up_the_living_task_instead_of_paying_for_another(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    name = f"{folder}line"
    rendering = hold_running(stack, simulator, name)
    abort(stack, rendering)
    failed = stack.wait_report(name, "failed")

    stack.drop(f"{name}.wav", voice())
    again = stack.wait_report(name, "rendering", after=failed["revision"])
    simulator.set(manual=False)
    done = stack.wait_report(name, "done", after=failed["revision"])

    assert again["task"]["id"] == done["task"]["id"] == rendering["task"]["id"]
    assert len(stack.tasks(folder)) == 1
    assert done["tries"] == 1


def test_what_aws_refuses_deliver_for_a_moment_is_tried_again_and_nobody_is_bothered(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    name = f"{folder}line"
    rendering = hold_running(stack, simulator, name)
    operators_before = len(stack.operators.so_far())

    with changed_policy(stack, "deliver", "Jobs", lambda _: []):
        refused = stack.logs("deliver").count("TryLaterError")
        simulator.finish(stack.tasks(name)[0]["id"])
        stack.until(lambda: stack.logs("deliver").count("TryLaterError") > refused, "deliver is refused")
    simulator.set(manual=False)
    done = stack.wait_report(name, "done")
    stack.pass_through()

    assert done["task"]["id"] == rendering["task"]["id"]
    assert done["tries"] == 1
    states, machine = stack.client("stepfunctions"), stack.outputs["state_machine_arn"]
    pages = states.get_paginator("list_executions").paginate(stateMachineArn=machine)
    executions = [
        each["status"] for page in pages for each in page["executions"] if each["name"].startswith(done["job"])
    ]
    assert executions == ["SUCCEEDED"]
    assert stack.operators.so_far()[operators_before:] == []
