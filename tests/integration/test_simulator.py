"""The simulator keeps to the service's documents for each model, and misbehaves as asked."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import signal
import stat
import subprocess
import sys
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
import requests
from PIL import Image, PngImagePlugin

from servers import serving
from simulator import Simulator
from simulator.account import TROUBLES
from simulator.errors import InputError
from simulator.faults import NONSENSE
from simulator.inputs import Download, read_voice
from simulator.models import MODELS
from simulator.render import mouth_opening

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = Path(__file__).parents[2] / "local"
CHECK = "/services/aigc/image2video/face-detect"
CREATE = "/services/aigc/image2video/video-synthesis"
KEY = "sk-test"
BEIJING = timezone(timedelta(hours=8))
MIB = 1_048_576


class FileServer:
    """Serves bytes by path, and remembers who was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self.asked: list[str] = []
        self.hosts: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.partition("?")[0].lstrip("/")
                owner.asked.append(name)
                owner.hosts.append(self.headers["Host"])
                content, content_type = owner.files.get(name, (b"", ""))
                self.send_response(200 if name in owner.files else 404)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    return  # the simulator leaves once a file is too big

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, name: str, content: bytes, content_type: str = "application/octet-stream") -> str:
        self.files[name] = (content, content_type)
        return f"{self.origin}/{name}?X-Amz-Signature=abc"


def wav(*parts: tuple[float, float], rate: int = 16_000) -> bytes:
    """Make a WAV of (seconds, loudness) after one another."""
    tone = np.concatenate([np.sin(np.arange(round(s * rate)) * 0.08) * loud * 32_000 for s, loud in parts])
    out = io.BytesIO()
    with wave.open(out, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(tone.astype("<i2").tobytes())
    return out.getvalue()


def picture(
    size: tuple[int, int] = (480, 480), kind: str = "PNG", *, note: str | None = None, uniform: bool = False
) -> bytes:
    image = Image.new("RGB", size, (200, 160, 140))
    if not uniform:
        image.paste((60, 70, 90), (0, 0, 40, 40))
    out = io.BytesIO()
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        if note:
            text.add_text("portraitcast-sim", note)
        image.save(out, kind, pnginfo=text)
    elif kind == "JPEG":
        image.save(out, kind, comment=f"portraitcast-sim: {note}" if note else "a photo")
    else:
        image.save(out, kind)
    return out.getvalue()


class Client:
    """Calls the simulator as its documents say."""

    def __init__(self, sim: Simulator, files: FileServer) -> None:
        self.sim = sim
        self.headers = {"Authorization": f"Bearer {KEY}"}
        self.image_url = files.add("portrait.png", picture(), "image/png")
        self.audio_url = files.add("voice.wav", wav((0.4, 0.5)), "audio/wav")

    def check_of(self, model: str, url: str | None = None, **parameters: Any) -> requests.Response:
        body = {"model": model, "input": {"image_url": url or self.image_url}, "parameters": parameters}
        return self.post(CHECK, body if parameters else {name: body[name] for name in ("model", "input")})

    def create_of(self, model: str, parameters: dict[str, Any] | None = None, **given: Any) -> requests.Response:
        links = {"image_url": self.image_url, "audio_url": self.audio_url}
        body = {"model": model, "input": links | given, "parameters": parameters or {}}
        return self.post(CREATE, body, **{"X-DashScope-Async": "enable"})

    def task_of(self, model: str, parameters: dict[str, Any] | None = None, **given: Any) -> str:
        answer = self.create_of(model, parameters, **given)
        assert answer.status_code == 200, answer.text
        return answer.json()["output"]["task_id"]

    def policy(self, model: str = "emo-v1") -> dict[str, Any]:
        answer = self.get("/uploads", action="getPolicy", model=model)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def post_form(
        self, policy: dict[str, Any], content: bytes, name: str = "a.png", *, order: Any = None, **changed: Any
    ) -> requests.Response:
        fields = {
            "OSSAccessKeyId": policy["oss_access_key_id"],
            "Signature": policy["signature"],
            "policy": policy["policy"],
            "x-oss-object-acl": policy["x_oss_object_acl"],
            "x-oss-forbid-overwrite": policy["x_oss_forbid_overwrite"],
            "key": f"{policy['upload_dir']}/{name}",
            "success_action_status": "200",
            "file": content,
        } | {field.replace("_", "-"): value for field, value in changed.items()}
        names = [field for field in (order or fields) if fields[field] is not None]
        form = [(field, (None, fields[field])) for field in names]
        return requests.post(policy["upload_host"], files=form, timeout=10)

    def stored(self, content: bytes, name: str, model: str = "emo-v1") -> str:
        policy = self.policy(model)
        answer = self.post_form(policy, content, name)
        assert answer.status_code == 200, answer.text
        return f"oss://{policy['upload_dir']}/{name}"

    def post(self, path: str, body: Any = None, **headers: str) -> requests.Response:
        return requests.post(self.sim.base_url + path, json=body, headers=self.headers | headers, timeout=10)

    def get(self, path: str, **query: Any) -> requests.Response:
        return requests.get(self.sim.base_url + path, params=query, headers=self.headers, timeout=10)

    def check_body(self, url: str | None = None, ratio: str = "1:1") -> dict[str, Any]:
        return {
            "model": "emo-detect-v1",
            "input": {"image_url": url or self.image_url},
            "parameters": {"ratio": ratio},
        }

    def check(self, url: str | None = None, ratio: str = "1:1") -> requests.Response:
        return self.post(CHECK, self.check_body(url, ratio))

    def create_body(self, **given: Any) -> dict[str, Any]:
        boxes = {"face_bbox": [140, 100, 340, 300], "ext_bbox": [0, 0, 480, 480]}
        links = {"image_url": self.image_url, "audio_url": self.audio_url}
        return {"model": "emo-v1", "input": links | boxes | given, "parameters": {"style_level": "normal"}}

    def create(self, **given: Any) -> requests.Response:
        return self.post(CREATE, self.create_body(**given), **{"X-DashScope-Async": "enable"})

    def task(self, **given: Any) -> str:
        answer = self.create(**given)
        assert answer.status_code == 200, answer.text
        return answer.json()["output"]["task_id"]

    def query(self, task_id: str) -> dict[str, Any]:
        answer = self.get(f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ended(self, task_id: str) -> dict[str, Any]:
        """Wait for a task's end, and query it."""
        self.sim.wait_for(lambda state: status(state, task_id) not in {"PENDING", "RUNNING"}, 20)
        return self.query(task_id)

    def video(self, task_id: str) -> requests.Response:
        url = self.ended(task_id)["output"]["results"]["video_url"]
        return requests.get(url, timeout=10)


def status(state: dict[str, Any], task_id: str) -> str:
    return next(task["status"] for task in state["tasks"] if task["id"] == task_id)


def beijing(when: datetime) -> str:
    return when.astimezone(BEIJING).strftime("%Y%m%d%H%M%S")


@pytest.fixture(scope="module")
def served() -> Iterator[FileServer]:
    server = FileServer()
    with serving(server.server):
        yield server


@pytest.fixture
def files(served: FileServer) -> FileServer:
    served.files.clear()
    served.asked.clear()
    return served


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator(api_key=KEY, task_seconds=0, check_rate=None, create_rate=None, query_rate=None) as sim:
        yield sim


@pytest.fixture
def sim(running: Simulator) -> Iterator[Simulator]:
    yield running
    running.reset()


@pytest.fixture
def client(sim: Simulator, files: FileServer) -> Client:
    return Client(sim, files)


# Portrait check


@pytest.mark.parametrize(("ratio", "shape"), [("1:1", 1), ("3:4", 3 / 4)])
@pytest.mark.parametrize("size", [(480, 480), (700, 500), (400, 900)])
def test_a_check_gives_the_boxes(
    client: Client, files: FileServer, ratio: str, shape: float, size: tuple[int, int]
) -> None:
    """A check gives a cutout of the asked shape around the face."""
    answer = client.check(files.add("p.png", picture(size)), ratio)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json()["usage"] == {"image_count": 1}
    assert answer.json()["request_id"]
    output = answer.json()["output"]
    assert output["check_pass"] is True
    ext, face = output["ext_bbox"], output["face_bbox"]
    assert (ext[2] - ext[0]) / (ext[3] - ext[1]) == pytest.approx(shape, abs=0.01)
    assert 0 <= ext[0] < face[0] < face[2] < ext[2] <= size[0]
    assert 0 <= ext[1] < face[1] < face[3] < ext[3] <= size[1]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_every_type_of_picture(client: Client, files: FileServer, kind: str) -> None:
    """A check takes every type of picture that the service names."""
    url = files.add(f"p.{kind.lower()}", picture(kind=kind))
    assert client.check(url).json()["output"]["check_pass"] is True


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (picture(note="NoHuman"), "InvalidFile.NoHuman"),
        (picture(note="InvalidFile.FullFace"), "InvalidFile.FullFace"),
        (picture(kind="JPEG", note="MultiHuman"), "InvalidFile.MultiHuman"),
        (picture(uniform=True), "InvalidFile.NoHuman"),
        (picture((399, 800)), "InvalidFile.Resolution"),
        (picture((400, 7001)), "InvalidFile.Resolution"),
        (picture()[:-60], "InvalidFile.Value"),
    ],
)
def test_a_refused_portrait_is_http_200(client: Client, files: FileServer, content: bytes, code: str) -> None:
    """A refused portrait is http 200 with a code and no boxes."""
    answer = client.check(files.add("p.png", content))
    assert answer.status_code == 200
    output = answer.json()["output"]
    assert output["check_pass"] is False
    assert output["code"] == code
    assert output["message"]
    assert "face_bbox" not in output
    assert "ext_bbox" not in output


@pytest.mark.parametrize("size", [(400, 400), (400, 7000)])
def test_sides_equal_to_the_limits_pass(client: Client, files: FileServer, size: tuple[int, int]) -> None:
    assert client.check(files.add("p.png", picture(size))).json()["output"]["check_pass"] is True


def test_a_refused_portrait_can_be_told_as_http_400_too(client: Client, files: FileServer) -> None:
    client.sim.set(refused_check_status=400)
    answer = client.check(files.add("p.png", picture(note="FacePose")))
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidFile.FacePose")


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("p.png", b"no picture at all", "InvalidURL"),
        ("p.gif", picture(), "InvalidURL"),
        ("p.png", picture(kind="GIF"), "InvalidURL"),
        ("missing.png", None, "InvalidParameter.DataInspection"),
        ("a%2Fb.png", picture(), "InvalidParameter.DataInspection"),
    ],
)
def test_a_picture_that_cant_be_had_or_used_is_http_400(
    client: Client, files: FileServer, name: str, content: bytes | None, code: str
) -> None:
    url = files.add(name, content) if content else f"{files.origin}/{name}"
    answer = client.check(url)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_a_refused_connection_has_a_code_of_its_own(client: Client) -> None:
    closed = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    closed.server_close()
    answer = client.check(f"http://127.0.0.1:{closed.server_port}/p.png")
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidURL.ConnectionRefused")


def test_a_check_with_the_async_header_is_refused(client: Client) -> None:
    answer = client.post(CHECK, client.check_body(), **{"X-DashScope-Async": "enable"})
    assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied")


@pytest.mark.parametrize("ratio", [None, "16:9"])
def test_a_check_needs_its_ratio(client: Client, ratio: str | None) -> None:
    body = client.check_body()
    body["parameters"] = {"ratio": ratio} if ratio else {}
    answer = client.post(CHECK, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")
    assert "ratio" in answer.json()["message"]


# What every call has in common


@pytest.mark.parametrize("authorization", [None, "Bearer sk-other", KEY, f"bearer {KEY}", "Basic abc"])
@pytest.mark.parametrize("path", [CHECK, CREATE, "/tasks/x", "/tasks/", "/tasks/x/cancel"])
def test_every_call_needs_the_key(client: Client, authorization: str | None, path: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    method = "POST" if path in {CHECK, CREATE} or path.endswith("cancel") else "GET"
    answer = requests.request(method, client.sim.base_url + path, headers=headers, json={}, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (401, "InvalidApiKey")
    assert answer.json()["request_id"]


def test_a_second_key_of_the_account(client: Client) -> None:
    """A second key of the account sees the same tasks under its own number."""
    client.sim.set(more_api_keys=["sk-second"])
    first = client.task()
    client.headers = {"Authorization": "Bearer sk-second"}
    second = client.task()
    rows = {row["task_id"]: row["api_key_id"] for row in client.get("/tasks/").json()["data"]}
    assert set(rows) == {first, second}
    assert rows[first] != rows[second]


@pytest.mark.parametrize("path", [CHECK, CREATE])
@pytest.mark.parametrize(
    ("content", "content_type", "said"),
    [
        (b"{}", "text/plain", "Content-Type"),
        (b"{", "application/json", "not valid JSON"),
        (b"[]", "application/json", "JSON object"),
        (b'{"model": "emo-v1"}', "application/json", "input and parameters"),
    ],
)
def test_a_body_that_is_no_json_order_is_refused(
    client: Client, path: str, content: bytes, content_type: str, said: str
) -> None:
    headers = client.headers | {"Content-Type": content_type}
    if path == CREATE:
        headers["X-DashScope-Async"] = "enable"
    answer = requests.post(client.sim.base_url + path, data=content, headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")
    assert said in answer.json()["message"]


@pytest.mark.parametrize("path", ["/nothing", "/tasks/x/stop", CHECK])
def test_an_unknown_call_is_404(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("endpoint", "rate"), [("check", 5), ("create", 5), ("query", 20), ("list", 20), ("cancel", 20)]
)
def test_too_many_requests_are_throttled(files: FileServer, endpoint: str, rate: int) -> None:
    """More requests a second than allowed are throttled and counted."""
    with Simulator(api_key=KEY, manual=True) as sim:
        client = Client(sim, files)
        call = {
            "check": lambda: client.check("oss://refused-but-counted"),
            "create": client.create,
            "query": lambda: client.get("/tasks/none"),
            "list": lambda: client.get("/tasks/"),
            "cancel": lambda: client.post("/tasks/none/cancel"),
        }[endpoint]
        with ThreadPoolExecutor(rate + 2) as pool:
            answers = list(pool.map(lambda _: call(), range(rate + 2)))
        throttled = [answer for answer in answers if answer.status_code == 429]
        assert len(throttled) == 2
        assert {answer.json()["code"] for answer in throttled} == {"Throttling.RateQuota"}
        counters = sim.state()["counters"]
        assert counters["requests"] == {endpoint: rate + 2}
        assert counters["throttled"] == {endpoint: 2}
        assert counters["creates_accepted"] == (rate if endpoint == "create" else 0)


@pytest.mark.parametrize("state", TROUBLES)
def test_a_troubled_account(client: Client, state: str) -> None:
    """A troubled account answers every call with its documented error."""
    expected = TROUBLES[state]
    client.sim.trouble(state)
    for answer in (client.check(), client.create(), client.get("/tasks/x"), client.get("/tasks/")):
        assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == expected
    client.sim.trouble("ok")
    assert client.create().status_code == 200


# Create


def test_a_task_is_pending_at_first(client: Client) -> None:
    answer = client.create().json()
    assert answer["output"]["task_status"] == "PENDING"
    assert answer["output"]["task_id"]
    assert answer["request_id"]


@pytest.mark.parametrize("header", [None, "disable"])
def test_a_create_without_the_async_header_is_refused(client: Client, header: str | None) -> None:
    answer = client.post(CREATE, client.create_body(), **({"X-DashScope-Async": header} if header else {}))
    assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied")
    assert answer.json()["message"] == "current user api does not support synchronous calls."


@pytest.mark.parametrize(
    ("where", "change", "expected"),
    [
        ("input", {"ext_bbox": None}, (400, "InvalidParameter", "Invalid bbox input")),
        ("input", {"face_bbox": [1, 2, 3]}, (400, "InvalidParameter", "Invalid bbox input")),
        ("input", {"face_bbox": [10, 10, 10, 20]}, (400, "InvalidParameter", "Invalid bbox input")),
        ("input", {"face_bbox": [1.5, 2, 30, 40]}, (400, "InvalidParameter", "Invalid bbox input")),
        ("input", {"face_bbox": [-1, 2, 30, 40]}, (400, "InvalidParameter", "Invalid bbox input")),
        ("input", {"audio_url": None}, (400, "InvalidParameter", "Field required: input.audio_url")),
        ("input", {"image_url": "oss://a/b.png"}, (400, "InvalidURL", "The image_url is invalid")),
        ("input", {"audio_url": "ftp://a/b.mp3"}, (400, "InvalidURL", "The audio_url is invalid")),
        ("input", {"audio_url": "http://a:port/b.mp3"}, (400, "InvalidURL", "The audio_url is invalid")),
        ("input", {"seed": 1}, (400, "InvalidParameter", "Unknown fields: input.seed.")),
        ("parameters", {"style_level": "wild"}, (400, "InvalidParameter", "The style_level is invalid.")),
        ("parameters", {"ratio": "1:1"}, (400, "InvalidParameter", "Unknown fields: parameters.ratio.")),
        ("", {"model": "emo-v1-detect"}, (404, "ModelNotFound", "Model not exist.")),
        ("", {"style_level": "calm"}, (400, "InvalidParameter", "Unknown fields: style_level.")),
    ],
)
def test_a_wrong_create_is_refused_and_makes_no_task(
    client: Client, where: str, change: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    body = client.create_body()
    part = body[where] if where else body
    for name, value in change.items():
        if value is None:
            del part[name]
        else:
            part[name] = value
    answer = client.post(CREATE, body, **{"X-DashScope-Async": "enable"})
    assert (answer.status_code, answer.json()["code"]) == expected[:2]
    assert answer.json()["message"].startswith(expected[2])
    assert client.sim.state()["tasks"] == []


def test_parameters_may_be_left_out_and_mean_normal(client: Client) -> None:
    body = client.create_body()
    del body["parameters"]
    assert client.post(CREATE, body, **{"X-DashScope-Async": "enable"}).status_code == 200
    assert client.sim.state()["tasks"][0]["style_level"] == "normal"


# Tasks


def test_tasks_run_one_at_a_time_in_order(client: Client) -> None:
    """Tasks run one at a time in the order of their creates."""
    client.sim.set(manual=True)
    ids = [client.task() for _ in range(3)]
    for turn, task_id in enumerate(ids):
        state = client.sim.wait_for(lambda state, now=task_id: status(state, now) == "RUNNING")
        assert [task["status"] for task in state["tasks"]] == [
            *["SUCCEEDED"] * turn,
            "RUNNING",
            *["PENDING"] * (2 - turn),
        ]
        assert client.query(task_id)["output"]["task_status"] == "RUNNING"
        client.sim.finish(task_id)
        assert client.ended(task_id)["output"]["task_status"] == "SUCCEEDED"
    counters = client.sim.state()["counters"]
    assert (counters["creates_accepted"], counters["max_open"], counters["max_running"]) == (3, 3, 1)


def test_inputs_are_fetched_late(client: Client, files: FileServer) -> None:
    """Inputs are fetched when the task runs and not before."""
    client.sim.set(manual=True)
    first = client.task()
    client.sim.wait_for(lambda state: state["tasks"][0]["audio_sha256"] is not None)
    later = files.add("later.wav", wav((0.3, 0.5)))
    second = client.task(audio_url=later)
    assert "later.wav" not in files.asked
    del files.files["later.wav"]
    client.sim.finish(first)
    output = client.ended(second)["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InvalidParameter.DataInspection")
    assert output["message"].startswith("Unable to download")
    assert "later.wav" in files.asked


def test_the_state_tells_which_bytes_were_fetched(client: Client, files: FileServer) -> None:
    client.ended(client.task())
    (task,) = client.sim.state()["tasks"]
    assert task["image_sha256"] == hashlib.sha256(files.files["portrait.png"][0]).hexdigest()
    assert task["audio_sha256"] == hashlib.sha256(files.files["voice.wav"][0]).hexdigest()


UNSUPPORTED = "File type is not supported"


@pytest.mark.parametrize(
    ("name", "content", "content_type", "said"),
    [
        ("v.wav", wav((60.1, 0.5), rate=8000), "audio/wav", "The input audio is longer than 60s."),
        ("v.wav", bytes(15 * MIB + 1), "audio/wav", "File size is larger than 15MB."),
        ("v.mp3", wav((0.3, 0.5)), "audio/mpeg", UNSUPPORTED),
        ("v.m4a", wav((0.3, 0.5)), "audio/wav", UNSUPPORTED),
        ("v", wav((0.3, 0.5)), "application/octet-stream", UNSUPPORTED),
        ("v.wav", b"no sound at all", "audio/wav", UNSUPPORTED),
        ("v.wav", wav((0, 0)), "audio/wav", UNSUPPORTED),
    ],
)
def test_a_voice_beyond_the_limits(
    client: Client, files: FileServer, *, name: str, content: bytes, content_type: str, said: str
) -> None:
    """A voice beyond the limits fails the task as the service words it."""
    answer = client.ended(client.task(audio_url=files.add(name, content, content_type)))
    output = answer["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InvalidURL")
    assert output["message"].startswith(said)
    assert "results" not in output
    assert "usage" not in answer


def test_a_voice_of_exactly_60_seconds_is_taken() -> None:
    samples = read_voice(Download(wav((60, 0.1), rate=44_100), "audio/wav", ".wav"))
    assert len(samples) == 60 * 44_100
    with pytest.raises(InputError, match="longer than 60s"):
        read_voice(Download(wav((60.001, 0.1), rate=44_100), "audio/wav", ".wav"))


def test_a_link_without_suffix(client: Client, files: FileServer) -> None:
    """A link without suffix is judged by its content type."""
    url = files.add("voice", wav((0.3, 0.5)), "audio/x-wav")
    assert client.ended(client.task(audio_url=url))["output"]["task_status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("given", "code"),
    [({"ext_bbox": [0, 0, 481, 480]}, "InvalidParameter"), ({"face_bbox": [0, 0, 20, 481]}, "InvalidParameter")],
)
def test_boxes_outside_the_picture_fail_the_task(client: Client, given: dict[str, Any], code: str) -> None:
    output = client.ended(client.task(**given))["output"]
    assert (output["task_status"], output["code"], output["message"]) == ("FAILED", code, "Invalid bbox input")


def test_a_task_lasts_as_long_as_its_voice_asks(client: Client, files: FileServer) -> None:
    client.sim.set(task_seconds=None, seconds_per_second=0.5)
    task_id = client.task(audio_url=files.add("v.wav", wav((2, 0.5))))
    client.ended(task_id)
    (task,) = client.sim.state()["tasks"]
    assert 1.0 <= task["ended_at"] - task["started_at"] < 3.0


def test_times_are_told_in_beijing_time_without_a_zone(client: Client) -> None:
    before = datetime.now(BEIJING)
    output = client.ended(client.task())["output"]
    after = datetime.now(BEIJING)
    times = [
        datetime.strptime(output[name] + " +0800", "%Y-%m-%d %H:%M:%S.%f %z")
        for name in ("submit_time", "scheduled_time", "end_time")
    ]
    assert before - timedelta(milliseconds=1) <= times[0] <= times[1] <= times[2] <= after


def test_a_task_fails_after_3_hours(client: Client) -> None:
    """A task without a result after 3 hours fails and makes room."""
    client.sim.set(manual=True)
    first = client.task()
    client.sim.wait_for(lambda state: status(state, first) == "RUNNING")
    client.sim.set(clock_offset_seconds=3 * 3600 - 60)
    second = client.task()
    assert client.query(first)["output"]["task_status"] == "RUNNING"
    client.sim.set(clock_offset_seconds=3 * 3600 + 1)
    output = client.query(first)["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InternalError.Timeout")
    client.sim.wait_for(lambda state: status(state, second) == "RUNNING")


def test_an_unknown_id(client: Client) -> None:
    """An id is unknown after 24 hours or if it never was."""
    task_id = client.task()
    client.ended(task_id)
    client.sim.set(clock_offset_seconds=86_400 - 60)
    assert client.query(task_id)["output"]["task_status"] == "SUCCEEDED"
    client.sim.set(clock_offset_seconds=86_400 + 1)
    for unknown in (task_id, "no-such-task"):
        assert client.query(unknown)["output"] == {"task_id": unknown, "task_status": "UNKNOWN"}


def test_only_a_pending_task_can_be_cancelled(client: Client) -> None:
    client.sim.set(manual=True)
    first, second = client.task(), client.task()
    client.sim.wait_for(lambda state: status(state, first) == "RUNNING")
    answer = client.post(f"/tasks/{second}/cancel")
    assert answer.status_code == 200
    assert set(answer.json()) == {"request_id"}
    assert client.query(second)["output"]["task_status"] == "CANCELED"
    for task_id in (first, second, "no-such-task"):
        answer = client.post(f"/tasks/{task_id}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (400, "UnsupportedOperation")


# Videos


@pytest.mark.parametrize(
    ("ext_bbox", "ratio", "size"), [([0, 0, 480, 480], "1:1", (512, 512)), ([60, 0, 420, 480], "3:4", (512, 704))]
)
def test_the_video_s_format_and_length(
    client: Client, files: FileServer, ext_bbox: list[int], ratio: str, size: tuple[int, int]
) -> None:
    """The video has the services format and the voices length."""
    audio_url = files.add("v.wav", wav((1.23, 0.5)))
    task_id = client.task(audio_url=audio_url, ext_bbox=ext_bbox)
    answer = client.ended(task_id)
    assert answer["usage"] == {"video_duration": 1.23, "video_ratio": ratio}
    video = client.video(task_id)
    assert video.headers["Content-Type"] == "video/mp4"
    assert video.content.find(b"moov") < video.content.find(b"mdat")
    with av.open(io.BytesIO(video.content)) as container:
        (picture_stream,) = container.streams.video
        (sound_stream,) = container.streams.audio
        assert picture_stream.codec_context.name == "h264"
        assert picture_stream.codec_context.pix_fmt == "yuv420p"
        assert picture_stream.average_rate == 15
        assert (picture_stream.width, picture_stream.height) == size
        assert float(picture_stream.duration * picture_stream.time_base) == pytest.approx(1.23, abs=1 / 15)
        assert sound_stream.codec_context.name == "aac"
        assert float(sound_stream.duration * sound_stream.time_base) == pytest.approx(1.23, abs=1 / 15)


def test_the_mouth_moves_with_the_voice(client: Client, files: FileServer) -> None:
    """The mouth moves when the voice is loud and rests when it is silent."""
    audio_url = files.add("v.wav", wav((1, 0), (1, 0.8)))
    video = client.video(client.task(audio_url=audio_url))
    with av.open(io.BytesIO(video.content)) as container:
        frames = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
        container.seek(0)
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    # The face is 140…340 by 100…300 of 480 pixels, so its mouth lies around (256, 271) of 512.
    darkest = [frame[262:292, 236:276].min() for frame in frames]
    assert min(darkest[2:13]) > 120  # plain skin
    assert max(darkest[18:28]) < 80  # the inside of an open mouth
    assert np.abs(frames[0] - frames[10]).max() > 20  # the head sways even so
    rate = len(sound) / 2
    assert np.abs(sound[: int(rate * 0.9)]).max() < 0.02
    assert np.abs(sound[int(rate * 1.1) :]).max() > 0.5


def test_the_mouth_follows_the_loudness() -> None:
    """The mouth stays shut in silence and follows the loudness."""
    quiet, loud = np.zeros(44_100, np.float32), np.full(44_100, 0.5, np.float32)
    opening = mouth_opening(np.concatenate([quiet, loud, quiet]))
    assert len(opening) == 45
    assert max(opening[:15]) == 0
    assert min(opening[15:30]) == 1
    assert opening[-1] < 0.01


def test_the_sample_pair_makes_a_video(client: Client, files: FileServer) -> None:
    image_url = files.add("s.png", (LOCAL / "samples/portrait.png").read_bytes())
    voice = (LOCAL / "samples/voice.mp3").read_bytes()
    output = client.check(image_url).json()["output"]
    task_id = client.task(
        image_url=image_url,
        audio_url=files.add("s.mp3", voice),
        face_bbox=output["face_bbox"],
        ext_bbox=output["ext_bbox"],
    )
    seconds = client.ended(task_id)["usage"]["video_duration"]
    with av.open(io.BytesIO(voice), "r") as container:
        assert seconds == pytest.approx(container.duration / av.time_base, abs=1 / 15)


def test_a_link_dies_and_a_new_query_gives_a_new_one(client: Client) -> None:
    client.sim.set(link_seconds=100)
    task_id = client.task()
    old = client.ended(task_id)["output"]["results"]["video_url"]
    assert requests.get(old, timeout=10).status_code == 200
    client.sim.set(clock_offset_seconds=102)
    dead = requests.get(old, timeout=10)
    assert dead.status_code == 403
    assert dead.headers["Content-Type"] == "application/xml"
    assert "<Code>AccessDenied</Code>" in dead.text
    assert requests.get(client.query(task_id)["output"]["results"]["video_url"], timeout=10).status_code == 200


def test_a_link_lives_24_hours_unless_told_otherwise(client: Client) -> None:
    url = client.ended(client.task())["output"]["results"]["video_url"]
    client.sim.set(clock_offset_seconds=86_400 - 60)
    assert requests.get(url, timeout=10).status_code == 200
    client.sim.set(clock_offset_seconds=86_400 + 60)
    assert requests.get(url, timeout=10).status_code == 403


def test_a_forged_link_is_refused(client: Client) -> None:
    """A link with a wrong signature or another end is refused."""
    url = client.ended(client.task())["output"]["results"]["video_url"]
    for wrong in (url.replace("Expires=", "Expires=9"), url[:-8], url.partition("?")[0]):
        answer = requests.get(wrong, timeout=10)
        assert answer.status_code == 403
        assert "<Code>SignatureDoesNotMatch</Code>" in answer.text


# List


def test_a_list_s_rows(client: Client) -> None:
    """A list shows rows without inputs and without links."""
    created = client.create().json()
    task_id = created["output"]["task_id"]
    client.ended(task_id)
    answer = client.get("/tasks/").json()
    assert {name: answer[name] for name in ("total", "total_page", "page_no", "page_size")} == {
        "total": 1,
        "total_page": 1,
        "page_no": 1,
        "page_size": 10,
    }
    (row,) = answer["data"]
    assert (row["task_id"], row["status"], row["model_name"]) == (task_id, "SUCCEEDED", "emo-v1")
    assert row["request_id"] == created["request_id"]
    assert row["api_key_id"]
    (task,) = client.sim.state()["tasks"]
    assert row["gmt_create"] == pytest.approx(task["submitted_at"] * 1000, abs=1)
    assert row["start_time"] <= row["end_time"]
    assert "http" not in json.dumps(answer)


def test_a_list_goes_in_pages(client: Client) -> None:
    client.sim.set(manual=True)
    ids = [client.task() for _ in range(5)]
    pages = [client.get("/tasks/", page_no=number, page_size=2).json() for number in (1, 2, 3, 4)]
    assert [len(page["data"]) for page in pages] == [2, 2, 1, 0]
    assert {(page["total"], page["total_page"]) for page in pages} == {(5, 3)}
    assert sorted(row["task_id"] for page in pages for row in page["data"]) == sorted(ids)


def test_a_list_can_be_narrowed_by_status_and_model(client: Client) -> None:
    client.sim.set(manual=True)
    first, second = client.task(), client.task()
    client.sim.wait_for(lambda state: status(state, first) == "RUNNING")
    assert [row["task_id"] for row in client.get("/tasks", status="PENDING").json()["data"]] == [second]
    assert client.get("/tasks/", model_name="emo-v1").json()["total"] == 2
    assert client.get("/tasks/", model_name="liveportrait").json()["total"] == 0


def test_a_list_without_times(client: Client) -> None:
    """A list without times is that of the last 24 hours."""
    client.task()
    client.sim.set(clock_offset_seconds=86_400 - 60)
    assert client.get("/tasks/").json()["total"] == 1
    client.sim.set(clock_offset_seconds=86_400 + 1)
    assert client.get("/tasks/").json()["total"] == 0


def test_a_lists_window_is_beijing_time(client: Client) -> None:
    client.task()
    now = datetime.now(BEIJING)
    minute, hour = timedelta(minutes=1), timedelta(hours=1)

    def total(first: datetime, last: datetime) -> int:
        return client.get("/tasks/", start_time=beijing(first), end_time=beijing(last)).json()["total"]

    assert total(now - minute, now + minute) == 1
    assert total(now - hour, now - minute) == 0
    assert total(now + minute, now + hour) == 0
    utc = [when.astimezone(UTC).strftime("%Y%m%d%H%M%S") for when in (now - minute, now + minute)]
    assert client.get("/tasks/", start_time=utc[0], end_time=utc[1]).json()["total"] == 0


@pytest.mark.parametrize(
    "query",
    [
        {"start_time": "20260101000000", "end_time": "20260102000001"},
        {"start_time": "20260102000000", "end_time": "20260101000000"},
        {"start_time": "2026-01-01"},
        {"end_time": "20261301000000"},
        {"page_no": 0},
        {"page_size": 101},
        {"page_size": "ten"},
        {"model": "emo-v1"},
    ],
)
def test_a_wrong_list_query_is_refused(client: Client, query: dict[str, Any]) -> None:
    answer = client.get("/tasks/", **query)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")


def test_fresh_tasks_can_be_late_in_lists(client: Client) -> None:
    client.sim.set(list_lag_seconds=60)
    task_id = client.task()
    assert client.get("/tasks/").json()["total"] == 0
    client.sim.set(clock_offset_seconds=61)
    assert [row["task_id"] for row in client.get("/tasks/").json()["data"]] == [task_id]


# Faults


@pytest.mark.parametrize("effect", [True, False])
def test_a_create_s_error_with_effect(client: Client, *, effect: bool) -> None:
    """A create answered with an error makes a task only if told so."""
    client.sim.fault(
        {"status": 502, "body": "<h1>Bad gateway</h1>", "headers": {"Retry-After": "7"}, "effect": effect},
        endpoint="create",
    )
    answer = client.create()
    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (502, "<h1>Bad gateway</h1>", "7")
    assert len(client.sim.state()["tasks"]) == effect
    assert client.create().status_code == 200  # it struck once


@pytest.mark.parametrize(("moment", "tasks"), [("before", 0), ("after", 1)])
def test_a_create_is_cut(client: Client, moment: str, tasks: int) -> None:
    """A connection is cut before or after the create took effect."""
    client.sim.fault({"close": moment}, endpoint="create")
    with pytest.raises(requests.ConnectionError):
        client.create()
    assert len(client.sim.state()["tasks"]) == tasks


@pytest.mark.parametrize("effect", [True, False])
def test_a_hanging_create_gives_no_answer(client: Client, *, effect: bool) -> None:
    client.sim.fault({"hang": True, "effect": effect}, endpoint="create")
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            client.sim.base_url + CREATE,
            json=client.create_body(),
            headers=client.headers | {"X-DashScope-Async": "enable"},
            timeout=0.3,
        )
    assert len(client.sim.state()["tasks"]) == effect


def test_a_delayed_answer_is_late_but_right(client: Client) -> None:
    client.sim.fault({"delay": 0.3}, endpoint="query")
    answer = client.get("/tasks/x")
    assert answer.elapsed.total_seconds() >= 0.3
    assert answer.json()["output"]["task_status"] == "UNKNOWN"


def test_a_task_can_be_made_to_fail(client: Client) -> None:
    client.sim.fault({"task_fails": {"code": "InternalError.Algo", "message": "no luck"}})
    client.sim.fault({"task_fails": {}})
    first = client.ended(client.task())["output"]
    assert (first["task_status"], first["code"], first["message"]) == ("FAILED", "InternalError.Algo", "no luck")
    second = client.ended(client.task())["output"]
    assert second["task_status"] == "FAILED"
    assert "code" not in second
    assert client.ended(client.task())["output"]["task_status"] == "SUCCEEDED"


def test_a_query_can_tell_another_status(client: Client) -> None:
    task_id = client.task()
    client.sim.fault({"task_status": "SUSPENDED"}, times=2)
    assert [client.query(task_id)["output"]["task_status"] for _ in range(2)] == ["SUSPENDED"] * 2
    assert client.ended(task_id)["output"]["task_status"] == "SUCCEEDED"


def test_a_success_can_come_without_a_link(client: Client) -> None:
    client.sim.set(manual=True)
    client.sim.fault({"no_link": True})
    task_id = client.task()
    client.query(task_id)  # not a success yet, so the fault waits
    client.sim.finish()
    output = client.ended(task_id)["output"]
    assert output["task_status"] == "SUCCEEDED"
    assert "results" not in output
    assert "results" in client.query(task_id)["output"]


def test_what_a_fault_is_for(client: Client, files: FileServer) -> None:
    """A fault can be for one task one text or one call."""
    other = files.add("other.wav", wav((0.3, 0.5)))
    client.sim.fault({"task_fails": {"code": "A"}}, match={"contains": "other.wav"})
    first, second = client.task(), client.task(audio_url=other)
    assert client.ended(first)["output"]["task_status"] == "SUCCEEDED"
    assert client.ended(second)["output"]["code"] == "A"
    client.sim.fault({"task_status": "B"}, times=None, match={"task_id": first})
    assert client.query(second)["output"]["task_status"] == "FAILED"
    assert client.query(first)["output"]["task_status"] == "B"
    client.sim.clear_faults()
    client.sim.fault({"status": 503}, endpoint="list", match={"nth": 2})
    assert [client.get("/tasks/").status_code for _ in range(3)] == [200, 503, 200]


def test_a_fault_can_strike_always_never_or_anywhere(client: Client) -> None:
    client.sim.fault({"status": 500}, times=None, probability=0)
    assert client.get("/tasks/").status_code == 200
    client.sim.fault({"status": 503}, times=None)
    assert [client.check().status_code, client.create().status_code, client.get("/tasks/x").status_code] == [503] * 3
    assert [rule["hits"] for rule in client.sim.state()["faults"]] == [0, 3]


@pytest.fixture
def finished(client: Client) -> tuple[str, bytes]:
    """Give the link and the bytes of a finished video."""
    url = client.ended(client.task())["output"]["results"]["video_url"]
    return url, requests.get(url, timeout=10).content


def test_a_result_can_be_an_html_page(client: Client, finished: tuple[str, bytes]) -> None:
    client.sim.fault({"results": "html"})
    answer = requests.get(finished[0], timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")


def test_a_result_can_be_cut_off_before_its_length(client: Client, finished: tuple[str, bytes]) -> None:
    client.sim.fault({"results": "truncated"})
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(finished[0], timeout=10)


def test_a_result_can_be_half_a_file_that_looks_whole(client: Client, finished: tuple[str, bytes]) -> None:
    client.sim.fault({"results": "wrong_length"})
    content = requests.get(finished[0], timeout=10).content
    assert content == finished[1][: len(finished[1]) // 2]


def test_a_result_can_redirect(client: Client, finished: tuple[str, bytes]) -> None:
    client.sim.fault({"results": {"redirect": "http://169.254.169.254/latest"}})
    answer = requests.get(finished[0], timeout=10, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://169.254.169.254/latest")


def test_a_result_can_be_too_large(client: Client, finished: tuple[str, bytes]) -> None:
    client.sim.fault({"results": {"too_large": 3 * MIB}})
    assert len(requests.get(finished[0], timeout=10).content) == 3 * MIB


def test_a_result_can_drip(client: Client, finished: tuple[str, bytes]) -> None:
    url, content = finished
    client.sim.fault({"results": {"drip": len(content) / 0.4}})
    began = time.monotonic()
    assert requests.get(url, timeout=10).content == content
    assert time.monotonic() - began >= 0.4


def test_a_result_can_be_another_playable_video(client: Client, finished: tuple[str, bytes]) -> None:
    client.sim.fault({"results": {"video": {"seconds": 2, "width": 320, "height": 240}}})
    with av.open(io.BytesIO(requests.get(finished[0], timeout=10).content)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.duration * stream.time_base)) == (320, 240, 2.0)


def test_a_result_can_be_an_error(client: Client, finished: tuple[str, bytes]) -> None:
    client.sim.fault({"status": 503, "body": "busy"}, endpoint="result")
    assert requests.get(finished[0], timeout=10).status_code == 503
    assert requests.get(finished[0], timeout=10).content == finished[1]


# Three models


@pytest.mark.parametrize(
    ("model", "output"),
    [
        ("liveportrait-detect", {"pass": True, "message": "success"}),
        ("wan2.2-s2v-detect", {"check_pass": True, "humanoid": True}),
    ],
)
def test_a_sister_s_check_takes_the_picture_only(client: Client, model: str, output: dict[str, Any]) -> None:
    answer = client.check_of(model)
    assert (answer.status_code, answer.json()["output"]) == (200, output)
    refused = client.check_of(model, ratio="1:1")
    assert (refused.status_code, refused.json()["message"]) == (400, "Unknown fields: parameters.ratio.")


@pytest.mark.parametrize(
    ("model", "output"),
    [
        ("liveportrait-detect", {"pass": False, "message": "No human face detected."}),
        ("wan2.2-s2v-detect", {"check_pass": False, "humanoid": False}),
    ],
)
def test_a_sister_s_refusal(client: Client, files: FileServer, model: str, output: dict[str, Any]) -> None:
    answer = client.check_of(model, files.add("p.png", picture(uniform=True)))
    assert (answer.status_code, answer.json()["output"]) == (200, output)


@pytest.mark.parametrize(
    ("model", "size", "passes"),
    [
        ("liveportrait-detect", (300, 300), True),
        ("liveportrait-detect", (300, 600), True),
        ("liveportrait-detect", (300, 601), False),
        ("liveportrait-detect", (2100, 4096), True),
        ("liveportrait-detect", (2100, 4097), False),
        ("wan2.2-s2v-detect", (400, 7000), True),
        ("wan2.2-s2v-detect", (399, 400), False),
        ("wan2.2-s2v-detect", (400, 7001), False),
    ],
)
def test_each_model_s_picture(
    client: Client, files: FileServer, model: str, size: tuple[int, int], *, passes: bool
) -> None:
    output = client.check_of(model, files.add("p.png", picture(size))).json()["output"]
    assert output.get("pass", output.get("check_pass")) is passes


def test_a_picture_of_10_mb_is_too_big_for_liveportrait(client: Client, files: FileServer) -> None:
    url = files.add("p.bmp", picture((1900, 1900), "BMP"))  # 10.8 MB
    answer = client.check_of("liveportrait-detect", url)
    assert (answer.status_code, answer.json()["message"]) == (400, "File size is larger than 10MB.")
    assert client.check_of("wan2.2-s2v-detect", url).status_code == 200


@pytest.mark.parametrize("model", ["emo-v1", "liveportrait", "wan2.2-s2v", "emo-v1-detect", "", None, 7, ["emo-v1"]])
def test_a_check_needs_a_check_s_model(client: Client, model: Any) -> None:
    answer = client.post(CHECK, {"model": model, "input": {"image_url": client.image_url}})
    assert (answer.status_code, answer.json()["code"]) == (404, "ModelNotFound")


BOX = [140, 100, 340, 300]


@pytest.mark.parametrize(
    ("model", "parameters", "given", "said"),
    [
        ("liveportrait", {}, {"face_bbox": BOX}, "Unknown fields: input.face_bbox."),
        ("wan2.2-s2v", {}, {"ext_bbox": BOX}, "Unknown fields: input.ext_bbox."),
        ("liveportrait", {"style_level": "calm"}, {}, "Unknown fields: parameters.style_level."),
        ("wan2.2-s2v", {"template_id": "calm"}, {}, "Unknown fields: parameters.template_id."),
        ("liveportrait", {"template_id": "wild"}, {}, "The template_id is invalid."),
        ("liveportrait", {"eye_move_freq": 1.1}, {}, "The eye_move_freq is invalid."),
        ("liveportrait", {"eye_move_freq": "0.5"}, {}, "The eye_move_freq is invalid."),
        ("liveportrait", {"video_fps": 14}, {}, "The video_fps is invalid."),
        ("liveportrait", {"video_fps": 24.0}, {}, "The video_fps is invalid."),
        ("liveportrait", {"mouth_move_strength": 1.6}, {}, "The mouth_move_strength is invalid."),
        ("liveportrait", {"head_move_strength": True}, {}, "The head_move_strength is invalid."),
        ("liveportrait", {"paste_back": 1}, {}, "The paste_back is invalid."),
        ("wan2.2-s2v", {"resolution": "1080P"}, {}, "The resolution is invalid."),
        ("wan2.2-s2v", {"style": "singing"}, {}, "The style is invalid."),
    ],
)
def test_a_sister_s_create_is_strict(
    client: Client, model: str, parameters: dict[str, Any], given: dict[str, Any], said: str
) -> None:
    answer = client.create_of(model, parameters, **given)
    assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == (400, "InvalidParameter", said)
    assert client.sim.state()["tasks"] == []


def test_defaults_are_those_of_the_pages(client: Client) -> None:
    client.sim.set(manual=True)
    client.task_of("liveportrait", {"video_fps": 30})
    client.task_of("wan2.2-s2v")
    live, wan = client.sim.state()["tasks"]
    assert (live["model"], live["parameters"]) == (
        "liveportrait",
        {
            "template_id": "normal",
            "eye_move_freq": 0.5,
            "video_fps": 30,
            "mouth_move_strength": 1,
            "head_move_strength": 0.7,
            "paste_back": True,
        },
    )
    assert (wan["model"], wan["parameters"]) == ("wan2.2-s2v", {"resolution": "480P", "style": "speech"})


@pytest.mark.parametrize(
    ("model", "seconds", "said"),
    [
        ("liveportrait", 1.0, "The input audio is shorter than 1s."),
        ("liveportrait", 180.0, "The input audio is longer than 180s."),
        ("wan2.2-s2v", 20.0, "The input audio is longer than 20s."),
    ],
)
def test_each_model_s_voice(client: Client, files: FileServer, model: str, seconds: float, said: str) -> None:
    """Both bounds are outside, as the pages say; a sample more or less is inside."""
    url = files.add("v.wav", wav((seconds, 0.3), rate=44_100 if seconds < 60 else 22_050))  # 15 MB is a bound too
    output = client.ended(client.task_of(model, audio_url=url))["output"]
    assert (output["task_status"], output["code"], output["message"]) == ("FAILED", "InvalidURL", said)


@pytest.mark.parametrize(("model", "seconds"), [("liveportrait", 1.001), ("wan2.2-s2v", 1.0)])
def test_a_voice_inside_the_bounds(model: str, seconds: float) -> None:
    assert len(read_voice(Download(wav((seconds, 0.3)), "audio/wav", ".wav"), MODELS[model])) > 0


@pytest.mark.parametrize(
    ("model", "parameters", "image", "size", "fps"),
    [
        ("liveportrait", {}, (640, 480), (640, 480), 24),
        ("liveportrait", {"video_fps": 15}, (501, 333), (500, 332), 15),
        ("liveportrait", {"paste_back": False}, (500, 500), (200, 200), 24),
        ("liveportrait", {}, (2000, 1000), (1280, 640), 24),
        ("wan2.2-s2v", {}, (480, 640), (480, 640), 16),
        ("wan2.2-s2v", {}, (800, 800), (554, 554), 16),
        ("wan2.2-s2v", {"resolution": "720P"}, (720, 1280), (720, 1280), 16),
    ],
)
def test_a_sister_s_video_follows_the_picture(
    client: Client,
    files: FileServer,
    *,
    model: str,
    parameters: dict[str, Any],
    image: tuple[int, int],
    size: tuple[int, int],
    fps: int,
) -> None:
    links = {"image_url": files.add("p.png", picture(image)), "audio_url": files.add("v.wav", wav((1.2, 0.5)))}
    task_id = client.task_of(model, parameters, **links)
    answer = client.ended(task_id)
    usage = {"duration": 1.2} if model == "wan2.2-s2v" else {"video_duration": 1.2, "video_ratio": "standard"}
    assert answer["usage"] == usage
    with av.open(io.BytesIO(client.video(task_id).content)) as container:
        stream = container.streams.video[0]
        assert ((stream.width, stream.height), stream.average_rate) == (size, fps)
        assert float(stream.duration * stream.time_base) == pytest.approx(1.2, abs=1 / fps)
    assert client.sim.state()["tasks"][0]["video_size"] == list(size)


def test_each_model_runs_its_own_task(client: Client, files: FileServer) -> None:
    """A queue of EMO tasks holds up no other model's, nor a deployment's."""
    client.audio_url = files.add("v.wav", wav((1.2, 0.5)))  # long enough for each
    client.sim.set(manual=True, deployments={"my-emo": "emo-v1"})
    emo = [client.task(), client.task()]
    others = [client.task_of("liveportrait"), client.task_of("wan2.2-s2v")]
    body = client.create_body() | {"model": "my-emo"}
    own = client.post(CREATE, body, **{"X-DashScope-Async": "enable"}).json()["output"]["task_id"]
    state = client.sim.wait_for(lambda state: sum(task["status"] == "RUNNING" for task in state["tasks"]) == 4)
    assert {task["id"] for task in state["tasks"] if task["status"] == "RUNNING"} == {emo[0], *others, own}
    assert (state["counters"]["max_running"], state["counters"]["max_running_all"]) == (1, 4)
    assert state["counters"]["creates"] == {"emo-v1": 2, "liveportrait": 1, "wan2.2-s2v": 1, "my-emo": 1}
    assert client.get("/tasks/", model_name="my-emo").json()["total"] == 1
    assert client.get("/tasks/", model_name="emo-v1").json()["total"] == 2


def test_each_model_has_its_own_rate(files: FileServer) -> None:
    with Simulator(api_key=KEY, manual=True) as sim:
        client = Client(sim, files)
        for _ in range(5):
            client.task()
        assert client.create().status_code == 429
        assert client.create_of("liveportrait").status_code == 200


def test_what_was_paid_is_counted_by_model(client: Client, files: FileServer) -> None:
    audio_url = files.add("v.wav", wav((1.25, 0.5)))
    client.check()
    client.check(files.add("p.png", picture(note="NoHuman")))  # refused, and paid
    client.check(f"{files.origin}/missing.png")  # not answered with a verdict
    client.check_of("wan2.2-s2v-detect")
    client.ended(client.task(audio_url=audio_url))
    client.ended(client.task(audio_url=audio_url, ext_bbox=[60, 0, 420, 480]))
    client.ended(client.task_of("liveportrait", audio_url=audio_url))
    client.ended(client.task_of("wan2.2-s2v", {"resolution": "720P"}, audio_url=audio_url))
    client.sim.fault({"task_fails": {}})
    client.ended(client.task(audio_url=audio_url))  # free
    assert client.sim.state()["counters"]["paid_cny"] == {
        "emo-detect-v1": 0.008,
        "wan2.2-s2v-detect": 0.004,
        "emo-v1": 0.3,
        "liveportrait": 0.025,
        "wan2.2-s2v": 1.125,
    }


# Temporary storage


def test_a_policy_holds_what_the_page_names(client: Client) -> None:
    policy = client.policy("liveportrait")
    assert {"policy", "signature", "upload_dir", "upload_host", "oss_access_key_id"} < set(policy)
    assert (policy["expire_in_seconds"], policy["max_file_size_mb"]) == (300, 100)
    assert (policy["x_oss_object_acl"], policy["x_oss_forbid_overwrite"]) == ("private", "true")
    assert policy["upload_dir"] != client.policy("liveportrait")["upload_dir"]


@pytest.mark.parametrize(
    ("query", "status"),
    [({"action": "getPolicy"}, 400), ({"model": "emo-v1"}, 400), ({"action": "getPolicy", "model": "emo-v2"}, 404)],
)
def test_a_policy_needs_its_action_and_a_model(client: Client, query: dict[str, str], status: int) -> None:
    assert client.get("/uploads", **query).status_code == status


def test_a_stored_pair_makes_a_video(client: Client, files: FileServer) -> None:
    """The portrait goes up twice: once for the check's model, once for the video's."""
    portrait, voice = picture(), wav((0.4, 0.5))
    resolve = {"X-DashScope-OssResourceResolve": "enable"}
    body = client.check_body(client.stored(portrait, "a.png", "emo-detect-v1"))
    assert client.post(CHECK, body, **resolve).json()["output"]["check_pass"] is True
    links = {"image_url": client.stored(portrait, "a.png"), "audio_url": client.stored(voice, "v.wav")}
    answer = client.post(CREATE, client.create_body(**links), **resolve, **{"X-DashScope-Async": "enable"})
    task_id = answer.json()["output"]["task_id"]
    assert client.ended(task_id)["output"]["task_status"] == "SUCCEEDED"
    state = client.sim.state()
    assert files.asked == []
    assert state["tasks"][0]["audio_sha256"] == hashlib.sha256(voice).hexdigest()
    assert [(file["model"], file["bytes"]) for file in state["stored"]] == [
        ("emo-detect-v1", len(portrait)),
        ("emo-v1", len(portrait)),
        ("emo-v1", len(voice)),
    ]
    assert "path" not in state["stored"][0]


@pytest.mark.parametrize("header", [None, "disable"])
def test_a_stored_link_needs_its_header(client: Client, header: str | None) -> None:
    headers = {"X-DashScope-OssResourceResolve": header} if header else {}
    body = client.check_body(client.stored(picture(), "a.png", "emo-detect-v1"))
    answer = client.post(CHECK, body, **headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidURL")


def test_a_stored_link_is_one_model_s_and_one_account_s(client: Client) -> None:
    client.sim.set(foreign_api_keys=["sk-foreign"])
    video_s = client.stored(picture(), "a.png", "emo-v1")
    others = Client(client.sim, FileServer())
    others.headers = {"Authorization": "Bearer sk-foreign"}
    foreign = others.stored(picture(), "a.png", "emo-detect-v1")
    assert others.get("/tasks/").status_code == 401
    for url in (video_s, foreign, "oss://nothing/there.png"):
        answer = client.post(CHECK, client.check_body(url), **{"X-DashScope-OssResourceResolve": "enable"})
        assert (answer.status_code, answer.json()["code"]) == (400, "InvalidURL")
        assert "not for this model and account" in answer.json()["message"]


def test_a_stored_file_lives_48_hours(client: Client) -> None:
    links = {"image_url": client.stored(picture(), "a.png"), "audio_url": client.stored(wav((0.4, 0.5)), "v.wav")}
    resolve = {"X-DashScope-OssResourceResolve": "enable", "X-DashScope-Async": "enable"}
    client.sim.set(clock_offset_seconds=172_800 - 60)
    assert client.post(CREATE, client.create_body(**links), **resolve).status_code == 200
    client.sim.set(clock_offset_seconds=172_800 + 60)
    assert client.post(CREATE, client.create_body(**links), **resolve).status_code == 400


def test_a_stored_file_gone_when_the_task_runs_fails_it(client: Client) -> None:
    client.sim.set(manual=True)
    client.task()
    links = {"image_url": client.stored(picture(), "a.png"), "audio_url": client.stored(wav((0.4, 0.5)), "v.wav")}
    resolve = {"X-DashScope-OssResourceResolve": "enable", "X-DashScope-Async": "enable"}
    task_id = client.post(CREATE, client.create_body(**links), **resolve).json()["output"]["task_id"]
    client.sim.set(stored_seconds=-1, manual=False)
    output = client.ended(task_id)["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InvalidParameter.DataInspection")


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"Signature": "wrong"}, 403, "SignatureDoesNotMatch"),
        ({"Signature": None}, 403, "SignatureDoesNotMatch"),
        ({"OSSAccessKeyId": "LTAI-other"}, 403, "InvalidAccessKeyId"),
        ({"key": "elsewhere/a.png"}, 403, "AccessDenied"),
        ({"x_oss_object_acl": "public-read"}, 403, "AccessDenied"),
        ({"x_oss_forbid_overwrite": None}, 403, "AccessDenied"),
        ({"order": ["file", "OSSAccessKeyId", "Signature", "policy", "key"]}, 400, "InvalidArgument"),
    ],
)
def test_a_wrong_form_is_refused_in_xml(client: Client, changed: dict[str, Any], status: int, code: str) -> None:
    answer = client.post_form(client.policy(), b"abc", **changed)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/xml")
    assert f"<Code>{code}</Code>" in answer.text
    assert client.sim.state()["stored"] == []


def test_a_policy_dies_after_5_minutes(client: Client) -> None:
    policy = client.policy()
    client.sim.set(clock_offset_seconds=301)
    answer = client.post_form(policy, b"abc")
    assert answer.status_code == 403
    assert "Policy expired" in answer.text


def test_a_form_takes_no_api_key(client: Client) -> None:
    policy = client.policy()
    answer = requests.post(
        policy["upload_host"], files={"file": b"x"}, headers={"Authorization": f"Bearer {KEY}"}, timeout=10
    )
    assert (answer.status_code, "<Code>InvalidArgument</Code>" in answer.text) == (400, True)


def test_a_file_over_the_size_is_refused(client: Client) -> None:
    client.sim.set(upload_max_mb=1)
    policy = client.policy()
    answer = client.post_form(policy, bytes(MIB + 1))
    assert (answer.status_code, "<Code>EntityTooLarge</Code>" in answer.text) == (400, True)
    assert client.post_form(policy, bytes(MIB)).status_code == 200
    answer = client.post_form(policy, bytes(MIB))
    assert (answer.status_code, "<Code>FileAlreadyExists</Code>" in answer.text) == (409, True)


@pytest.mark.parametrize("body", [b"", b"--x--", b"--x\r\n\r\nno name\r\n--x--"])
def test_a_body_that_is_no_form_is_refused(client: Client, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.post(client.policy()["upload_host"], data=body, headers=headers, timeout=10)
    assert (answer.status_code, "<Code>MalformedPOSTRequest</Code>" in answer.text) == (400, True)


@pytest.mark.parametrize(("endpoint", "status"), [("policy", 503), ("upload", 503)])
def test_the_storage_can_be_made_to_fail(client: Client, endpoint: str, status: int) -> None:
    client.sim.fault({"status": status}, endpoint=endpoint)
    if endpoint == "policy":
        assert client.get("/uploads", action="getPolicy", model="emo-v1").status_code == status
    else:
        assert client.post_form(client.policy(), b"abc").status_code == status
    assert client.stored(b"abc", "b.png").startswith("oss://")


# Nonsense


@pytest.mark.parametrize("name", NONSENSE)
@pytest.mark.parametrize("path", ["query", "list", "create"])
def test_every_nonsense_is_an_answer_that_took_effect(client: Client, name: str, path: str) -> None:
    task_id = client.task()
    client.ended(task_id)
    client.sim.fault({"nonsense": name}, endpoint=path)
    call = {
        "query": lambda: client.get(f"/tasks/{task_id}"),
        "list": lambda: client.get("/tasks/"),
        "create": client.create,
    }[path]
    answer = call()
    assert answer.status_code == 200
    assert answer.content != call().content
    assert len(client.sim.state()["tasks"]) == (3 if path == "create" else 1)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("dates_early", b"0001-01-01"),
        ("dates_late", b"9999-12-31"),
        ("surrogates", b"\\ud83d"),
        ("long_texts", b"x" * 300_000),
        ("results_list", b'"results": [{"video_url"'),
        ("results_nested", b'"videos": [{"url"'),
        ("results_beside", b'"video_url"'),
        ("numbers_huge", b"1e999"),
        ("numbers_nan", b"NaN"),
        ("numbers_long", b"9" * 5000),
        ("deep", b"[" * 100_000),
        ("not_utf8", b"\xff\xfe"),
        ("wrong_types", b'"output": [{'),
    ],
)
def test_a_query_s_nonsense(client: Client, name: str, found: bytes) -> None:
    task_id = client.task()
    client.ended(task_id)
    client.sim.fault({"nonsense": name}, endpoint="query")
    assert found in client.get(f"/tasks/{task_id}").content


def test_fields_can_be_laid_over_an_answer(client: Client) -> None:
    client.sim.fault({"merge": {"output": {"check_pass": None, "note": 1}}}, endpoint="check")
    output = client.check().json()["output"]
    assert (output["check_pass"], output["note"], len(output["face_bbox"])) == (None, 1, 4)


def test_a_task_can_fail_with_half_a_surrogate(client: Client) -> None:
    client.sim.fault({"task_fails": {"code": "InternalError.Algo", "message": "half \ud83d"}})
    assert client.ended(client.task())["output"]["message"] == "half \ud83d"


# Who may reach what


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "169.254.169.254"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Content-Type": "text/plain"}, 403),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 403),
    ],
)
def test_the_control_address_and_strangers(client: Client, headers: dict[str, str], status: int) -> None:
    """A page of another site, or one whose name leads here, must not steer the simulator nor read its state."""
    port = client.sim.base_url.rpartition(":")[2].partition("/")[0]
    sent = {name: f"{value}:{port}" if name == "Host" else value for name, value in headers.items()}
    sent = {"Content-Type": "application/json"} | sent
    answer = requests.post(client.sim.control_url + "/settings", data=b'{"running": 7}', headers=sent, timeout=10)
    assert answer.status_code == status
    assert (client.sim.state()["settings"]["running"] == 7) is (status == 200)
    if "Content-Type" not in headers:
        assert requests.get(client.sim.control_url + "/state", headers=sent, timeout=10).status_code == status


def test_it_can_be_bound_elsewhere(files: FileServer) -> None:
    """As to the address at which containers reach this machine: links and the control's name follow."""
    with Simulator(host="127.0.0.2", api_key=KEY, task_seconds=0) as sim:
        client = Client(sim, files)
        assert sim.base_url.startswith("http://127.0.0.2:")
        task_id = client.task()
        assert client.ended(task_id)["output"]["results"]["video_url"].startswith("http://127.0.0.2:")
        assert client.video(task_id).status_code == 200
        assert client.stored(b"abc", "a.png").startswith("oss://")
        assert requests.get(sim.control_url + "/state", timeout=10).status_code == 200


def test_who_asks_by_its_other_name_gets_links_with_it(files: FileServer) -> None:
    """As Docker Desktop's containers call this machine; nobody here can look that name up."""
    name, model = "host.docker.internal", "emo-v1"
    with Simulator(api_key=KEY, task_seconds=0, also_named=name) as sim:
        client, port = Client(sim, files), urlsplit(sim.base_url).port
        asked = {"Authorization": f"Bearer {KEY}", "Host": f"{name}:{port}"}
        task_id = client.task()
        client.ended(task_id)

        by_name = requests.get(f"{sim.base_url}/tasks/{task_id}", headers=asked, timeout=10).json()
        policy = {"action": "getPolicy", "model": model}
        uploads = requests.get(f"{sim.base_url}/uploads", policy, headers=asked, timeout=10).json()

        video = by_name["output"]["results"]["video_url"]
        assert video.startswith(f"http://{name}:{port}/results/")
        assert uploads["data"]["upload_host"] == f"http://{name}:{port}/storage"
        at_its_address = video.replace(name, "127.0.0.1")
        assert requests.get(at_its_address, headers={"Host": asked["Host"]}, timeout=10).status_code == 200
        assert client.ended(task_id)["output"]["results"]["video_url"].startswith("http://127.0.0.1:")
        other = requests.get(
            f"{sim.base_url}/tasks/{task_id}", headers={**asked, "Host": f"else.example:{port}"}, timeout=10
        )
        assert other.json()["output"]["results"]["video_url"].startswith("http://127.0.0.1:")
        assert requests.get(sim.control_url + "/state", headers=asked, timeout=10).status_code == 403


def test_links_by_its_other_name_are_fetched_here(files: FileServer) -> None:
    """And that name is sent: the signature of a presigned link covers it."""
    before = len(files.hosts)
    with Simulator(api_key=KEY, task_seconds=0, also_named="host.docker.internal") as sim:
        client = Client(sim, files)
        links = {"image_url": client.image_url, "audio_url": client.audio_url}
        by_name = {name: link.replace("127.0.0.1", "host.docker.internal") for name, link in links.items()}
        assert client.ended(client.task(**by_name))["output"]["task_status"] == "SUCCEEDED"
        assert {host.partition(":")[0] for host in files.hosts[before:]} == {"host.docker.internal"}


def test_its_files_are_for_this_user_alone(client: Client) -> None:
    client.stored(picture(), "a.png")
    client.ended(client.task())
    folder = client.sim.account.storage.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {0o600}


def test_it_never_imports_the_product() -> None:
    for path in (LOCAL / "simulator").glob("*.py"):
        tree = ast.parse(path.read_text())
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names] + [
            node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        ]
        assert not [name for name in names if name.partition(".")[0] == "portraitcast"]


# The control address


def test_the_control_address_does_all_of_it_over_http(client: Client) -> None:
    at = client.sim.control_url

    def post(path: str, body: Any = None) -> requests.Response:
        return requests.post(at + path, json=body, timeout=10)

    assert post("/settings", {"manual": True}).status_code == 200
    first, second = client.task(), client.task()
    assert post(f"/tasks/{first}/finish").json() == {"finished": [first]}
    assert client.ended(first)["output"]["task_status"] == "SUCCEEDED"
    assert post("/finish-all").json() == {"finished": [second]}
    assert client.ended(second)["output"]["task_status"] == "SUCCEEDED"
    assert post("/account", {"state": "arrearage"}).status_code == 200
    assert client.create().json()["code"] == "Arrearage"
    assert post("/faults", {"endpoint": "list", "action": {"status": 500}, "times": None}).json()["id"] > 0
    assert client.get("/tasks/").status_code == 500
    assert requests.delete(at + "/faults", timeout=10).status_code == 200
    state = requests.get(at + "/state", timeout=10).json()
    assert [task["status"] for task in state["tasks"]] == ["SUCCEEDED"] * 2
    assert (state["account"], state["faults"], state["settings"]["manual"]) == ("arrearage", [], True)
    assert state["counters"]["busy_seconds"] > 0
    assert state["counters"]["first_start"] <= state["counters"]["last_end"]
    assert post("/reset").status_code == 200
    state = requests.get(at + "/state", timeout=10).json()
    assert (state["tasks"], state["account"], state["settings"]["manual"]) == ([], "ok", False)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/settings", {"speed": 1}, "unknown settings ['speed']"),
        ("/settings", [], "a JSON object is expected"),
        ("/account", {"state": "poor"}, "unknown state 'poor'"),
        ("/faults", {"action": {}}, "a rule needs one action"),
        ("/faults", {"action": {"status": 500}, "when": 1}, "unknown fields: ['when']"),
        ("/faults", {"action": {"status": 500, "close": "after"}}, "a rule needs one action"),
        ("/faults", {"action": {"close": "now"}}, "close is"),
        ("/faults", {"action": {"results": "odd"}}, "results is one of"),
        ("/faults", {"action": {"task_fails": True}}, "task_fails is"),
        ("/faults", {"action": {"status": 500}, "endpoint": "other"}, "endpoint is one of"),
    ],
)
def test_a_wrong_wish_is_refused_with_the_reason(client: Client, path: str, body: Any, said: str) -> None:
    answer = requests.post(client.sim.control_url + path, json=body, timeout=10)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_a_task_forgotten_by_a_reset(client: Client) -> None:
    """A task forgotten by a reset ends without a trace."""
    client.sim.set(manual=True)
    old = client.task()
    client.sim.wait_for(lambda state: status(state, old) == "RUNNING")
    client.sim.reset()
    fresh = client.task()
    assert client.ended(fresh)["output"]["task_status"] == "SUCCEEDED"
    assert [task["id"] for task in client.sim.state()["tasks"]] == [fresh]


def test_hundreds_of_connections_at_once(client: Client) -> None:
    """Hundreds of connections at once are all answered."""

    def one(_: int) -> str:
        return client.task()  # a connection of its own

    with ThreadPoolExecutor(64) as pool:
        ids = list(pool.map(one, range(300)))
    assert len(set(ids)) == 300
    state = client.sim.wait_for(lambda state: all(task["status"] == "SUCCEEDED" for task in state["tasks"]), 20)
    assert [task["id"] for task in sorted(state["tasks"], key=lambda task: task["started_at"])] == [
        task["id"] for task in state["tasks"]
    ]
    assert state["counters"]["max_running"] == 1


def test_the_command_keeps_its_log_private(tmp_path: Path) -> None:
    log = tmp_path / "simulator.log"
    log.touch(0o644)
    command = [sys.executable, "-m", "simulator", "--host", "127.0.0.3", "--deployment", "my-emo=emo-v1"]
    with (
        log.open("w") as written,
        subprocess.Popen(command, cwd=LOCAL, stdout=subprocess.PIPE, stderr=written, text=True) as process,  # noqa: S603 - ours
    ):
        assert process.stdout
        said = json.loads(process.stdout.readline())
        assert said["base_url"].startswith("http://127.0.0.3:")
        settings = requests.get(said["control_url"] + "/state", timeout=10).json()["settings"]
        assert settings["deployments"] == {"my-emo": "emo-v1"}
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_command_listens_and_ends(end: signal.Signals) -> None:
    """The command says where it listens and ends when told."""
    command = [sys.executable, "-m", "simulator", "--port", "0", "--api-key", "sk-cli", "--task-seconds", "1.5"]
    with subprocess.Popen(command, cwd=LOCAL, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout
        said = json.loads(process.stdout.readline())
        headers = {"Authorization": "Bearer sk-cli"}
        assert requests.get(said["base_url"] + "/tasks/", headers=headers, timeout=10).status_code == 200
        settings = requests.get(said["control_url"] + "/state", timeout=10).json()["settings"]
        assert settings["task_seconds"] == 1.5
        process.send_signal(end)
        assert process.wait(10) == 0
