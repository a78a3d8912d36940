"""What is measured: each change of a job once, the stack's state with each sweep, under the stack's name alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from aws_lambda_powertools import Metrics

from portraitcast.bootstrap.clients import meter
from portraitcast.domain.account import Account
from portraitcast.domain.job import Job, Status, Task, Video
from portraitcast.domain.metrics import UNITS, account_metrics, job_metrics
from portraitcast.workflows.publish import Publish
from unit import samples

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_795_424_400.0
VIDEO = Video("acme/line-01.mp4", 251_747, 6.075, 512, 512, "0" * 64)


def job(status: str, **known: Any) -> Job:
    return samples.job(status, **{"ready_at": NOW - 600, **known})


def test_a_finished_video() -> None:
    done = job("done", video=VIDEO, video_cost=0.486, task=Task("t-1", NOW - 400))
    assert job_metrics(done, NOW) == {
        "VideosDelivered": 1,
        "VideoSeconds": 6.075,
        "FeesCny": 0.486,
        "TimeToVideo": 600,
    }


def test_a_task_counts_its_time_in_the_queue() -> None:
    assert job_metrics(job("rendering", task=Task("t-1", NOW - 400)), NOW) == {"QueueWait": 200}


@pytest.mark.parametrize(("status", "metric"), [("failed", "JobsFailed"), ("rejected", "JobsRejected")])
def test_a_bad_end_counts_once(status: str, metric: str) -> None:
    assert job_metrics(job(status), NOW) == {metric: 1}


@pytest.mark.parametrize("status", ["waiting", "queued", "creating", "withdrawn"])
def test_a_state_that_counts_nothing(status: str) -> None:
    assert job_metrics(job(status), NOW) == {}


def test_a_clock_that_went_back() -> None:
    assert job_metrics(job("rendering", ready_at=NOW, task=Task("t-1", NOW - 5)), NOW) == {"QueueWait": 0}
    assert job_metrics(job("done", ready_at=NOW + 5, video=VIDEO), NOW)["TimeToVideo"] == 0


def test_what_a_sweep_measures() -> None:
    account = Account().take_slot("a#1", "emo-v1").take_slot("b#1", "liveportrait")
    well = {"QueueLength": 7, "OldestQueued": 42.5, "TasksInFlight": 2, "AccountHeld": 0, "Sweeps": 1}
    assert account_metrics(account, 7, 42.5) == well
    broken = account.open_breaker(NOW, interval=60, code="Arrearage", message="Access denied.")
    assert account_metrics(broken, 7, 42.5) == well | {"AccountHeld": 1}


def test_every_metric_has_a_source() -> None:
    ends = [samples.job(status, task=Task("t-1", NOW), video=VIDEO) for status in Status]
    measured = set(account_metrics(Account(), 0, 0.0)).union(*(job_metrics(end, NOW) for end in ends))
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
    """Return what a function writes into its log when it measures values, through the real bootstrap."""
    publish = Publish(Mock(), Mock(), Mock(), meter(metrics), clock=lambda: NOW)

    def emit(values: dict[str, float]) -> dict[str, Any]:
        metrics.log_metrics(lambda _event, _context: publish.measure(values))({}, Mock())
        line: dict[str, Any] = json.loads(capsys.readouterr().out)
        return line

    return emit


@pytest.mark.parametrize("name", UNITS)
def test_a_metric_as_cloudwatch_reads_it(name: str, emitted: Callable[[dict[str, float]], dict[str, Any]]) -> None:
    line = emitted({name: 3})
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Portraitcast"
    assert directive["Dimensions"] == [["service"]]
    assert directive["Metrics"] == [{"Name": name, "Unit": UNITS[name]}]
    assert (line["service"], line[name]) == ("my-stack", [3])


def test_a_name_without_a_unit_is_refused(
    emitted: Callable[[dict[str, float]], dict[str, Any]],
) -> None:
    with pytest.raises(KeyError):
        emitted({"Nonsense": 1})
