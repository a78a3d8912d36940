"""DefaultModel and ModelDeployments: which model a job has, by which name it is asked, queued and paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import World, portrait

from portraitcast.bootstrap import submit
from portraitcast.domain.models import StackModels
from portraitcast.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = {"my-emo": "emo-v1", "fast": "liveportrait"}


@pytest.fixture
def deployed(make_world: Callable[..., World]) -> World:
    world = make_world(models=StackModels("fast", OURS), max_tasks_in_flight=1)
    world.sim.set(deployments=OURS)
    return world


def test_without_a_name_it_is_the_stacks_default(deployed: World) -> None:
    deployed.drop_pair("a", seconds=1.4)
    deployed.run()
    report = deployed.its_report("a")
    assert (report["status"], report["settings"]["model"]) == ("done", "fast")
    assert [task["model"] for task in deployed.tasks()] == ["fast"]
    assert report["cost_cny"]["video"] == pytest.approx(0.02 * 1.4, abs=0.002), "the price of the model that it runs"


def test_a_deployment_has_the_limits_of_what_it_runs(deployed: World) -> None:
    deployed.drop_pair("a", seconds=1.0)  # liveportrait takes more than 1 s
    deployed.run()
    assert (deployed.status("a"), deployed.error("a")) == ("rejected", "VoiceTooShort")


def test_a_deployment_has_the_parameters_of_what_it_runs(deployed: World) -> None:
    deployed.drop("a.json", {"model": "my-emo", "parameters": {"style_level": "calm"}})
    deployed.drop_pair("a")
    deployed.drop("b.json", {"model": "my-emo", "parameters": {"template_id": "calm"}})
    deployed.drop_pair("b", pitch=0.1)
    deployed.run()
    assert [deployed.status(name) for name in ("a", "b")] == ["done", "rejected"]
    message = deployed.its_report("b")["message"]
    assert "template_id belongs to liveportrait, and the model here is my-emo" in message


def test_each_name_has_its_slots_and_queue(deployed: World) -> None:
    """The provider counts a deployment's tasks apart from the model's."""
    deployed.sim.set(manual=True)
    for name, model in (("a", "my-emo"), ("b", "my-emo"), ("c", "emo-v1"), ("d", "fast")):
        deployed.drop(f"{name}.json", {"model": model})
        deployed.drop_pair(name, seconds=1.4)
        deployed.run(8)
    assert [deployed.status(name) for name in "abcd"] == ["rendering", "queued", "rendering", "rendering"]
    assert sorted(deployed.table.account().tasks_in_flight.values()) == ["emo-v1", "fast", "my-emo"]


def test_a_check_is_remembered_by_content_and_model(deployed: World) -> None:
    for name, model in (("a", "emo-v1"), ("b", "my-emo"), ("c", "fast"), ("d", "liveportrait"), ("e", "wan2.2-s2v")):
        deployed.drop(f"{name}.json", {"model": model})
        deployed.drop_pair(name, seconds=1.4)
    deployed.run()
    assert [deployed.status(name) for name in "abcde"] == ["done"] * 5
    assert deployed.requests("check") == 3, "one by each of the three models of checks"


def test_a_name_that_is_not_there_names_those_that_are(deployed: World) -> None:
    deployed.drop("a.json", {"model": "my-emu"})
    deployed.drop_pair("a")
    deployed.run()
    report = deployed.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("rejected", "SettingsInvalid")
    assert '"my-emo" or "fast"' in report["error"]["limit"]


def test_a_deployment_that_was_taken_out(make_world: Callable[..., World], deployed: World) -> None:
    """A job that waits for its turn with it is rejected, and never sent under a name that nobody has."""
    deployed.post({"pause": True})
    deployed.run(1)
    deployed.drop("a.json", {"model": "my-emo"})
    deployed.drop_pair("a")
    deployed.run(20)
    assert deployed.status("a") == "queued"
    deployed.evaluate._models = StackModels()
    deployed.post({"pause": False})
    deployed.run()
    assert (deployed.status("a"), deployed.tasks()) == ("rejected", [])


def test_one_portrait_two_models_one_folder(deployed: World) -> None:
    """Prices and budget count each model's own."""
    deployed.drop("a.json", {"model": "emo-v1"})
    deployed.drop_pair("a", seconds=1.4)
    deployed.drop("b.json", {"model": "wan2.2-s2v"})
    deployed.drop("b.png", portrait())
    deployed.drop_pair("b", seconds=1.4)
    deployed.run()
    account = deployed.table.account()
    assert account.spent == pytest.approx(2 * 0.004 + 1.4 * 0.08 + 1.4 * 0.5)
    charged = deployed.sim.state()["counters"]["paid_cny"]
    assert sum(charged.values()) == pytest.approx(account.spent, abs=0.1)


@pytest.mark.parametrize(
    ("default", "deployments", "words"),
    [("emo-v9", "", "DefaultModel is 'emo-v9'"), ("emo-v1", "my-emo=emo-v9", "ModelDeployments holds 'my-emo=emo-v9'")],
)
def test_a_slip_in_a_parameter_is_told(
    aws: None, monkeypatch: pytest.MonkeyPatch, default: str, deployments: str, words: str
) -> None:
    """At submit's first start, before anything is made."""
    names = (
        "TABLE_NAME RESULTS_BUCKET UPLOADS_QUEUE_URL TOPIC_ARN OPERATOR_TOPIC_ARN EVENT_BUS_NAME UPLOAD_BUCKET "
        "WORK_BUCKET MEDIA_QUEUE_URL ANSWERS_QUEUE_URL STATE_MACHINE_ARN LINK_ROLE_ARN API_KEY_SECRET_ARN "
        "UPLOAD_PREFIX RESULTS_PREFIX"
    )
    for name in names.split():
        monkeypatch.setenv(name, "x")
    for name in [
        "MIN_POLL_SECONDS",
        "MAX_POLL_SECONDS",
        "MAX_TASKS_IN_FLIGHT",
        "DAILY_BUDGET_CNY",
        "APPROVE_ABOVE_CNY",
        "PAIR_SECONDS",
        "SETTLE_SECONDS",
        "RECONCILE_SECONDS",
        "BREAKER_SECONDS",
    ]:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("DASHSCOPE_BASE_URL", "https://s.example/api/v1")
    monkeypatch.setenv("INPUT_TRANSFER", "links")
    monkeypatch.setenv("DEFAULT_MODEL", default)
    monkeypatch.setenv("MODEL_DEPLOYMENTS", deployments)
    with pytest.raises(ParameterError, match=words):
        submit.from_environment(None)  # type: ignore[arg-type]  # it never comes to measuring


def test_a_queued_job_whose_model_changes(make_world: Callable[..., World]) -> None:
    """It comes into the queue of a model that nobody has named before: that queue must be looked into."""
    world = make_world()
    world.post({"pause": True})
    world.drop_pair("a", seconds=1.4)
    world.run(60)
    assert world.status("a") == "queued"
    world.drop("a.json", {"model": "liveportrait"})
    world.run(60)
    world.post({"pause": False})
    world.run()
    assert world.status("a") == "done"
    assert [task["model"] for task in world.tasks()] == ["liveportrait"]
