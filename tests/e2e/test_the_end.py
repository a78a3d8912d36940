"""What must hold after all that the other tests did to the stack; conftest.py runs it last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Stack


def test_no_message_was_given_up_or_is_being_tried_again(stack: Stack) -> None:
    stack.until(stack.is_drained, "every message of the uploads queue is handled; a failed one stays for minutes")

    dead = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.outputs["dead_letter_queue_url"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    assert dead["Attributes"] == {"ApproximateNumberOfMessages": "0"}


def test_there_never_were_more_tasks_at_the_provider_than_allowed_nor_too_many_calls(stack: Stack) -> None:
    counters = stack.simulator.state()["counters"]

    assert counters["max_open"] <= 2
    assert counters["throttled"] == {}


def test_every_task_at_the_provider_is_known_to_a_job(stack: Stack) -> None:
    known = {report["task"]["id"] for report in stack.events.so_far() if report["task"]}

    assert [task["id"] for task in stack.simulator.state()["tasks"] if task["id"] not in known] == []


def test_an_event_that_comes_twice_says_the_same(stack: Stack) -> None:
    said: dict[tuple[str, int], set[tuple[str, str]]] = {}
    for report in stack.events.so_far():
        words = (report["status"], json.dumps(report["error"]))
        said.setdefault((report["job"], report["revision"]), set()).add(words)

    assert len(said) > 0
    assert {which: words for which, words in said.items() if len(words) > 1} == {}
