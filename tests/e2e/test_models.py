"""Three models by name: each its video's size, its price in report and budget, and a queue of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from makers import face, voice

from portraitcast.adapters.records import from_attribute

if TYPE_CHECKING:
    from conftest import Stack

    from simulator import Simulator

PICTURE = (480, 640)
SECONDS = 2.0


def spent(stack: Stack) -> float:
    """Return the fees that the stack's account has counted today, CNY."""
    key = {"pk": {"S": "ACCOUNT"}, "sk": {"S": "ACCOUNT"}}
    answer = stack.client("dynamodb").get_item(TableName=stack.outputs["table"], Key=key, ConsistentRead=True)
    return float(from_attribute(answer["Item"]["spent"])) if "Item" in answer else 0.0  # none before the first job


def drop(stack: Stack, name: str, settings: dict[str, Any], seed: int) -> None:
    with stack.paused():  # its JSON comes before it is sent
        stack.drop(f"{name}.json", json.dumps(settings).encode())
        stack.drop_pair(name, face(seed, PICTURE), voice(SECONDS, seed))


@pytest.mark.parametrize(
    ("model", "parameters", "size", "rate"),
    [
        ("emo-v1", {"ratio": "3:4"}, (512, 704), 0.16),
        ("liveportrait", {"template_id": "active"}, PICTURE, 0.02),
        ("wan2.2-s2v", {"resolution": "720P"}, None, 0.9),
    ],
)
def test_each_model_by_its_json(
    stack: Stack, folder: str, model: str, parameters: dict[str, str], size: tuple[int, int] | None, rate: float
) -> None:
    before = spent(stack)
    drop(stack, f"{folder}line", {"model": model, "parameters": parameters}, 70)

    report = stack.wait_report(f"{folder}line", "done")
    video, cost = report["video"], report["cost_cny"]
    (task,) = stack.tasks(folder)

    assert (task["model"], report["settings"]["model"]) == (model, model)
    assert {name: report["settings"][name] for name in parameters} == parameters
    assert [video["width"], video["height"]] == task["video_size"]
    if size:
        assert (video["width"], video["height"]) == size
    assert cost["check"] == 0.004
    assert cost["video"] == pytest.approx(rate * video["seconds"], abs=rate * 0.2)
    assert cost["total"] == pytest.approx(cost["check"] + cost["video"])
    assert spent(stack) - before == pytest.approx(0.004 + rate * SECONDS, abs=1e-6)


def test_a_field_of_another_model_names_that_model(stack: Stack, folder: str) -> None:
    drop(stack, f"{folder}line", {"model": "liveportrait", "parameters": {"style_level": "calm"}}, 71)

    report = stack.wait_report(f"{folder}line", "rejected")

    assert report["error"]["code"] == "SettingsInvalid"
    assert "$.parameters.style_level belongs to emo-v1" in report["message"]
    assert stack.tasks(folder) == []


def test_a_queue_of_emo_holds_up_no_liveportrait(stack: Stack, folder: str, simulator: Simulator) -> None:
    simulator.set(manual=True)
    for n in range(4):
        stack.drop_pair(f"{folder}emo-{n}", face(72), voice(1.0, 72 + n))
    stack.until(lambda: len(stack.tasks(folder)) == 2, "two tasks of EMO are in flight")
    stack.until(
        lambda: sum(bool(stack.events.of(f"{folder}emo-{n}")) for n in range(4)) == 4, "all four are known to the stack"
    )

    drop(stack, f"{folder}news", {"model": "liveportrait"}, 80)

    stack.wait_report(f"{folder}news", "rendering")
    assert sorted(task["model"] for task in stack.tasks(folder)) == ["emo-v1", "emo-v1", "liveportrait"]
    assert sum(stack.report(f"{folder}emo-{n}")["status"] == "queued" for n in range(4)) == 2
