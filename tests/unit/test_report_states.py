"""docs/examples/: a real report of every state, as `make examples` wrote it; and what a newcomer reads in it."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from portraitcast.domain.models import MODELS
from portraitcast.domain.report import Turn, build_report
from portraitcast.domain.uploads import short_hash
from unit.samples import job

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text("utf-8"))
STATES = SCHEMA["properties"]["status"]["enum"]


def example(status: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((EXAMPLES / f"{status}.json").read_text("utf-8"))
    return report


def test_there_is_an_example_of_every_state() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {f"{status}.json" for status in STATES}


@pytest.mark.parametrize("status", STATES)
def test_a_real_report_holds_to_the_schema(status: str) -> None:
    Draft202012Validator(SCHEMA).validate(example(status))
    assert example(status)["status"] == status


@pytest.mark.parametrize("status", STATES)
def test_a_real_report_holds_no_secret(status: str) -> None:
    text = (EXAMPLES / f"{status}.json").read_text("utf-8")
    assert not re.search(r"https?:|X-Amz|Signature|sk-|127\.0\.0\.1|localhost", text)


@pytest.mark.parametrize("status", STATES)
def test_a_job_is_the_hash_of_its_name(status: str) -> None:
    report = example(status)
    assert report["job"] == short_hash(report["name"])


@pytest.mark.parametrize("status", STATES)
def test_its_message_is_one_plain_sentence(status: str) -> None:
    message = example(status)["message"]
    assert re.fullmatch(r"[“A-Z].+\.", message)
    assert len(message) < 160


@pytest.mark.parametrize("status", ["waiting", "rejected", "failed"])
def test_what_went_wrong_comes_with_a_way_out(status: str) -> None:
    error = example(status)["error"]
    assert error["what_to_do"].endswith(".")


def test_the_refusal_names_limit_and_value() -> None:
    report = example("rejected")
    assert report["error"]["code"] == "VoiceTooLong"
    assert report["error"]["limit"] in report["message"]
    assert report["error"]["measured"] in report["message"]


def test_the_failure_has_the_providers_words() -> None:
    error = example("failed")["error"]
    assert error["code"] == "TaskFailed"
    assert error["provider_code"]
    assert error["provider_message"] in example("failed")["message"]
    assert error["request_id"]


def test_the_finished_video_and_its_price() -> None:
    report = example("done")
    assert report["video"]["key"] == f"{report['name']}.mp4"
    assert report["video"]["seconds"] == pytest.approx(report["inputs"]["voice"]["seconds"], abs=0.1)
    cost = report["cost_cny"]
    emo = MODELS["emo-v1"]
    assert cost["video"] == pytest.approx(emo.video_fee(report["video"]["seconds"], {"ratio": "1:1"}), abs=0.01)
    assert cost["check"] == emo.check_cny
    assert cost["total"] == cost["ever"] == pytest.approx(cost["check"] + cost["video"])


def test_the_tasks_times_are_in_order() -> None:
    report = example("done")
    times = [report["task"][name] for name in ("submit_time", "scheduled_time", "end_time")]
    moments = [datetime.fromisoformat(moment) for moment in (*times, report["as_of"])]
    assert moments == sorted(moments)


def test_the_queued_job_says_where() -> None:
    """When is estimated only once a task was seen; the example is of a new stack."""
    report = example("queued")
    queue = report["queue"]
    assert queue["place"] <= queue["of"]
    assert f"place {queue['place']} of {queue['of']}" in report["message"]


@pytest.mark.parametrize(
    ("place", "ahead", "said"),
    [(1, 0, "about 2 minutes"), (1, 1, "about 3 minutes"), (2, 2, "about 6 minutes"), (100, 2, "about 3 hours")],
)
def test_the_estimate_counts_the_jobs_before(place: int, ahead: int, said: str) -> None:
    """The provider makes one video at a time; a job here takes it 93 s."""
    message = build_report(job("queued"), now=0.0, turn=Turn(place, 100, ahead, usual_seconds=93.0))["message"]
    assert message == f"Waiting for its turn: place {place} of 100; its video should be there in {said}."


def test_a_job_of_seconds_is_no_job_of_minutes() -> None:
    message = build_report(job("queued"), now=0.0, turn=Turn(1, 1, 0, usual_seconds=6.0))["message"]
    assert message == "Waiting for its turn: place 1 of 1; its video should be there in less than a minute."


def test_a_new_stack_estimates_nothing() -> None:
    message = build_report(job("queued"), now=0.0, turn=Turn(1, 1, 0))["message"]
    assert message == "Waiting for its turn: place 1 of 1."
