"""What `make redrive` makes of a dead letter, and what it says; the rest is e2e/test_check_aws.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from package import read_template
from redrive import SOURCES, Redriven, event_of
from run import ROOT

EVENT = {"detail-type": "Step Functions Execution Status Change", "detail": {"status": "FAILED"}}


@pytest.mark.parametrize("said", [EVENT, {"requestContext": {}, "requestPayload": EVENT}])
def test_an_event_is_found_in_both_records(said: dict[str, Any]) -> None:
    assert event_of(json.dumps(said)) == EVENT


@pytest.mark.parametrize("body", ["no JSON", "[]", "1", '{"detail": 1}', '{"requestPayload": []}', "{}"])
def test_what_is_no_event(body: str) -> None:
    assert event_of(body) is None


@pytest.mark.parametrize(
    ("done", "line"),
    [
        (Redriven("media", 0, 0), "media    none"),
        (Redriven("uploads", 3, 3), "uploads  3 of 3 back to the uploads queue"),
        (Redriven("rule", 2, 1, "look"), "rule     1 of 2 given to deliver; look"),
    ],
)
def test_it_says_how_many_there_were(done: Redriven, line: str) -> None:
    assert done.line() == line


def test_each_dead_letter_queue_has_a_source() -> None:
    queues = [name for name, each in read_template(ROOT / "template.yaml")["Resources"].items()
              if each["Type"] == "AWS::SQS::Queue" and name.endswith("DeadLetterQueue")]  # fmt: skip
    assert sorted(its.dead_letters for its in SOURCES.values()) == sorted(queues)
