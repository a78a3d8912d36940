"""What is measured: each change of a job once, the stack's state with each sweep, under the stack's name alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from aws_lambda_powertools import Metrics

from portraitcast.config import Places
from portraitcast.jobs import DONE, FAILED, QUEUED, REJECTED, RENDERING, SUBMITTING, WAITING, WITHDRAWN, Job, owner_of
from portraitcast.metrics import UNITS, account_metrics, job_metrics
from portraitcast.slots import Slots
from portraitcast.wiring import teller

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_795_424_400.0
VIDEO = {"key": "acme/line-01.mp4", "bytes": 251_747, "seconds": 6.075, "width": 512, "height": 512, "sha256": "0" * 64}


def job(status: str, **known: Any) -> Job:
    made = Job("0" * 32, "acme/line-01", "acme", "acme/line-01", created_at=NOW - 900, status=status)
    made.ready_at = NOW - 600
    for name, value in known.items():
        setattr(made, name, value)
    return made


def test_a_finished_video_counts_with_its_seconds_its_fee_and_its_time_since_the_pair_was_whole() -> None:
    done = job(DONE, video=VIDEO, video_cost=0.486, task_sent_at=NOW - 400)
    assert job_metrics(done, NOW) == {
        "VideosDelivered": 1,
        "VideoSeconds": 6.075,
        "FeesCny": 0.486,
        "TimeToVideo": 600,
    }


def test_a_task_counts_with_the_time_that_its_job_was_queued() -> None:
    assert job_metrics(job(RENDERING, task_sent_at=NOW - 400), NOW) == {"QueueWait": 200}


@pytest.mark.parametrize(("status", "metric"), [(FAILED, "JobsFailed"), (REJECTED, "JobsRejected")])
def test_a_bad_end_counts_once(status: str, metric: str) -> None:
    assert job_metrics(job(status), NOW) == {metric: 1}


@pytest.mark.parametrize("status", [WAITING, QUEUED, SUBMITTING, WITHDRAWN])
def test_a_state_that_is_no_end_counts_nothing(status: str) -> None:
    assert job_metrics(job(status), NOW) == {}


def test_a_clock_that_went_back_gives_no_time_below_zero() -> None:
    assert job_metrics(job(RENDERING, ready_at=NOW, task_sent_at=NOW - 5), NOW) == {"QueueWait": 0}
    assert job_metrics(job(DONE, ready_at=NOW + 5, video=VIDEO), NOW)["TimeToVideo"] == 0


def test_a_sweep_measures_queue_slots_and_whether_the_account_is_held() -> None:
    slots = Slots()
    slots.owners = [owner_of("a" * 32, 1), owner_of("b" * 32, 1)]
    well = {"QueueLength": 7, "OldestQueued": 42.5, "TasksInFlight": 2, "AccountHeld": 0}
    assert account_metrics(slots, 7, 42.5) == well
    slots.hold_account(NOW, hold_seconds=60, code="Arrearage", message="Access denied.")
    assert account_metrics(slots, 7, 42.5) == well | {"AccountHeld": 1}


def test_every_metric_comes_from_a_job_or_from_a_sweep() -> None:
    ends = [job(DONE, video=VIDEO), job(RENDERING, task_sent_at=NOW), job(FAILED), job(REJECTED)]
    measured = set(account_metrics(Slots(), 0, 0.0)).union(*(job_metrics(end, NOW) for end in ends))
    assert measured == set(UNITS)


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """Return Powertools' metrics as a function makes them, in the environment that template.yaml gives it."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "my-stack")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Portraitcast")
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "us-east-1")
    made = Metrics()
    made.clear_metrics()
    return made


@pytest.fixture
def emitted(metrics: Metrics, capsys: pytest.CaptureFixture[str]) -> Callable[[dict[str, float]], dict[str, Any]]:
    """Return what a function writes into its log when it measures values, through the real wiring."""
    places = Places("table", "uploads", "results", "queue", "topic", "operators", "bus", "machine")
    tell = teller(places, Mock(), Mock(), metrics)

    def emit(values: dict[str, float]) -> dict[str, Any]:
        metrics.log_metrics(lambda _event, _context: tell.measure(values))({}, Mock())
        line: dict[str, Any] = json.loads(capsys.readouterr().out)
        return line

    return emit


@pytest.mark.parametrize("name", UNITS)
def test_a_metric_is_written_in_cloudwatchs_format_with_the_stack_as_its_only_dimension(
    name: str, emitted: Callable[[dict[str, float]], dict[str, Any]]
) -> None:
    line = emitted({name: 3})
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Portraitcast"
    assert directive["Dimensions"] == [["service"]]
    assert directive["Metrics"] == [{"Name": name, "Unit": UNITS[name]}]
    assert (line["service"], line[name]) == ("my-stack", [3])


def test_a_name_that_nobody_has_given_a_unit_is_refused(
    emitted: Callable[[dict[str, float]], dict[str, Any]],
) -> None:
    with pytest.raises(KeyError):
        emitted({"Nonsense": 1})
