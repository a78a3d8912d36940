"""One client, three models: what each one's check and create carry, and where its verdict is read."""

from __future__ import annotations

from typing import Any

import pytest

from portraitcast.adapters.dashscope import (
    CheckPassed,
    CheckRefused,
    Created,
    JobRefusedError,
    ListedTask,
    ProviderIllError,
)
from portraitcast.domain.models import MODELS, model_named
from unit.dashscope_wire import BASE, BOXES, REQUEST_ID, client, said

EMO, LIVE, WAN = MODELS["emo-v1"], MODELS["liveportrait"], MODELS["wan2.2-s2v"]
CREATED = said(200, {"output": {"task_id": "t-1", "task_status": "PENDING"}, "request_id": REQUEST_ID})
IMAGE, AUDIO = "https://in/a.png?sig=1", "https://in/a.mp3?sig=2"


def create(model: Any, parameters: dict[str, object], image: str = IMAGE, audio: str = AUDIO) -> tuple[Any, Any]:
    service, wire = client(CREATED)
    boxes = BOXES if model.takes_boxes else None
    outcome = service.create(model, image_url=image, audio_url=audio, boxes=boxes, parameters=parameters)
    assert outcome == Created("t-1", REQUEST_ID)
    return wire.bodies[0], wire.sent[0]


# Checks


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (EMO, {"model": "emo-detect-v1", "input": {"image_url": IMAGE}, "parameters": {"ratio": "1:1"}}),
        (LIVE, {"model": "liveportrait-detect", "input": {"image_url": IMAGE}}),
        (WAN, {"model": "wan2.2-s2v-detect", "input": {"image_url": IMAGE}}),
    ],
)
def test_check_bodies(model: Any, body: dict[str, Any]) -> None:
    verdict = {model.verdict: True, "face_bbox": list(BOXES.face), "ext_bbox": list(BOXES.ext)}
    service, wire = client(said(200, {"output": verdict}))
    passed = service.check_portrait(model, IMAGE, {})
    assert passed == CheckPassed(BOXES if model.takes_boxes else None)
    assert wire.bodies == [body]
    assert wire.sent[0].url == BASE + "/services/aigc/image2video/face-detect"
    assert "X-DashScope-Async" not in wire.sent[0].headers
    assert "X-DashScope-OssResourceResolve" not in wire.sent[0].headers


@pytest.mark.parametrize(
    ("model", "output"),
    [
        (LIVE, {"pass": True, "message": "success"}),
        (LIVE, {"pass": "true"}),
        (LIVE, {"check_pass": True}),  # a field of its sisters
        (WAN, {"check_pass": True, "humanoid": True}),
        (WAN, {"pass": True}),
    ],
)
def test_a_model_without_boxes_passes(model: Any, output: dict[str, Any]) -> None:
    service, _ = client(said(200, {"output": output}))
    assert service.check_portrait(model, IMAGE, {}) == CheckPassed(None)


@pytest.mark.parametrize(
    ("model", "output", "message"),
    [
        (LIVE, {"pass": False, "message": "No human face detected."}, "No human face detected."),
        (WAN, {"check_pass": False, "humanoid": False}, ""),
        (WAN, {"check_pass": "False", "message": "blurred"}, "blurred"),
    ],
)
def test_a_model_without_boxes_refuses(model: Any, output: dict[str, Any], message: str) -> None:
    service, _ = client(said(200, {"output": output, "request_id": REQUEST_ID}))
    assert service.check_portrait(model, IMAGE, {}) == CheckRefused("", message, REQUEST_ID)


@pytest.mark.parametrize("output", [{}, {"pass": None}, {"pass": "perhaps"}, {"pass": 1}, {"humanoid": True}, None, []])
@pytest.mark.parametrize("model", [LIVE, WAN])
def test_no_verdict_is_no_pass(model: Any, output: Any) -> None:
    service, _ = client(said(200, {"output": output}))
    with pytest.raises(ProviderIllError):
        service.check_portrait(model, IMAGE, {})


# Creates


def test_an_emo_create() -> None:
    body, _ = create(EMO, {"ratio": "3:4"})
    assert body == {
        "model": "emo-v1",
        "input": {
            "image_url": IMAGE,
            "audio_url": AUDIO,
            "face_bbox": list(BOXES.face),
            "ext_bbox": list(BOXES.ext),
        },
        "parameters": {"style_level": "normal"},
    }


def test_a_liveportrait_create() -> None:
    body, _ = create(LIVE, {"template_id": "active", "video_fps": 30, "paste_back": False})
    assert body == {
        "model": "liveportrait",
        "input": {"image_url": IMAGE, "audio_url": AUDIO},
        "parameters": {
            "template_id": "active",
            "eye_move_freq": 0.5,
            "video_fps": 30,
            "mouth_move_strength": 1,
            "head_move_strength": 0.7,
            "paste_back": False,
        },
    }


def test_a_wan_create() -> None:
    body, request = create(WAN, {"resolution": "720P"})
    assert body == {
        "model": "wan2.2-s2v",
        "input": {"image_url": IMAGE, "audio_url": AUDIO},
        "parameters": {"resolution": "720P"},
    }
    assert request.headers["X-DashScope-Async"] == "enable"


def test_a_deployment_s_create() -> None:
    body, _ = create(model_named("my-emo", {"my-emo": "emo-v1"}), {})
    assert (body["model"], "face_bbox" in body["input"]) == ("my-emo", True)


@pytest.mark.parametrize(
    ("model", "boxes", "parameters", "words"),
    [
        (EMO, None, {}, "needs the boxes"),
        (EMO, BOXES, {"resolution": "720P"}, "emo-v1 has no parameter resolution"),
        (LIVE, None, {"video_fps": 300}, "from 15 to 30"),
        (WAN, None, {"ratio": "1:1"}, "wan2.2-s2v has no parameter ratio"),
    ],
)
def test_what_the_model_lacks_is_never_sent(model: Any, boxes: Any, parameters: dict[str, Any], words: str) -> None:
    service, wire = client()
    with pytest.raises(JobRefusedError, match=words):
        service.create(model, image_url=IMAGE, audio_url=AUDIO, boxes=boxes, parameters=parameters)
    assert wire.sent == []


def test_a_stored_input_has_its_header() -> None:
    for links in (("oss://d/a.png", AUDIO), (IMAGE, "oss://d/a.mp3"), ("oss://d/a.png", "oss://d/a.mp3")):
        _, request = create(EMO, {}, *links)
        assert request.headers["X-DashScope-OssResourceResolve"] == "enable"
    _, request = create(EMO, {})
    assert "X-DashScope-OssResourceResolve" not in request.headers
    service, wire = client(said(200, {"output": {"check_pass": True}}))
    service.check_portrait(WAN, "oss://d/a.png", {})
    assert wire.sent[0].headers["X-DashScope-OssResourceResolve"] == "enable"


# Lists


@pytest.mark.parametrize("name", ["emo-v1", "liveportrait", "wan2.2-s2v", "my-emo"])
def test_a_list_is_a_model_s(name: str) -> None:
    """A service that doesn't know the filter lists others' tasks: they are counted, and not given."""
    rows = [
        {"task_id": f"t-{number}", "gmt_create": 1766720000000, "model_name": model}
        for number, model in enumerate([name, "another", name, None])
    ]
    service, wire = client(said(200, {"data": rows, "total": 4}))
    found = service.list_tasks(model_named(name, {"my-emo": "emo-v1"}))
    assert [task.task_id for task in found] == ["t-0", "t-2", "t-3"]
    assert found[0] == ListedTask("t-0", 1766720000.0, None, None)
    assert f"model_name={name}&" in str(wire.sent[0].url)
