"""Nonsense from the provider: cleaned and bounded in one place, and never an error that isn't ours."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import astuple
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from portraitcast.adapters.dashscope import (
    AccountError,
    CheckPassed,
    CheckRefused,
    Created,
    DashScope,
    JobRefusedError,
    ListedTask,
    NotConnectedError,
    ProviderError,
    ProviderIllError,
    ProviderTask,
    ThrottledError,
    UnknownOutcome,
)
from portraitcast.adapters.dashscope.responses import clean
from portraitcast.domain.models import MODELS, Boxes
from unit.dashscope_wire import BASE, BOXES, EMO, FIXED, KEY, REQUEST_ID, Wire, client, refusal, said

LINK = "https://r.aliyuncs.com/x.mp4?Expires=1&Signature=s"


def ask(output: Any, **more: Any) -> ProviderTask:
    service, _ = client(said(200, {"output": output, "request_id": REQUEST_ID} | more))
    return service.query("t-1")


# Forms in which other clients have met a paid video


@pytest.mark.parametrize(
    "output",
    [
        {"results": {"video_url": LINK}},
        {"results": [{"video_url": LINK}]},
        {"results": [{"code": "x"}, {"video_url": LINK}]},
        {"results": [[{"video_url": LINK}]]},
        {"results": {"0": {"video_url": LINK}}},
        {"results": {"video": {"video_url": LINK}}},
        {"results": {"video_url": [LINK]}},
        {"results": {"video_url": {"url": LINK}}},
        {"results": {"video_urls": [LINK]}},
        {"results": {"url": LINK}},
        {"results": [{"url": LINK}]},
        {"results": {"video_url": ""}, "video_url": LINK},
        {"results": [], "video_url": LINK},
        {"results": None, "video_url": f" {LINK}\n"},
        {"result": {"video_url": LINK}},
        {"results": {"video_url": "not ready", "url": LINK}},
        {"results": {"video_url": "https://r/\ud83d.mp4"}, "video_url": LINK},
    ],
)
def test_a_paid_video_is_found(output: dict[str, Any]) -> None:
    assert ask({"task_status": "SUCCEEDED"} | output).video_url == LINK


@pytest.mark.parametrize(
    "link",
    [
        None,
        7,
        "",
        "r.aliyuncs.com/x.mp4",
        "ftp://r/x.mp4",
        "file:///etc/passwd",
        "https://",
        "https://[",
        "https://r:port/x",
        "https://r:99999/x",
        "https://u:p@r/x",
        "https://r/a b",
        "https://r/\x00",
        "https://r/\ud800",
        "https://r/" + "x" * 5000,
        "https://\u202er/x",
    ],
)
def test_what_is_no_link_is_no_video(link: Any) -> None:
    assert ask({"task_status": "SUCCEEDED", "results": {"video_url": link}}).video_url is None


def test_an_input_s_link_is_no_video() -> None:
    """An answer may repeat the request: the portrait must not be delivered as the video."""
    output = {"task_status": "SUCCEEDED", "input": {"url": LINK}, "image_url": LINK, "results": {"image_url": LINK}}
    assert ask(output).video_url is None


# Times, numbers, words


@pytest.mark.parametrize(
    "value",
    [
        "0001-01-01 00:00:00",
        "1969-12-31 23:59:59",
        "1970-01-01 00:00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31 23:59:59.999",
        "9999-12-31T23:59:59-14:00",
        "2101-01-01 00:00:00",
        "2025-02-30 00:00:00",
        "2025-12-26 25:00:00",
        "2025-12-26 11:33:03" + "0" * 300_000,
        "\ud800",
        "\x00",
        1e300,
        {},
    ],
)
def test_a_time_before_any_epoch_is_not_known(value: Any) -> None:
    task = ask({"task_status": "RUNNING", "submit_time": value, "scheduled_time": value, "end_time": value})
    assert (task.submit_time, task.scheduled_time, task.end_time) == (None, None, None)


@pytest.mark.parametrize("value", ["2025-12-26T03:33:03+00:00", "2025-12-26T03:33:03Z", "2025-12-26 11:33:03"])
def test_a_time_with_a_zone_is_the_same_moment(value: str) -> None:
    moment = ask({"task_status": "RUNNING", "submit_time": value}).submit_time
    assert moment is not None
    assert moment.isoformat() == "2025-12-26T11:33:03+08:00"


@pytest.mark.parametrize("digits", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "86401", "-1"])
def test_a_length_out_of_range_is_not_known(digits: str) -> None:
    body = b'{"output": {"task_status": "SUCCEEDED"}, "usage": {"video_duration": %s}}' % digits.encode()
    service, _ = client(said(200, body))
    assert service.query("t-1").video_seconds is None


@pytest.mark.parametrize("digits", ["NaN", "1e999", "9" * 5000])
def test_an_odd_number_loses_no_paid_task(digits: str) -> None:
    """An odd number elsewhere does not lose a paid task."""
    service, _ = client(said(200, b'{"output": {"task_id": "t-1", "queue": %s}}' % digits.encode()))
    outcome = service.create(EMO, image_url="https://a", audio_url="https://b", boxes=BOXES, parameters={})
    assert outcome == Created("t-1", None)


@pytest.mark.parametrize(
    "content",
    [
        b'{"output": {"task_id": "t-1"}, "message": "\xff\xfe caf\xe9"}',
        b'\xef\xbb\xbf{"output": {"task_id": "t-1"}}',
        b'{"output": {"task_id": "t-1"}, "message": "\\ud83d"}',
        '{"output": {"task_id": "t-1"}, "message": "\u4e2d\u6587"}'.encode("gbk"),
    ],
)
def test_a_wrong_byte_does_not_lose_a_paid_task(content: bytes) -> None:
    service, _ = client(said(200, content))
    outcome = service.create(EMO, image_url="https://a", audio_url="https://b", boxes=BOXES, parameters={})
    assert outcome == Created("t-1", None)


@pytest.mark.parametrize(
    ("said_by_provider", "read"),
    [
        ("half \ud83d a pair", "half \N{REPLACEMENT CHARACTER} a pair"),
        ("two\r\nlines\tand\x00 nothing", "two lines and\N{REPLACEMENT CHARACTER} nothing"),
        ("turned \u202e round", "turned \N{REPLACEMENT CHARACTER} round"),
        ("  much   space  ", "much space"),
        ("x" * 300_000, "x" * 500),
        ("word " * 60_000, ("word " * 100).strip()),
        ("\ud800" * 100_000, "\N{REPLACEMENT CHARACTER}" * 500),
    ],
)
def test_a_failed_task_s_words_can_be_stored(said_by_provider: str, read: str) -> None:
    task = ask({"task_status": "FAILED", "code": "InternalError.Algo", "message": said_by_provider})
    assert (task.code, task.message, task.ended) == ("InternalError.Algo", read, True)
    service, _ = client(refusal(400, "InvalidFile.Value", said_by_provider))
    with pytest.raises(JobRefusedError) as caught:
        service.query("t-1")
    assert caught.value.message == read


def test_a_long_text_keeps_no_half_of_a_secret() -> None:
    for at in range(2100, 2300):
        told = clean(f"{'x ' * (at // 2)}https://user:hunter2hunter2@in/a.mp3 {'y' * 5000}", 500)
        assert "hunter2" not in told
    links = "https://u:p@h/?" + "s" * 40 + " "
    assert "sss" not in clean(links * 200, 500)


def test_ids_are_bounded() -> None:
    service, _ = client(said(200, {"output": {"task_id": "t-1"}, "request_id": "r" * 300_000}))
    outcome = service.create(EMO, image_url="https://a", audio_url="https://b", boxes=BOXES, parameters={})
    assert outcome == Created("t-1", None)
    task = ask({"task_status": "R" * 300_000})
    assert len(task.status) == 40


@pytest.mark.parametrize("status", ["succeeded", " Succeeded\n", "SUCCEEDED"])
def test_a_status_is_read_in_any_case(status: str) -> None:
    assert ask({"task_status": status}).status == "SUCCEEDED"


@pytest.mark.parametrize("depth", [100, 2000, 100_000])
def test_deep_nesting_is_no_error_of_ours(depth: int) -> None:
    nested = b'{"output": {"task_status": "SUCCEEDED", "results": ' + b"[" * depth + b"]" * depth + b"}}"
    service, _ = client(said(200, nested))
    try:
        assert service.query("t-1").video_url is None
    except ProviderIllError:
        assert depth > 500


@pytest.mark.parametrize(
    "box", [[0, 0, 100_001, 9], [-100_001, 0, 9, 9], [0, 0, "9" * 50, 9], [0, 0, [9], 9], [0, 0, "1e999", 9]]
)
def test_a_box_out_of_range_is_nonsense(box: Any) -> None:
    output = {"check_pass": True, "face_bbox": box, "ext_bbox": list(BOXES.ext)}
    service, _ = client(said(200, {"output": output}))
    with pytest.raises(ProviderIllError):
        service.check_portrait(EMO, "https://in/a.png", {})


@pytest.mark.parametrize("created", [-1, 0, 1e15, 1e300, "1e999", float("nan"), 4_102_444_800_000])
def test_a_row_of_no_time_spoils_the_list(created: Any) -> None:
    service, _ = client(said(200, {"data": [{"task_id": "t-1", "gmt_create": created}], "total": 1}))
    with pytest.raises(ProviderIllError):
        service.list_tasks(EMO)


@pytest.mark.parametrize(
    "value", ["1e999", "nan", "9" * 500, "Fri, 31 Dec 99999 23:59:59 GMT", "\udc80", "Mon, 01 Jan 0001 00:00:00 +1400"]
)
def test_a_wait_that_cannot_be_read_is_none(value: str) -> None:
    service, _ = client(refusal(429, "Throttling", **{"Retry-After": value}))
    with pytest.raises(ThrottledError) as caught:
        service.query("t-1")
    assert caught.value.retry_after is None or 0 <= caught.value.retry_after <= 86_400


def test_words_are_found_where_sisters_put_them() -> None:
    """An OpenAI-compatible address answers in another form: somebody has taken it for the base."""
    body = {"error": {"message": "Invalid URL (POST /v1/tasks)", "type": "invalid_request_error", "code": None}}
    for status, answer in ((404, body), (404, {"error": {"code": "model_not_found", "message": "no"}})):
        service, _ = client(said(status, answer))
        with pytest.raises(AccountError):
            service.query("t-1")


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("page", [b"", b"<html>Not Found</html>", b'{"timestamp": 1, "status": 404, "path": "/x"}'])
def test_an_address_that_is_not_there(status: int, page: bytes) -> None:
    """A wrong base address befalls every job: nothing was paid, and nobody is told to mend a file."""
    service, _ = client(*[said(status, page)] * 3)
    with pytest.raises(AccountError, match="base address") as caught:
        service.create(EMO, image_url="https://a", audio_url="https://b", boxes=BOXES, parameters={})
    assert caught.value.code == f"HTTP{status}"
    with pytest.raises(AccountError):
        service.check_portrait(EMO, "https://a", {})
    with pytest.raises(AccountError):
        service.list_tasks(EMO)


@pytest.mark.parametrize(
    ("code", "message", "about"),
    [
        ("InvalidFile.NoHuman", "", True),
        ("InvalidURL.Timeout", "", True),
        ("DataInspectionFailed", "Input data may contain inappropriate content.", True),
        ("InvalidParameter", "The input audio is longer than 60s.", True),
        ("InvalidParameter", "The style_level is invalid.", True),
        ("InvalidParameter", "Required parameter(s) missing or invalid, please check the request parameters.", False),
        ("SomethingNew", "", False),
    ],
)
def test_a_refusal_says_whether_it_names_an_input(code: str, message: str, *, about: bool) -> None:
    assert JobRefusedError(code, message).names_an_input is about


# Errors that are nobody's


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        UnicodeError("label too long"),
        AttributeError("x"),
        KeyError("x"),
        MemoryError(),
        RecursionError(),
        requests.exceptions.InvalidURL("x"),
        requests.exceptions.InvalidHeader("x"),
        OSError("x"),
    ],
)
def test_no_foreign_error_gets_out(error: Exception) -> None:
    service, _ = client(error, error, error)
    outcome = service.create(EMO, image_url="https://a", audio_url="https://b", boxes=BOXES, parameters={})
    assert isinstance(outcome, UnknownOutcome)
    with pytest.raises((ProviderIllError, NotConnectedError)):
        service.query("t-1")
    with pytest.raises((ProviderIllError, NotConnectedError)):
        service.list_tasks(EMO)


def test_no_thread_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    service, wire = client(said(200, {}))
    with pytest.raises(NotConnectedError):
        service.query("t-1")
    assert wire.sent == []


def test_a_sign_to_end_is_passed_on() -> None:
    service, _ = client(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        service.query("t-1")


@pytest.mark.parametrize("key", [None, b"sk-0123456789abcdef", 7])
def test_a_key_of_a_wrong_type_is_missing(key: Any) -> None:
    wire, session = Wire(), requests.Session()
    session.mount("https://", wire)
    with pytest.raises(AccountError) as caught:
        DashScope(BASE, lambda: key, session=session).query("t-1")
    assert caught.value.code == "ApiKeyMissing"
    assert wire.sent == []


# The whole answer of every call

TEXT = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ["\ud800", "x" * 3000, "0001-01-01 00:00:00", "9999-12-31T23:59:59-23:59", "1e999", "NaN", LINK, "true", "t-1", ""]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


def mixed(**right: Any) -> st.SearchStrategy[Any]:
    """Objects whose fields are right, anything, or missing."""
    return st.fixed_dictionaries({}, optional={name: st.just(value) | JSON for name, value in right.items()}) | JSON


ROW = mixed(task_id="t-1", gmt_create=1766720000000, model_name="emo-v1", request_id="r-1", api_key_id="1")
OUTPUT = mixed(
    task_id="t-1",
    task_status="SUCCEEDED",
    submit_time="2025-12-26 11:33:03.146",
    scheduled_time="2025-12-26 11:33:13.312",
    end_time="2025-12-26 11:33:22.455",
    results={"video_url": LINK},
    video_url=LINK,
    check_pass=True,
    face_bbox=list(BOXES.face),
    ext_bbox=list(BOXES.ext),
    code="Arrearage",
    message="m",
    **{"pass": True},
)
ANSWER = (
    st.fixed_dictionaries(
        {},
        optional={
            "output": OUTPUT,
            "usage": mixed(video_duration=2.5, duration=3),
            "request_id": st.just("r-1") | JSON,
            "code": st.sampled_from(["Arrearage", "InvalidParameter", "Throttling", "InternalError.Algo"]) | JSON,
            "message": st.just("url error, please check url") | JSON,
            "error": mixed(code="model_not_found", message="m"),
            "data": st.lists(ROW, max_size=3) | JSON,
            "total": st.integers(0, 3) | JSON,
            "total_page": st.integers(0, 2) | JSON,
        },
    )
    | JSON
)
STATUS = st.sampled_from([200, 202, 204, 302, 400, 401, 403, 404, 405, 408, 413, 429, 500, 503])
HEADERS = st.fixed_dictionaries({}, optional={"Retry-After": st.text(st.characters(codec="latin-1"), max_size=40)})


def assert_fit(value: Any) -> None:
    """What gets out can be stored as UTF-8 and JSON, is bounded, and is finite."""
    if isinstance(value, str):
        assert len(value) <= 4096
        value.encode()
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, datetime):
        assert 2019 < value.year < 2101
        assert value.utcoffset() == timedelta(hours=8)
        assert value.timestamp() > 0
    elif isinstance(value, list | tuple):
        for each in value:
            assert_fit(each)


def assert_ours(error: ProviderError, status: int) -> None:
    assert type(error) in (JobRefusedError, AccountError, ThrottledError, NotConnectedError, ProviderIllError)
    assert error.http_status in (status, None)
    assert 1 <= len(error.code) <= 100
    assert len(error.message) <= 500
    assert error.retry_after is None or 0 <= error.retry_after <= 86_400
    assert_fit([error.code, error.message, error.request_id, str(error), repr(error)])
    json.dumps(vars(error), allow_nan=False).encode()


@FIXED
@given(STATUS, ANSWER, HEADERS, st.sampled_from(list(MODELS.values())))
@example(200, {"output": {"check_pass": False, "code": "\ud800"}}, {}, EMO)
def test_whatever_is_answered(status: int, answer: Any, headers: Any, model: Any) -> None:
    """Whatever is answered a call ends as it says."""
    content = json.dumps(answer).encode()
    service, wire = client(*[said(status, content, headers)] * 5)
    calls = (
        (lambda: service.query("t-1"), ProviderTask),
        (lambda: service.check_portrait(model, "https://in/a.png", {}), (CheckPassed, CheckRefused)),
        (lambda: service.list_tasks(model, seconds=60), list),
        (lambda: service.cancel("t-1"), bool),
    )
    for call, kind in calls:
        wire.answers = [said(status, content, headers)] * 300
        try:
            outcome = call()
        except ProviderError as error:
            assert_ours(error, status)
        else:
            assert 200 <= status < 300 or isinstance(outcome, bool | CheckRefused)
            assert isinstance(outcome, kind)
            if isinstance(outcome, list):
                assert all(isinstance(row, ListedTask) for row in outcome)
                assert_fit([astuple(row) for row in outcome])
            elif isinstance(outcome, ProviderTask | CheckRefused):
                assert_fit(astuple(outcome))
            elif isinstance(outcome, CheckPassed):
                assert isinstance(outcome.boxes, Boxes) is model.takes_boxes
    wire.sent.clear()
    boxes = BOXES if model.takes_boxes else None
    try:
        made = service.create(model, image_url="https://a", audio_url="https://b", boxes=boxes, parameters={})
    except (JobRefusedError, AccountError, ThrottledError) as error:
        assert 400 <= status < 500
        assert_ours(error, status)
    else:
        assert isinstance(made, UnknownOutcome) or 200 <= status < 300
        assert_fit(astuple(made))
    assert len(wire.sent) == 1


@FIXED
@given(STATUS, st.binary(max_size=300), HEADERS)
def test_whatever_bytes_are_answered(status: int, content: bytes, headers: Any) -> None:
    service, _ = client(*[said(status, content, headers)] * 3)
    try:
        service.query("t-1")
    except ProviderError as error:
        assert_ours(error, status)
    try:
        made = service.create(EMO, image_url="https://a", audio_url="https://b", boxes=BOXES, parameters={})
    except (JobRefusedError, AccountError, ThrottledError) as error:
        assert_ours(error, status)
    else:
        assert_fit(astuple(made))


def test_a_key_is_never_told() -> None:
    assert KEY not in repr(client()[0])
