"""The EMO simulator keeps to the service's documents, and misbehaves as asked."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import requests
from PIL import Image, PngImagePlugin
from servers import serving

from simulator import Simulator
from simulator.account import TROUBLES
from simulator.errors import InputError
from simulator.inputs import Download, read_voice
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
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.partition("?")[0].lstrip("/")
                owner.asked.append(name)
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
def test_a_check_gives_a_cutout_of_the_asked_shape_around_the_face(
    client: Client, files: FileServer, ratio: str, shape: float, size: tuple[int, int]
) -> None:
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
def test_a_check_takes_every_type_of_picture_that_the_service_names(
    client: Client, files: FileServer, kind: str
) -> None:
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
def test_a_refused_portrait_is_http_200_with_a_code_and_no_boxes(
    client: Client, files: FileServer, content: bytes, code: str
) -> None:
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


def test_a_second_key_of_the_account_sees_the_same_tasks_under_its_own_number(client: Client) -> None:
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
def test_more_requests_a_second_than_allowed_are_throttled_and_counted(
    files: FileServer, endpoint: str, rate: int
) -> None:
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
def test_a_troubled_account_answers_every_call_with_its_documented_error(client: Client, state: str) -> None:
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


def test_tasks_run_one_at_a_time_in_the_order_of_their_creates(client: Client) -> None:
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


def test_inputs_are_fetched_when_the_task_runs_and_not_before(client: Client, files: FileServer) -> None:
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
def test_a_voice_beyond_the_limits_fails_the_task_as_the_service_words_it(
    client: Client, files: FileServer, *, name: str, content: bytes, content_type: str, said: str
) -> None:
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


def test_a_link_without_suffix_is_judged_by_its_content_type(client: Client, files: FileServer) -> None:
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


def test_a_task_without_a_result_after_3_hours_fails_and_makes_room(client: Client) -> None:
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


def test_an_id_is_unknown_after_24_hours_or_if_it_never_was(client: Client) -> None:
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
def test_the_video_has_the_services_format_and_the_voices_length(
    client: Client, files: FileServer, ext_bbox: list[int], ratio: str, size: tuple[int, int]
) -> None:
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


def test_the_mouth_moves_when_the_voice_is_loud_and_rests_when_it_is_silent(client: Client, files: FileServer) -> None:
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


def test_the_mouth_stays_shut_in_silence_and_follows_the_loudness() -> None:
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


def test_a_link_with_a_wrong_signature_or_another_end_is_refused(client: Client) -> None:
    url = client.ended(client.task())["output"]["results"]["video_url"]
    for wrong in (url.replace("Expires=", "Expires=9"), url[:-8], url.partition("?")[0]):
        answer = requests.get(wrong, timeout=10)
        assert answer.status_code == 403
        assert "<Code>SignatureDoesNotMatch</Code>" in answer.text


# List


def test_a_list_shows_rows_without_inputs_and_without_links(client: Client) -> None:
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


def test_a_list_without_times_is_that_of_the_last_24_hours(client: Client) -> None:
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
def test_a_create_answered_with_an_error_makes_a_task_only_if_told_so(client: Client, *, effect: bool) -> None:
    client.sim.fault(
        {"status": 502, "body": "<h1>Bad gateway</h1>", "headers": {"Retry-After": "7"}, "effect": effect},
        endpoint="create",
    )
    answer = client.create()
    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (502, "<h1>Bad gateway</h1>", "7")
    assert len(client.sim.state()["tasks"]) == effect
    assert client.create().status_code == 200  # it struck once


@pytest.mark.parametrize(("moment", "tasks"), [("before", 0), ("after", 1)])
def test_a_connection_is_cut_before_or_after_the_create_took_effect(client: Client, moment: str, tasks: int) -> None:
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


def test_a_fault_can_be_for_one_task_one_text_or_one_call(client: Client, files: FileServer) -> None:
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
        ("/faults", {"action": {"status": 500}, "endpoint": "upload"}, "endpoint is one of"),
    ],
)
def test_a_wrong_wish_is_refused_with_the_reason(client: Client, path: str, body: Any, said: str) -> None:
    answer = requests.post(client.sim.control_url + path, json=body, timeout=10)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_a_task_forgotten_by_a_reset_ends_without_a_trace(client: Client) -> None:
    client.sim.set(manual=True)
    old = client.task()
    client.sim.wait_for(lambda state: status(state, old) == "RUNNING")
    client.sim.reset()
    fresh = client.task()
    assert client.ended(fresh)["output"]["task_status"] == "SUCCEEDED"
    assert [task["id"] for task in client.sim.state()["tasks"]] == [fresh]


def test_hundreds_of_connections_at_once_are_all_answered(client: Client) -> None:
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


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_it_listens_and_ends_when_told(end: signal.Signals) -> None:
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
