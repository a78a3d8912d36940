"""The client against a real socket that misbehaves: a create reaches the service once at most, whatever happens."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitcast.adapters.dashscope import (
    AccountError,
    CheckPassed,
    Created,
    DashScope,
    JobRefusedError,
    NotConnectedError,
    ProviderError,
    ProviderIllError,
    ProviderTask,
    ThrottledError,
    UnknownOutcome,
)
from portraitcast.adapters.dashscope.transport import ANSWER_MAX_BYTES
from portraitcast.domain.models import MODELS, Boxes, Call, Model, model_named
from servers import serving
from simulator import Simulator
from simulator.account import TROUBLES
from simulator.faults import NONSENSE
from simulator.models import MODELS as PAGES

EMO = MODELS["emo-v1"]
KEY = "sk-0123456789abcdef"
BOXES = Boxes((10, 10, 50, 50), (0, 0, 100, 100))
SAMPLES = Path(__file__).parents[2] / "local" / "samples"

Behaviour = Callable[[socket.socket, threading.Event], None]


class Service:
    """A loopback server that counts the whole requests it gets and answers each as it is told."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = answer(200, b"{}")
        self.requests: list[bytes] = []
        self.connections: list[int] = []
        self.reads_requests = True
        self.gone = threading.Semaphore(0)
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections.append(connection.getpeername()[1])
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            if not self.reads_requests or self._read(connection):
                self.behaviour(connection, self._over)
        self.gone.release()

    def _read(self, connection: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65536)):
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        while len(body) < int(lengths[0] if lengths else 0):
            if not (more := connection.recv(65536)):
                return False
            body += more
        self.requests.append(head + b"\r\n\r\n" + body)
        return True

    def close(self) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def client(self, scheme: str = "http", read_timeout: float = 0.5) -> DashScope:
        base = f"{scheme}://127.0.0.1:{self.port}/api/v1"
        return DashScope(base, lambda: KEY, connect_timeout=0.5, read_timeout=read_timeout)


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    yield server
    server.close()


def create(client: DashScope) -> Created | UnknownOutcome:
    return client.create(
        EMO, image_url="https://in/a.png", audio_url="https://in/a.mp3", boxes=BOXES, parameters={"style_level": "calm"}
    )


def head(status: int, length: int | None, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/json", *more]
    return "\r\n".join([*lines, *([] if length is None else [f"Content-Length: {length}"]), "", ""]).encode()


def answer(status: int, body: bytes, *headers: str, length: int | None = None) -> Behaviour:
    def send(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(head(status, len(body) if length is None else length, *headers) + body)

    return send


def raw(*parts: bytes) -> Behaviour:
    def send(connection: socket.socket, _: threading.Event) -> None:
        for part in parts:
            connection.sendall(part)

    return send


def hang(_: socket.socket, over: threading.Event) -> None:
    over.wait(10)


def drip(start: bytes, piece: bytes) -> Behaviour:
    """Send a piece every 50 ms, so that no single read of the client ever times out."""

    def send(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(start)
        while not over.wait(0.05):
            connection.sendall(piece)

    return send


def flood(start: bytes) -> Behaviour:
    def send(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(start)
        while not over.is_set():
            connection.sendall(b" " * 65536)

    return send


CREATED = json.dumps({"output": {"task_id": "t-1", "task_status": "PENDING"}, "request_id": "r-1"}).encode()
REFUSED = json.dumps({"code": "InvalidParameter", "message": "no", "request_id": "r-1"}).encode()


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(raw(), id="cut after the request"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-"), id="cut in the headers"),
        pytest.param(raw(b"220 smtp.example ESMTP\r\n"), id="another protocol"),
        pytest.param(raw(b"\x00" * 100), id="no protocol at all"),
        pytest.param(answer(200, CREATED[:30], length=len(CREATED)), id="cut in the body"),
        pytest.param(answer(400, REFUSED, length=len(REFUSED) + 1), id="a refusal cut before its end"),
        pytest.param(answer(200, CREATED[:30]), id="half a JSON"),
        pytest.param(answer(200, b"<html>Welcome</html>"), id="a page"),
        pytest.param(answer(200, b"x", "Content-Encoding: gzip"), id="a broken encoding"),
        pytest.param(raw(head(200, None, "Transfer-Encoding: chunked") + b"zz\r\n"), id="broken chunks"),
        pytest.param(answer(502, b"<html>Bad Gateway</html>"), id="a gateway's page"),
        pytest.param(answer(500, REFUSED), id="5xx with a code"),
        pytest.param(answer(400, b"<html>Bad Request</html>"), id="4xx without a code"),
        pytest.param(answer(307, b"", "Location: /api/v1/elsewhere"), id="a redirect"),
        pytest.param(answer(302, b"", "Location: http://["), id="a redirect to nowhere"),
        pytest.param(answer(308, b"", "Location: /api/v1/elsewhere", "Retry-After: 0"), id="a redirect with a wait"),
        pytest.param(answer(503, b"", "Retry-After: 0"), id="please send again"),
        pytest.param(hang, id="no answer"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), id="headers that drip"),
        pytest.param(drip(b"", b"H"), id="a status line that drips"),
        pytest.param(drip(head(200, 10**6), b" "), id="a body that drips"),
        pytest.param(drip(head(307, 10**6, "Location: /api/v1/elsewhere"), b" "), id="a redirect that drips"),
        pytest.param(flood(head(200, 10**12)), id="an endless body"),
        pytest.param(flood(head(307, None, "Location: /api/v1/elsewhere")), id="an endless redirect"),
        pytest.param(answer(200, CREATED.ljust(ANSWER_MAX_BYTES + 1)), id="a giant body"),
    ],
)
def test_an_unclear_create_was_sent_once(service: Service, behaviour: Behaviour) -> None:
    """A create without a clear answer is unknown in time and was sent once."""
    service.behaviour = behaviour
    client = service.client()
    start = time.monotonic()
    outcome = create(client)
    assert time.monotonic() - start < client.call_seconds + 1
    assert isinstance(outcome, UnknownOutcome)
    assert len(service.requests) == 1
    assert len(service.connections) == 1


@pytest.mark.parametrize("behaviour", [hang, drip(head(200, 10**6), b" "), raw(), answer(307, b"", "Location: /x")])
def test_an_unanswered_query_ends_in_time(service: Service, behaviour: Behaviour) -> None:
    """A query that is not answered ends in time too and may be repeated."""
    service.behaviour = behaviour
    client = service.client()
    start = time.monotonic()
    with pytest.raises(ProviderIllError):
        client.query("t-1")
    assert time.monotonic() - start < client.call_seconds + 1
    assert len(service.requests) == 1


@pytest.mark.parametrize("behaviour", [hang, drip(head(200, 10**6), b" "), drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")])
def test_a_list_ends_with_its_deadline(service: Service, behaviour: Behaviour) -> None:
    """The last page is bounded by what is left, not by the client's own timeouts."""
    full = json.dumps({"data": [{"task_id": "t-1", "gmt_create": 1766720000000}], "total_page": 9}).encode()
    pages = [answer(200, full), behaviour]

    def turn(connection: socket.socket, over: threading.Event) -> None:
        pages.pop(0)(connection, over)

    service.behaviour = turn
    start = time.monotonic()
    with pytest.raises(ProviderIllError):
        service.client(read_timeout=30).list_tasks(EMO, seconds=0.5)
    assert time.monotonic() - start < 5
    assert pages == []


def upload(client: DashScope) -> str:
    return client.upload(EMO, io.BytesIO(b"x" * 2_000_000), "a.wav", 2_000_000, seconds=1)


@pytest.mark.parametrize("behaviour", [hang, raw(), raw(b"HTTP/1.1 "), drip(head(200, 10**6), b" ")])
def test_an_upload_that_is_cut_ends_in_time(service: Service, behaviour: Behaviour) -> None:
    policy = {
        **dict.fromkeys(
            ("policy", "signature", "oss_access_key_id", "x_oss_object_acl", "x_oss_forbid_overwrite"), "x"
        ),
        "upload_dir": "d",
        "upload_host": f"http://127.0.0.1:{service.port}/up",
    }
    turns = [answer(200, json.dumps({"data": policy}).encode()), behaviour]

    def turn(connection: socket.socket, over: threading.Event) -> None:
        turns.pop(0)(connection, over)

    service.behaviour = turn
    start = time.monotonic()
    with pytest.raises((ProviderIllError, NotConnectedError)):
        upload(service.client())
    assert time.monotonic() - start < 5
    assert turns == []


def test_a_slow_answer_within_the_time_is_taken(service: Service) -> None:
    def slow(connection: socket.socket, over: threading.Event) -> None:
        over.wait(0.3)
        answer(200, CREATED)(connection, over)

    service.behaviour = slow
    assert create(service.client(read_timeout=5)) == Created("t-1", "r-1")
    assert len(service.requests) == 1


def test_a_cut_create_is_not_sent_again(service: Service) -> None:
    """A create that is cut before it was read is sent no second time."""
    service.reads_requests = False
    service.behaviour = raw()
    with suppress(NotConnectedError):  # when the cut came before a byte of the body had left
        assert isinstance(create(service.client()), UnknownOutcome)
    assert len(service.connections) == 1


def test_a_create_has_its_own_connection(service: Service) -> None:
    """A create never goes over a connection that another call left open."""
    passed = json.dumps({"output": {"check_pass": True, "face_bbox": [1, 1, 2, 2], "ext_bbox": [0, 0, 9, 9]}}).encode()
    bodies = [passed, CREATED]

    def keep(connection: socket.socket, over: threading.Event) -> None:
        answer(200, bodies.pop(0), "Connection: keep-alive", "Keep-Alive: timeout=60")(connection, over)
        connection.recv(1)  # until the client leaves, as one does that keeps no connection

    service.behaviour = keep
    client = service.client()
    assert isinstance(client.check_portrait(EMO, "https://in/a.png", {"ratio": "1:1"}), CheckPassed)
    assert service.gone.acquire(timeout=10)
    assert create(client) == Created("t-1", "r-1")
    assert len(set(service.connections)) == 2


def test_a_port_that_nobody_listens_on_is_not_connected() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, but not listening
        client = DashScope(f"http://127.0.0.1:{held.getsockname()[1]}", lambda: KEY)
        with pytest.raises(NotConnectedError):
            create(client)
        with pytest.raises(NotConnectedError):
            client.query("t-1")


def test_a_name_that_nobody_knows_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = DashScope("https://emo.example/api/v1", lambda: KEY)
    with pytest.raises(NotConnectedError):
        create(client)
    with pytest.raises(NotConnectedError):
        client.query("t-1")


def test_a_handshake_that_fails_is_not_connected(service: Service) -> None:
    service.reads_requests = False
    service.behaviour = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(NotConnectedError):
        create(service.client(scheme="https"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_not_connected(
    service: Service, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{held.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(NotConnectedError):
            create(service.client(scheme=scheme))
    assert service.requests == []


def test_a_late_create_is_never_sent(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A create whose time ended before it was sent is never sent."""
    looked_up, real = threading.Event(), socket.getaddrinfo

    def slow_lookup(*args: object, **kwargs: object) -> object:
        looked_up.wait(10)
        return real(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)
    with pytest.raises(NotConnectedError):
        create(service.client())
    looked_up.set()
    assert service.gone.acquire(timeout=10)  # the call that was left behind has connected and gone
    assert service.requests == []


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the tests' output readable."""


@pytest.fixture
def files() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietFiles, directory=str(SAMPLES)))
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


def test_a_pair_from_the_check_to_the_link(files: str) -> None:
    """The bundled simulator takes a pair from the check to the link."""
    image, audio = f"{files}/portrait.png", f"{files}/voice.mp3"
    with Simulator(api_key=KEY, manual=True) as sim:
        client = DashScope(sim.base_url, lambda: KEY)
        passed = client.check_portrait(EMO, image, {"ratio": "1:1"})
        assert isinstance(passed, CheckPassed)
        made = [
            client.create(EMO, image_url=image, audio_url=audio, boxes=passed.boxes, parameters={}) for _ in range(2)
        ]
        first, second = (outcome for outcome in made if isinstance(outcome, Created))
        assert {(task.task_id, task.request_id) for task in client.list_tasks(EMO)} == {
            (first.task_id, first.request_id),
            (second.task_id, second.request_id),
        }
        assert all(abs(task.created_at - time.time()) < 60 for task in client.list_tasks(EMO))
        assert client.query(first.task_id).ended is False
        assert client.cancel(second.task_id) is True
        assert client.query(second.task_id).status == "CANCELED"

        sim.finish(first.task_id)
        sim.wait_for(lambda state: state["tasks"][0]["status"] == "SUCCEEDED", seconds=60)
        task = client.query(first.task_id)
        assert (task.status, task.ended) == ("SUCCEEDED", True)
        assert task.video_url is not None
        assert task.video_seconds is not None
        assert task.submit_time is not None
        assert task.end_time is not None
        assert task.submit_time <= task.end_time
        assert abs(task.end_time.timestamp() - time.time()) < 60
        assert client.cancel(first.task_id) is False
        assert client.query("00000000-never-made").status == "UNKNOWN"


def test_the_bundled_simulator_refuses_another_key() -> None:
    with Simulator(api_key=KEY) as sim, pytest.raises(AccountError) as caught:
        DashScope(sim.base_url, lambda: "sk-another").query("t-1")
    assert caught.value.http_status == 401


# Three models at the bundled simulator, which was written from the pages and not from the client

WORDS = ("normal", "calm", "active", "speech", "480P", "720P", "1080P", "1:1", "3:4", "", "0.5", "true", "Normal")
MODEL = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@pytest.fixture(scope="module")
def one_simulator() -> Iterator[Simulator]:
    rates: dict[str, Any] = dict.fromkeys(
        ("check_rate", "create_rate", "query_rate", "list_rate", "cancel_rate", "policy_rate")
    )
    with Simulator(api_key=KEY, task_seconds=0, **rates) as running:
        yield running


@pytest.fixture
def sim(one_simulator: Simulator) -> Iterator[Simulator]:
    yield one_simulator
    one_simulator.reset()


def finished(sim: Simulator, client: DashScope, outcome: object) -> ProviderTask:
    assert isinstance(outcome, Created)
    sim.wait_for(lambda state: state["tasks"][-1]["status"] == "SUCCEEDED", seconds=60)
    return client.query(outcome.task_id)


def boxes_of(passed: object) -> Boxes | None:
    assert isinstance(passed, CheckPassed)
    return passed.boxes


@MODEL
def test_each_model_by_links(sim: Simulator, files: str, model: Model) -> None:
    client = DashScope(sim.base_url, lambda: KEY)
    image, audio = f"{files}/portrait.png", f"{files}/voice.mp3"
    boxes = boxes_of(client.check_portrait(model, image, {}))
    made = client.create(model, image_url=image, audio_url=audio, boxes=boxes, parameters={})
    task = finished(sim, client, made)
    assert task.video_url is not None
    assert task.video_seconds is not None
    assert [row.task_id for row in client.list_tasks(model)] == [task.task_id]
    others = [other for other in MODELS.values() if other is not model]
    assert [client.list_tasks(other) for other in others] == [[], []]
    paid = sim.state()["counters"]["paid_cny"]
    assert paid == {
        model.check_model: model.check_cny,
        model.name: pytest.approx(model.video_fee(task.video_seconds, {})),
    }


@MODEL
def test_each_model_by_upload(sim: Simulator, model: Model) -> None:
    """The portrait goes up twice, and the service reads its own storage only."""
    client = DashScope(sim.base_url, lambda: KEY)

    def up(to: Model | str, name: str) -> str:
        with (SAMPLES / name).open("rb") as file:
            return client.upload(to, file, name, (SAMPLES / name).stat().st_size)

    boxes = boxes_of(client.check_portrait(model, up(model.check_model, "portrait.png"), {}))
    image, audio = up(model, "portrait.png"), up(model, "voice.mp3")
    task = finished(sim, client, client.create(model, image_url=image, audio_url=audio, boxes=boxes, parameters={}))
    assert task.video_url is not None
    state = sim.state()
    assert [file["model"] for file in state["stored"]] == [model.check_model, model.name, model.name]
    assert state["tasks"][0]["image_url"].startswith("oss://")
    assert state["tasks"][0]["audio_sha256"] == state["stored"][2]["sha256"]


def test_a_dedicated_deployment(sim: Simulator, files: str) -> None:
    deployments = {"my-emo": "emo-v1"}
    sim.set(deployments=deployments)
    client, model = DashScope(sim.base_url, lambda: KEY), model_named("my-emo", deployments)
    image, audio = f"{files}/portrait.png", f"{files}/voice.mp3"
    boxes = boxes_of(client.check_portrait(model, image, {"ratio": "3:4"}))
    task = finished(sim, client, client.create(model, image_url=image, audio_url=audio, boxes=boxes, parameters={}))
    assert [row.task_id for row in client.list_tasks(model)] == [task.task_id]
    assert sim.state()["tasks"][0]["video_size"] == [512, 704]


@MODEL
def test_every_parameter_s_bounds_are_the_pages(sim: Simulator, files: str, model: Model) -> None:
    """What one side allows the other takes: both were written from the pages, apart."""
    client = DashScope(sim.base_url, lambda: KEY)
    sim.set(manual=True)
    for parameter in model.parameters:
        values = parameter.choices or ((True, False) if parameter.boolean else (parameter.least, parameter.most))
        for value in values:
            if parameter.call is Call.CHECK:
                given = {parameter.name: value}
                assert isinstance(client.check_portrait(model, f"{files}/portrait.png", given), CheckPassed)
                continue
            made = client.create(
                model,
                image_url=f"{files}/portrait.png",
                audio_url=f"{files}/voice.mp3",
                boxes=BOXES if model.takes_boxes else None,
                parameters={parameter.name: value},
            )
            assert isinstance(made, Created)
            assert sim.state()["tasks"][-1]["parameters"][parameter.name] == value


@settings(derandomize=True, deadline=None, database=None)
@given(st.none() | st.booleans() | st.integers(-2, 40) | st.floats(-1, 40) | st.sampled_from(WORDS))
def test_both_sides_allow_the_same_values(value: object) -> None:
    """But that the client takes 24.0 for a whole number, and sends 24."""
    for model in MODELS.values():
        pages = PAGES[model.name]
        rules = {**pages.rules, **pages.check_rules}
        assert {parameter.name for parameter in model.parameters} == set(rules)
        for parameter in model.parameters:
            if parameter.accepts(value):
                assert rules[parameter.name].allows(parameter.sent(value))  # type: ignore[arg-type]  # accepted
            else:
                assert not rules[parameter.name].allows(value)


def test_both_sides_know_the_same_limits() -> None:
    for model in MODELS.values():
        pages, picture, voice = PAGES[model.name], model.picture, model.voice
        assert (pages.check_name, pages.verdict, pages.boxes) == (model.check_model, model.verdict, model.takes_boxes)
        assert (pages.min_side, pages.max_side) == (picture.min_side, picture.max_side)
        assert (pages.picture_bytes, pages.max_ratio) == (picture.max_bytes, picture.max_ratio)
        assert (pages.voice_bytes, pages.max_seconds) == (voice.max_bytes, voice.max_seconds)
        assert (pages.min_seconds, pages.strict) == (voice.min_seconds, voice.strict)
        for value in model.second_cny:
            given = {model.priced_by: value} if model.priced_by else {}
            assert pages.price(given, value) == model.video_fee(1, given)


@pytest.mark.parametrize(
    ("fault", "endpoint", "kind"),
    [
        ({"close": "before"}, "policy", ProviderIllError),
        ({"status": 503}, "policy", ProviderIllError),
        ({"status": 403, "body": {"code": "AccessDenied", "message": "no"}}, "policy", AccountError),
        ({"close": "before"}, "upload", ProviderIllError),
        ({"close": "after"}, "upload", ProviderIllError),
        ({"status": 500}, "upload", ProviderIllError),
        ({"status": 403, "body": "<Error><Code>AccessDenied</Code></Error>"}, "upload", AccountError),
    ],
)
def test_an_upload_that_fails_paid_nothing(
    sim: Simulator, fault: dict[str, object], endpoint: str, kind: type[Exception]
) -> None:
    sim.fault(fault, endpoint=endpoint)
    client = DashScope(sim.base_url, lambda: KEY)
    with pytest.raises(kind):
        client.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3)
    counters = sim.state()["counters"]
    assert (counters["creates_accepted"], counters["paid_cny"]) == (0, {})
    assert client.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3).startswith("oss://")


def test_an_expired_policy_costs_one_more_turn(sim: Simulator) -> None:
    over = "<Error><Code>AccessDenied</Code><Message>Invalid according to Policy: Policy expired.</Message></Error>"
    sim.fault({"status": 403, "body": over}, endpoint="upload")
    client = DashScope(sim.base_url, lambda: KEY)
    client.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3)
    sim.set(policy_seconds=-1)
    with pytest.raises(ProviderIllError, match="Policy expired"):
        client.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3)
    assert [file["bytes"] for file in sim.state()["stored"]] == [3]
    assert sim.state()["counters"]["requests"] == {"policy": 4, "upload": 4}


def test_a_file_over_the_storage_s_size(sim: Simulator) -> None:
    sim.set(upload_max_mb=1)
    with pytest.raises(JobRefusedError, match="1048576 at most"):
        DashScope(sim.base_url, lambda: KEY).upload(EMO, io.BytesIO(), "a.wav", 1_048_577)


# Nonsense


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_read_or_named(sim: Simulator, files: str, name: str) -> None:
    """No error but ours, nothing unbounded, and a paid task or video is never lost to a form."""
    client = DashScope(sim.base_url, lambda: KEY)
    image, audio = f"{files}/portrait.png", f"{files}/voice.mp3"
    boxes = boxes_of(client.check_portrait(EMO, image, {}))
    sim.fault({"nonsense": name}, times=None)
    made = client.create(EMO, image_url=image, audio_url=audio, boxes=boxes, parameters={})
    unreadable = name in {"deep", "wrong_types"}
    assert isinstance(made, UnknownOutcome if unreadable else Created)
    state = sim.wait_for(lambda state: state["tasks"][-1]["status"] == "SUCCEEDED", seconds=60)
    task_id = state["tasks"][0]["id"]
    if unreadable:
        with pytest.raises(ProviderIllError):
            client.query(task_id)
    else:
        task = client.query(task_id)
        assert (task.status, task.video_url is None) == ("SUCCEEDED", False)
        assert len(json.dumps([task.code, task.message, task.request_id]).encode()) < 2000
        assert task.video_seconds is None or task.video_seconds < 60
        assert (task.submit_time is None) is name.startswith("dates")
    with suppress(ProviderError):
        rows = client.list_tasks(EMO, seconds=10)
        assert [row.task_id for row in rows] == [task_id]
    with suppress(ProviderError):
        assert client.check_portrait(EMO, image, {}) is not None
    with suppress(ProviderError):
        client.cancel(task_id)


@pytest.mark.parametrize("state", [*TROUBLES, "not_found_page"])
def test_what_befalls_every_job_rejects_none(sim: Simulator, files: str, state: str) -> None:
    """The account's and the stack's troubles, in whatever code they come: no job is told to mend its files."""
    if state == "not_found_page":
        sim.fault({"status": 404, "body": "<html>Not Found</html>"}, times=None)
    else:
        sim.trouble(state)
    client = DashScope(sim.base_url, lambda: KEY)
    image, audio = f"{files}/portrait.png", f"{files}/voice.mp3"
    expected = {"down": ProviderIllError, "quota_exceeded": ThrottledError}.get(state, AccountError)
    with pytest.raises(expected):
        client.check_portrait(EMO, image, {})
    with pytest.raises(expected):
        client.query("t-1")
    if state == "down":
        made = client.create(EMO, image_url=image, audio_url=audio, boxes=BOXES, parameters={})
        assert isinstance(made, UnknownOutcome)
    else:
        with pytest.raises(expected):
            client.create(EMO, image_url=image, audio_url=audio, boxes=BOXES, parameters={})


# HTTPS, as the service has it


def certificate_for(address: str, folder: Path) -> tuple[Path, Path]:
    """Make a certificate of one's own for an IP address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


def test_a_stored_pair_over_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key and the face go over TLS only, to the service and to its storage."""
    files = certificate_for("127.0.0.1", tmp_path)
    with Simulator(api_key=KEY, task_seconds=0, certificate=files) as sim:
        client = DashScope(sim.base_url, lambda: KEY)
        assert sim.base_url.startswith("https://")
        with pytest.raises(NotConnectedError):  # nobody vouches for the certificate
            client.query("t-1")
        assert sim.state()["counters"]["requests"] == {}

        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files[0]))
        image = (SAMPLES / "portrait.png").read_bytes()
        voice = (SAMPLES / "voice.mp3").read_bytes()
        links = [
            client.upload(model, io.BytesIO(content), name, len(content))
            for model, content, name in (
                (EMO.check_model, image, "a.png"),
                (EMO, image, "a.png"),
                (EMO, voice, "v.mp3"),
            )
        ]
        boxes = boxes_of(client.check_portrait(EMO, links[0], {}))
        made = client.create(EMO, image_url=links[1], audio_url=links[2], boxes=boxes, parameters={})
        task = finished(sim, client, made)
        assert task.video_url is not None
        assert task.video_url.startswith("https://127.0.0.1:")
