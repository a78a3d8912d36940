"""Settings: one job's, a folder's, and the service's own request body dropped as a file."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import av
from makers import face, sha256, voice

if TYPE_CHECKING:
    from conftest import Stack

    from simulator import Simulator


def as_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def wait_for_settings(stack: Stack, name: str, count: int = 1) -> None:
    """Wait until a job that lacks its portrait has taken in its settings files."""
    stack.events.wait(
        lambda r: r["name"] == name and r["status"] == "waiting" and len(r["inputs"]["settings"]) == count
    )


def sides(video: bytes) -> tuple[int, int]:
    with av.open(io.BytesIO(video)) as file:
        return file.streams.video[0].width, file.streams.video[0].height


def test_a_job_of_3_to_4_and_active_style_asks_the_check_for_its_ratio_and_the_create_for_its_style(
    stack: Stack, simulator: Simulator, folder: str
) -> None:
    name = f"{folder}line"
    counted = {
        "creates with a ratio": ("create", "ratio"),
        "creates": ("create", folder),
        "checks of 3:4": ("check", '"3:4"'),
        "other checks": ("check", folder),
    }
    rules = {
        what: simulator.fault({"delay": 0}, endpoint=endpoint, times=None, match={"contains": text})
        for what, (endpoint, text) in counted.items()
    }
    stack.drop(f"{name}.json", as_json({"parameters": {"style_level": "active", "ratio": "3:4"}}))
    stack.drop(f"{name}.wav", voice())
    wait_for_settings(stack, name)
    stack.drop(f"{name}.png", face(10, (600, 800)))

    done = stack.wait_report(name, "done")

    hits = {rule["id"]: rule["hits"] for rule in simulator.state()["faults"]}
    assert {what: hits[rule] for what, rule in rules.items()} == {
        "creates with a ratio": 0,
        "creates": 1,
        "checks of 3:4": 1,
        "other checks": 0,
    }
    assert [task["style_level"] for task in stack.tasks(folder)] == ["active"]
    assert sides(stack.result(f"{name}.mp4")) == (512, 704)
    assert (done["video"]["width"], done["video"]["height"]) == (512, 704)
    assert (done["settings"]["style_level"], done["settings"]["ratio"]) == ("active", "3:4")


def test_a_dropped_request_body_is_a_job_by_itself_and_its_links_are_passed_on_as_written(
    stack: Stack, folder: str
) -> None:
    bucket = f"elsewhere-{folder[:-1]}"
    stack.s3.create_bucket(Bucket=bucket)
    links = {}
    for key, content in (("face.png", face(11)), ("hello.wav", voice(1.3))):
        stack.s3.put_object(Bucket=bucket, Key=key, Body=content)
        links[key] = stack.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    body = {
        "model": "emo-v1",
        "input": {"image_url": links["face.png"], "audio_url": links["hello.wav"]},
        "parameters": {"style_level": "calm", "ratio": "1:1"},
    }

    stack.drop(f"{folder}hello.json", as_json(body))
    stack.wait_report(f"{folder}hello", "done")

    (task,) = stack.tasks(bucket)
    assert (task["image_url"], task["audio_url"]) == (links["face.png"], links["hello.wav"])
    assert (task["audio_sha256"], task["style_level"]) == (sha256(voice(1.3)), "calm")
    assert sorted(stack.results(folder)) == [f"{folder}hello.json", f"{folder}hello.mp4"]
    report = stack.report(f"{folder}hello")
    assert report["inputs"]["voice"]["url"] == links["hello.wav"].partition("?")[0]
    assert "Signature" not in json.dumps(report)


def test_boxes_of_ones_own_go_to_the_service_unchecked(stack: Stack, simulator: Simulator, folder: str) -> None:
    name = f"{folder}line"
    checks = simulator.fault({"delay": 0}, endpoint="check", times=None, match={"contains": folder})
    stack.drop(f"{name}.json", as_json({"input": {"face_bbox": [100, 80, 300, 280], "ext_bbox": [0, 0, 450, 470]}}))
    stack.drop(f"{name}.wav", voice())
    wait_for_settings(stack, name)
    stack.drop(f"{name}.png", face(12))

    done = stack.wait_report(name, "done")

    (task,) = stack.tasks(folder)
    assert (list(task["face_bbox"]), list(task["ext_bbox"])) == ([100, 80, 300, 280], [0, 0, 450, 470])
    assert next(rule["hits"] for rule in simulator.state()["faults"] if rule["id"] == checks) == 0
    assert done["cost_cny"]["check"] == 0


def test_a_folders_settings_json_holds_for_its_jobs_and_a_jobs_own_json_goes_before_it(
    stack: Stack, folder: str
) -> None:
    one, two = f"{folder}one", f"{folder}two"
    defaults = {"input": {"image_url": "anna.png"}, "parameters": {"style_level": "calm"}}
    stack.drop(f"{folder}settings.json", as_json(defaults))
    stack.drop(f"{two}.json", as_json({"parameters": {"style_level": "active"}}))
    stack.drop(f"{one}.wav", voice(seed=1))
    stack.drop(f"{two}.wav", voice(seed=2))
    wait_for_settings(stack, one)
    wait_for_settings(stack, two, 2)
    stack.drop(f"{folder}ben.png", face(2))
    stack.drop(f"{folder}anna.png", face(1))

    done = [stack.wait_report(name, "done") for name in (one, two)]

    assert [report["inputs"]["portrait"]["chosen_by"] for report in done] == ["folder_settings"] * 2
    styles = {task["audio_sha256"]: (task["style_level"], task["image_sha256"]) for task in stack.tasks(folder)}
    assert styles == {
        sha256(voice(seed=1)): ("calm", sha256(face(1))),
        sha256(voice(seed=2)): ("active", sha256(face(1))),
    }
