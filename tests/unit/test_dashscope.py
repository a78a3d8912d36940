"""The service's client: what it sends, how it reads answers, and how it sorts every error by what to do."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3

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
from portraitcast.adapters.dashscope import client as dashscope_client
from portraitcast.adapters.dashscope.transport import ANSWER_MAX_BYTES
from unit.dashscope_wire import BASE, BOXES, EMO, KEY, REQUEST_ID, client, refusal, said

if TYPE_CHECKING:
    from portraitcast.domain.models import Boxes


def create(service: DashScope) -> Created | UnknownOutcome:
    return service.create(
        EMO,
        image_url="https://in/a.png?sig=1",
        audio_url="https://in/a.mp3?sig=2",
        boxes=BOXES,
        parameters={"style_level": "calm", "ratio": "3:4"},
    )


CREATED = said(200, {"output": {"task_id": "86ecf553-d340", "task_status": "PENDING"}, "request_id": REQUEST_ID})
PASSED = {"check_pass": True, "face_bbox": list(BOXES.face), "ext_bbox": list(BOXES.ext)}


# What is sent


def common_headers(request: requests.PreparedRequest) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


@pytest.mark.parametrize("base", [BASE, BASE + "/"])
def test_a_check_s_request(base: str) -> None:
    """A check names its model and always the ratio and is synchronous."""
    service, wire = client(said(200, {"output": PASSED, "request_id": REQUEST_ID}), base=base)
    assert service.check_portrait(EMO, "https://in/a.png?x=%2F", {"ratio": "3:4"}) == CheckPassed(BOXES)
    (request,) = wire.sent
    assert (request.method, request.url) == ("POST", BASE + "/services/aigc/image2video/face-detect")
    assert wire.bodies == [
        {"model": "emo-detect-v1", "input": {"image_url": "https://in/a.png?x=%2F"}, "parameters": {"ratio": "3:4"}}
    ]
    headers = common_headers(request)
    assert "x-dashscope-async" not in headers
    assert (headers["authorization"], headers["content-type"]) == (f"Bearer {KEY}", "application/json")


def test_a_create_s_request() -> None:
    """A create is asynchronous and holds all four inputs and the style only."""
    service, wire = client(CREATED)
    assert create(service) == Created("86ecf553-d340", REQUEST_ID)
    (request,) = wire.sent
    assert (request.method, request.url) == ("POST", BASE + "/services/aigc/image2video/video-synthesis")
    assert wire.bodies == [
        {
            "model": "emo-v1",
            "input": {
                "image_url": "https://in/a.png?sig=1",
                "audio_url": "https://in/a.mp3?sig=2",
                "face_bbox": [302, 286, 610, 593],
                "ext_bbox": [71, 9, 840, 778],
            },
            "parameters": {"style_level": "calm"},
        }
    ]
    headers = common_headers(request)
    assert (headers["x-dashscope-async"], headers["content-type"]) == ("enable", "application/json")
    assert headers["content-length"] == str(len(json.dumps(wire.bodies[0])))
    assert "transfer-encoding" not in headers


def test_query_and_cancel_carry_the_key_and_no_body() -> None:
    service, wire = client(said(200, {"output": {"task_status": "RUNNING"}}), said(200, {"request_id": REQUEST_ID}))
    service.query("86ecf553-d340")
    assert service.cancel("86ecf553-d340") is True
    assert [(request.method, request.url) for request in wire.sent] == [
        ("GET", BASE + "/tasks/86ecf553-d340"),
        ("POST", BASE + "/tasks/86ecf553-d340/cancel"),
    ]
    assert wire.bodies == [None, None]
    for headers in map(common_headers, wire.sent):
        assert headers["authorization"] == f"Bearer {KEY}"
        assert not {"x-dashscope-async", "content-type"} & set(headers)


def test_the_version_in_the_user_agent_is_the_project_s() -> None:
    service, wire = client(CREATED)
    create(service)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert wire.sent[0].headers["User-Agent"] == f"portraitcast/{project['version']}"


def test_a_netrc_cannot_put_another_key_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine emo.example login me password other")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    service, wire = client(CREATED)
    create(service)
    assert wire.sent[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("task_id", ["", "..", "../x", "a/b", "a?b", "a b", "é", "x" * 201])
def test_what_is_no_task_id_never_gets_into_a_path(task_id: str) -> None:
    service, wire = client()
    for call in (service.query, service.cancel):
        with pytest.raises(JobRefusedError, match="not the id of a task"):
            call(task_id)
    assert wire.sent == []


@pytest.mark.parametrize("base", ["", "emo.example", "ftp://emo.example", "https://", "https://emo.example/?x=1"])
def test_a_base_url_must_be_an_http_address(base: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        DashScope(base, lambda: KEY)


# The key


@pytest.mark.parametrize(
    "key", ["", "  ", "not-set", "REPLACE_ME", "changeme", "<your key>", "sk-a\r\nX-Evil: 1", "sk-a b", "sk-é", "sk-\0"]
)
def test_a_key_that_is_none(key: str) -> None:
    """A missing or impossible key is the account's trouble and nothing is sent."""
    service, wire = client(key=key)
    with pytest.raises(AccountError) as caught:
        create(service)
    assert caught.value.code == "ApiKeyMissing"
    assert wire.sent == []
    assert not key.strip() or key.strip() not in str(caught.value)


@pytest.mark.parametrize("error", [KeyError(KEY), ValueError(KEY)])
def test_a_key_that_can_not_be_looked_up_is_missing(error: Exception) -> None:
    def no_key() -> str:
        raise error

    with pytest.raises(AccountError) as caught:
        DashScope(BASE, no_key).query("t")
    assert caught.value.code == "ApiKeyMissing"
    assert KEY not in str(caught.value)


def test_white_space_around_the_key_is_taken_off() -> None:
    service, wire = client(CREATED, key=f" {KEY}\n")
    create(service)
    assert wire.sent[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_key_s_mark_tells_it_from_another() -> None:
    one, _ = client(key=KEY)
    other, _ = client(key=KEY[::-1].replace("-ks", "x"))
    mark = one.key_mark()
    assert mark is not None
    assert (len(mark), mark in KEY) == (8, False)
    assert (client(key=KEY)[0].key_mark(), other.key_mark()) == (mark, other.key_mark())
    assert mark != other.key_mark()
    assert client(key="not-set")[0].key_mark() is None


# Errors, by what to do about them

FREE_QUOTA = "Free allocated quota exceeded."
THROTTLED = [
    (429, "Throttling", "Requests throttled."),
    (429, "Throttling.RateQuota", ""),
    (429, "Throttling.BurstRate", ""),
    (429, "Throttling.Concurrency", ""),
    (429, "Throttling.AllocationQuota", "Allocated quota exceeded, please increase your quota limit."),
    (429, "SomethingNew", ""),
    (400, "Throttling.User", ""),
]
ACCOUNT = [
    (401, "InvalidApiKey", "Invalid API-key provided."),
    (401, "SomethingNew", ""),
    (400, "Arrearage", "Access denied, please make sure your account is in good standing."),
    (403, "AccessDenied", "current user api does not support synchronous calls."),
    (403, "AccessDenied.Unpurchased", ""),
    (403, "Model.AccessDenied", ""),
    (403, "Workspace.AccessDenied", ""),
    (403, "Endpoint.AccessDenied", ""),
    (403, "AllocationQuota.FreeTierOnly", ""),
    (404, "ModelNotFound", ""),
    (429, "CommodityNotPurchased", ""),
    (429, "PrepaidBillOverdue", ""),
    (429, "PostpaidBillOverdue", ""),
    (429, "Throttling.AllocationQuota", FREE_QUOTA),
    # what befalls every job, whatever its code: a wrong base address, another region, a model that isn't opened
    (400, "InvalidParameter", "url error, please check url\uff01"),
    (400, "InvalidParameter", "url error, please check url\uff01 For details, see: https://help.aliyun.com/error-code"),
    (400, "InvalidURL", "Invalid URL provided in your request."),
    (400, "InvalidParameter", "Request path is invalid."),
    (400, "BadRequest.EmptyModel", 'Required parameter "model" missing from request.'),
    (400, "UnsupportedOperation", "The operation is unsupported on the referee object."),
    (400, "InvalidParameter", "Model not exist."),
    (400, "InvalidParameter", "Model wan2.2-s2v does not exist"),
    (400, "InvalidParameter", "current user api does not support asynchronous calls."),
    (404, "WorkSpaceNotFound", "WorkSpace can not be found."),
    (404, "model_not_found", "The model `emo-v1` does not exist or you do not have access to it."),
    (401, "invalid_api_key", "Incorrect API key provided."),
    (403, "SomethingNew", ""),
    (404, "SomethingNew", ""),
    (405, "MethodNotAllowed", "Request method 'POST' is not supported."),
]
REFUSED = [
    (400, "InvalidParameter", "The style_level is invalid."),
    (400, "InvalidParameter.DataInspection", "Unable to download the media resource during the data inspection."),
    (400, "InvalidURL", "The input audio is longer than 60s."),
    (400, "InvalidURL.Timeout", ""),
    (400, "InvalidURL.ConnectionRefused", ""),
    (400, "BadRequest.TooLarge", ""),
    (400, "DataInspectionFailed", ""),
    (400, "IPInfringementSuspect", ""),
    (400, "SomethingNew", ""),
    (404, "InvalidURL.ConnectionRefused", "The audio is not there."),
    (400, "InvalidParameter", "The model has found no face: the portrait's style is not supported"),
    (400, "InvalidURL", "File type is not supported. Allowed types are: .wav, .mp3."),
    (413, "BadRequest.TooLarge", ""),
]
ILL = [
    (500, "InternalError", ""),
    (500, "InternalError.Algo", ""),
    (500, "InternalError.Timeout", ""),
    (500, "SystemError", ""),
    (500, "ModelServiceFailed", ""),
    (503, "ModelServingError", ""),
    (503, "ModelUnavailable", ""),
    (504, "RequestTimeOut", ""),
    (400, "RequestTimeOut", ""),
    (408, "SomethingNew", ""),
    (429, "InternalError.Busy", ""),
    (500, "InvalidParameter", ""),
    (503, "Arrearage", ""),
    (503, "Throttling", ""),
]
CERTAIN = [
    *((row, ThrottledError) for row in THROTTLED),
    *((row, AccountError) for row in ACCOUNT),
    *((row, JobRefusedError) for row in REFUSED),
]


@pytest.mark.parametrize(("row", "kind"), [*CERTAIN, *((row, ProviderIllError) for row in ILL)])
def test_an_error_is_sorted(row: tuple[int, str, str], kind: type[ProviderError]) -> None:
    """An error is sorted by what to do about it."""
    status, code, message = row
    service, _ = client(refusal(status, code, message))
    with pytest.raises(ProviderError) as caught:
        service.query("t")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.http_status, caught.value.request_id) == (code, status, REQUEST_ID)
    assert caught.value.message == (message or f"HTTP {status} without a message")


@pytest.mark.parametrize(("row", "kind"), CERTAIN)
def test_a_refused_create_is_not_paid(row: tuple[int, str, str], kind: type[ProviderError]) -> None:
    """A create refused in the provider's words is not paid."""
    service, wire = client(refusal(*row))
    with pytest.raises(kind):
        create(service)
    assert len(wire.sent) == 1


@pytest.mark.parametrize("row", ILL)
def test_a_create_at_an_ill_provider(row: tuple[int, str, str]) -> None:
    """Of a create that met an ill provider nobody knows."""
    service, wire = client(refusal(*row))
    outcome = create(service)
    assert isinstance(outcome, UnknownOutcome)
    assert row[1] in outcome.reason
    assert outcome.request_id == REQUEST_ID
    assert len(wire.sent) == 1


@pytest.mark.parametrize(
    "answer",
    [
        said(400, b"<html>Bad Request</html>"),
        said(410, b"gone"),
        said(400, b'{"code": "InvalidParameter", "mess'),
        said(400, {"message": "no code"}),
        said(400, {"code": "", "message": "x"}),
        said(400, {"code": " "}),
        said(400, {"code": 400}),
        said(400, [{"code": "InvalidParameter"}]),
        said(401, b""),
        said(403, b"blocked by a firewall"),
        said(429, b"slow down"),
        said(502, b"<html>Bad Gateway</html>"),
        said(301, b"", {"Location": "https://emo.example/elsewhere"}),
        said(307, b"", {"Location": "https://emo.example/elsewhere"}),
        said(200, b""),
        said(200, b"<html>Welcome to the hotel</html>"),
        said(200, b'{"output": {"task_id": "86ec'),
        said(200, b"[" * 100_000),
        said(200, {"request_id": REQUEST_ID}),
        said(200, {"output": None}),
        said(200, {"output": {"task_id": None}}),
        said(200, {"output": {"task_id": ""}}),
        said(200, {"output": {"task_id": 7}}),
        said(200, {"output": {"task_id": "../x"}}),
        said(200, {"output": {"task_id": "x" * 201}}),
        said(200, {"code": "InvalidParameter", "message": "with 200"}),
        said(200, b" " * (ANSWER_MAX_BYTES + 1)),
        requests.ReadTimeout("read"),
        requests.ConnectionError("reset"),
        requests.exceptions.ChunkedEncodingError("cut"),
        requests.exceptions.SSLError("in the answer"),
        urllib3.exceptions.DecodeError("bad"),
    ],
)
def test_any_other_outcome_of_a_create_is_unknown(answer: Any) -> None:
    service, wire = client(answer)
    outcome = create(service)
    assert isinstance(outcome, UnknownOutcome)
    assert outcome.reason
    assert len(wire.sent) == 1


@pytest.mark.parametrize("call", [create, lambda service: service.query("t"), lambda service: service.list_tasks(EMO)])
def test_a_connection_that_was_never_made_is_told_apart(call: Any) -> None:
    service, wire = client(requests.ConnectTimeout(f"to {BASE}"))
    with pytest.raises(NotConnectedError) as caught:
        call(service)
    assert caught.value.http_status is None
    assert "emo.example" not in str(caught.value)
    assert wire.sent == []


@pytest.mark.parametrize(
    "answer",
    [
        said(502, b"<html>"),
        said(401, b"<html>"),
        said(429, b"slow down"),
        said(302, b"", {"Location": "https://x"}),
        said(200, b"<html>"),
        said(200, b"{"),
        said(200, {"output": {}}),
        requests.ReadTimeout("read"),
        requests.ConnectionError("reset"),
    ],
)
@pytest.mark.parametrize(
    "call", [lambda service: service.query("t"), lambda service: service.check_portrait(EMO, "https://in/a.png", {})]
)
def test_nonsense_is_an_illness(call: Any, answer: Any) -> None:
    """Nonsense in answer to what may be repeated is the provider's illness."""
    service, _ = client(answer)
    with pytest.raises(ProviderIllError):
        call(service)


@pytest.mark.parametrize(
    ("code", "message", "worth"),
    [
        ("InvalidURL.Timeout", "", True),
        ("InvalidURL.ConnectionRefused", "", True),
        ("InvalidParameter.DataInspection", "Unable to download the media resource", True),
        ("InvalidParameter.DataInspection", "The picture holds something else", False),
        ("InvalidParameter", "Unable to download", False),
        ("InvalidURL", "The input audio is longer than 60s.", False),
    ],
)
def test_a_failed_download_is_worth_one_more_try(code: str, message: str, worth: bool) -> None:
    service, _ = client(refusal(400, code, message))
    with pytest.raises(JobRefusedError) as caught:
        create(service)
    assert caught.value.worth_one_more_try is worth


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (" 1.5 ", 1.5), ("0", 0.0), ("-3", None), ("soon", None), ("1e999", None), ("999999999", 86_400.0)],
)
def test_a_wait_that_the_provider_asks_for_is_told_on(value: str, seconds: float | None) -> None:
    service, _ = client(refusal(429, "Throttling", **{"Retry-After": value}))
    with pytest.raises(ThrottledError) as caught:
        create(service)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(("ahead", "least", "most"), [(90, 80, 90), (-90, 0, 0)])
def test_a_wait_may_be_told_as_a_moment(ahead: int, least: float, most: float) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead))
    service, _ = client(refusal(429, "Throttling", **{"Retry-After": moment}))
    with pytest.raises(ThrottledError) as caught:
        create(service)
    assert caught.value.retry_after is not None
    assert least <= caught.value.retry_after <= most


def test_no_secret_gets_out_of_an_error() -> None:
    """No key and no link's secret gets out of an error."""
    message = f"Unable to download https://u:hunter2@in/a.mp3?X-Amz-Signature=abc for {KEY} and sk-another0key"
    for answer in (refusal(400, "InvalidURL", message), refusal(500, "InternalError", message)):
        service, _ = client(answer, answer)
        told = ""
        try:
            told += f"{create(service)!r}"
        except ProviderError as error:
            told += f"{error} {error!r} {vars(error)}"
        try:
            service.query("t")
        except ProviderError as error:
            told += f"{error} {error!r} {vars(error)}"
        assert "https://in/a.mp3" in told
        assert not [secret for secret in ("hunter2", "Signature", KEY, "another0key") if secret in told]


def test_a_key_of_any_shape_is_taken_out_of_an_echo() -> None:
    key = "0123456789abcdefghij"
    service, _ = client(refusal(401, "InvalidApiKey", f"Bearer {key} is wrong"), key=key)
    with pytest.raises(AccountError) as caught:
        service.query("t")
    assert caught.value.message == "Bearer ... is wrong"


def test_the_provider_s_words_are_kept_to_a_length() -> None:
    service, _ = client(refusal(400, "InvalidParameter" * 100, "x" * 100_000))
    with pytest.raises(JobRefusedError) as caught:
        create(service)
    assert (len(caught.value.code), len(caught.value.message)) == (100, 500)


# The portrait check


@pytest.mark.parametrize(
    ("output", "boxes"),
    [
        (PASSED, BOXES),
        (PASSED | {"humanoid": True, "code": "", "message": ""}, BOXES),
        (PASSED | {"check_pass": "true"}, BOXES),
        ({"face_bbox": [302.0, 286.4, "610", 593], "ext_bbox": [71, 9, 840, 778]}, BOXES),
        (PASSED | {"ext_bbox": [-4, -2, 840, 778]}, replace(BOXES, ext=(-4, -2, 840, 778))),
    ],
)
def test_a_passed_check_gives_the_boxes(output: dict[str, Any], boxes: Boxes) -> None:
    service, _ = client(said(200, {"output": output, "usage": {"image_count": 1}}))
    assert service.check_portrait(EMO, "https://in/a.png", {"ratio": "1:1"}) == CheckPassed(boxes)


@pytest.mark.parametrize(
    "box",
    [
        None,
        [],
        [1, 2, 3],
        [1, 2, 3, "x"],
        [3, 0, 2, 9],
        [0, 9, 9, 9],
        [True, 0, 9, 9],
        [0, 0, None, 9],
        [0, 0, 1e999, 9],
        "0,0,9,9",
        {},
    ],
)
@pytest.mark.parametrize("name", ["face_bbox", "ext_bbox"])
def test_a_pass_without_boxes_is_nonsense(name: str, box: Any) -> None:
    """A passed check without usable boxes is nonsense."""
    service, _ = client(said(200, {"output": PASSED | {name: box}, "request_id": REQUEST_ID}))
    with pytest.raises(ProviderIllError) as caught:
        service.check_portrait(EMO, "https://in/a.png", {"ratio": "1:1"})
    assert caught.value.request_id == REQUEST_ID


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (
            said(200, {"output": {"check_pass": False, "code": "InvalidFile.FullFace", "message": "x"}}),
            "InvalidFile.FullFace",
            "x",
        ),
        (said(200, {"output": {"check_pass": False, "code": "", "message": ""}}), "", ""),
        (said(200, {"output": {"check_pass": "False"}}), "", ""),
        (said(200, {"output": {"check_pass": False}, "code": "InvalidFile.NoHuman"}), "InvalidFile.NoHuman", ""),
        (said(400, {"code": "InvalidFile.Resolution", "message": "y"}), "InvalidFile.Resolution", "y"),
        (said(400, {"output": {"code": "InvalidFile.Value", "message": "z"}}), "InvalidFile.Value", "z"),
    ],
)
def test_a_refused_portrait_is_told_with_200_or_400(answer: Any, code: str, message: str) -> None:
    service, _ = client(answer)
    verdict = service.check_portrait(EMO, "https://in/a.png", {"ratio": "1:1"})
    assert isinstance(verdict, CheckRefused)
    assert verdict.code == code
    assert verdict.message == message or (not message and "without a message" in verdict.message)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("InternalError.Algo", "", ProviderIllError),
        ("InvalidURL.Timeout", "", JobRefusedError),
        ("InvalidParameter.DataInspection", "Unable to download the media resource", JobRefusedError),
        ("InvalidParameter", "url error, please check url", AccountError),
        ("Arrearage", "", AccountError),
        ("Throttling.RateQuota", "", ThrottledError),
    ],
)
def test_a_check_without_a_verdict(code: str, message: str, kind: type[ProviderError]) -> None:
    """A verdict is remembered for the picture; that it could not be downloaded says nothing about it."""
    service, _ = client(said(200, {"output": {"check_pass": False, "code": code, "message": message}}))
    with pytest.raises(ProviderError) as caught:
        service.check_portrait(EMO, "https://in/a.png", {"ratio": "1:1"})
    assert type(caught.value) is kind
    assert caught.value.code == code


def test_an_unfetched_picture_has_no_verdict() -> None:
    """A picture that could not be fetched is no verdict on it."""
    service, _ = client(refusal(400, "InvalidURL.Timeout"))
    with pytest.raises(JobRefusedError):
        service.check_portrait(EMO, "https://in/a.png", {"ratio": "1:1"})


# The query

BEIJING = timezone(timedelta(hours=8))
SUCCEEDED = {
    "request_id": REQUEST_ID,
    "output": {
        "task_id": "t-1",
        "task_status": "SUCCEEDED",
        "submit_time": "2025-12-26 11:33:03.146",
        "scheduled_time": "2025-12-26 11:33:13.312",
        "end_time": "2025-12-26 11:33:22.455",
        "results": {"video_url": "http://r.aliyuncs.com/x.mp4?Expires=1&Signature=s"},
    },
    "usage": {"video_duration": 2.79, "video_ratio": "1:1"},
}


def ask(output: Any, usage: Any = None) -> ProviderTask:
    service, _ = client(said(200, {"output": output, "usage": usage, "request_id": REQUEST_ID}))
    return service.query("t-1")


def test_a_finished_task_is_read_whole() -> None:
    """A finished task is read whole and its times are Beijing's."""
    service, _ = client(said(200, SUCCEEDED))
    task = service.query("t-1")
    assert task == ProviderTask(
        task_id="t-1",
        status="SUCCEEDED",
        submit_time=datetime(2025, 12, 26, 11, 33, 3, 146000, BEIJING),
        scheduled_time=datetime(2025, 12, 26, 11, 33, 13, 312000, BEIJING),
        end_time=datetime(2025, 12, 26, 11, 33, 22, 455000, BEIJING),
        video_url="http://r.aliyuncs.com/x.mp4?Expires=1&Signature=s",
        code=None,
        message=None,
        request_id=REQUEST_ID,
        video_seconds=2.79,
    )
    assert "Signature" not in repr(task)


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ("PENDING", False),
        ("RUNNING", False),
        ("PRE-PROCESSING", False),
        ("SUSPENDED", False),
        ("SUCCEEDED", True),
        ("FAILED", True),
        ("CANCELED", True),
        ("UNKNOWN", True),
    ],
)
def test_only_four_statuses_end_a_task(status: str, ended: bool) -> None:
    """Only four statuses end a task and others are kept as they are."""
    task = ask({"task_status": f" {status} "})
    assert (task.status, task.ended) == (status, ended)


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ({"code": "InternalError.Timeout", "message": "late"}, "InternalError.Timeout", "late"),
        ({"code": "InvalidURL", "message": "https://in/a.mp3?sig=1 is bad"}, "InvalidURL", "https://in/a.mp3 is bad"),
        ({"code": "", "message": None}, None, None),
        ({}, None, None),
    ],
)
def test_a_failed_task_s_words(output: dict[str, Any], code: str | None, message: str | None) -> None:
    """A failed task comes with 200 and perhaps with words."""
    task = ask({"task_status": "FAILED"} | output)
    assert (task.code, task.message, task.ended) == (code, message, True)


@pytest.mark.parametrize(
    ("output", "url"),
    [
        ({"video_url": "http://r/x.mp4"}, "http://r/x.mp4"),
        ({"results": {"video_url": " http://r/y.mp4 "}, "video_url": "http://r/x.mp4"}, "http://r/y.mp4"),
        ({"results": {"video_url": ""}}, None),
        ({"results": {"video_url": 7}}, None),
        ({"results": [{"video_url": "http://r/x.mp4"}]}, "http://r/x.mp4"),
        ({"results": None}, None),
    ],
)
def test_where_the_video_s_link_is(output: dict[str, Any], url: str | None) -> None:
    """The video's link is in the results or beside them."""
    assert ask({"task_status": "SUCCEEDED"} | output).video_url == url


@pytest.mark.parametrize(
    ("usage", "seconds"),
    [
        ({"duration": 3}, 3.0),
        ({"video_duration": "2.5"}, 2.5),
        ({"video_duration": None, "duration": 4}, 4.0),
        ({"video_duration": True}, None),
        ({"video_duration": -1}, None),
        ({"video_duration": "NaN"}, None),
        ({"video_ratio": "standard"}, None),
        ("standard", None),
        (None, None),
    ],
)
def test_usage_may_miss_or_be_odd(usage: Any, seconds: float | None) -> None:
    assert ask({"task_status": "SUCCEEDED"}, usage).video_seconds == seconds


@pytest.mark.parametrize("value", [None, "", "soon", 7, "2025-13-01 00:00:00", ["2025-12-26"]])
def test_a_time_that_can_not_be_read_is_not_known(value: Any) -> None:
    assert ask({"task_status": "RUNNING", "submit_time": value}).submit_time is None


@pytest.mark.parametrize(
    "output", [{}, {"task_status": ""}, {"task_status": 7}, {"task_status": "SUCCEEDED", "task_id": "t-2"}]
)
def test_an_answer_about_nothing_is_nonsense(output: Any) -> None:
    """An answer without status or about another task is nonsense."""
    with pytest.raises(ProviderIllError):
        ask(output)


# The list


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {"task_id": f"t-{number}", "status": "RUNNING", "model_name": "emo-v1", "gmt_create": 1766720000000} | fields


def page(rows: Any, **fields: Any) -> tuple[int, bytes, dict[str, str]]:
    return said(200, {"data": rows} | fields)


def test_the_list_is_read_to_its_last_page() -> None:
    """The list is asked for without a time window and read to its last page."""
    service, wire = client(
        page([row(1), row(2)], total=5, total_page=3, page_no=1, page_size=2),
        page([row(3), row(4)], total=5, total_page=3, page_no=2, page_size=2),
        page([row(5)], total=5, total_page=3, page_no=3, page_size=2),
    )
    assert [task.task_id for task in service.list_tasks(EMO)] == ["t-1", "t-2", "t-3", "t-4", "t-5"]
    assert [request.url for request in wire.sent] == [
        f"{BASE}/tasks/?model_name=emo-v1&page_no={number}&page_size=100" for number in (1, 2, 3)
    ]


def test_a_row_of_the_list() -> None:
    """A row is read with its time in seconds and the id of its create."""
    fields = row(1, gmt_create=1766720000146, request_id=REQUEST_ID, api_key_id="ak-1", end_time=None)
    service, _ = client(page([fields, row(2, gmt_create="1766720000000", status=None)], total=2))
    assert service.list_tasks(EMO) == [
        ListedTask("t-1", 1766720000.146, REQUEST_ID, "ak-1"),
        ListedTask("t-2", 1766720000.0, None, None),
    ]


@pytest.mark.parametrize(
    ("pages", "count"),
    [
        ([page([], total=0)], 0),
        ([page(None, total=0, total_page=0)], 0),
        ([page([row(1)], total="1")], 1),
        ([page([row(1)], total_page=1)], 1),
        ([page([row(1)]), page([row(2)]), page([])], 2),
    ],
)
def test_the_list_s_end(pages: list[Any], count: int) -> None:
    """The list's end is found by whatever count there is."""
    service, wire = client(*pages)
    assert len(service.list_tasks(EMO)) == count
    assert wire.answers == []


@pytest.mark.parametrize(
    "pages",
    [
        [said(200, b"{")],
        [said(200, {"total": 3})],
        [page({"t-1": {}}, total=1)],
        [page([row(1)], total=2), page([], total=2)],
        [page([row(1)], total=2), page([row(1)], total=2)],
        [page([row(1)], total=2), page([row(2)], total=3)],
        [page([row(1)], total=2), page([row(2)])],
        [page([row(1)], total_page=2), page([], total_page=2)],
        [page([row(1)], total=2), refusal(500, "InternalError")],
        [page([row(1)], total=2), requests.ReadTimeout("read")],
        [page([row(1, task_id=None)], total=1)],
        [page([row(1, gmt_create=None)], total=1)],
        [page([row(1, gmt_create="yesterday")], total=1)],
        [page(["t-1"], total=1)],
    ],
)
def test_a_list_that_is_not_whole_is_no_list(pages: list[Any]) -> None:
    service, wire = client(*pages)
    with pytest.raises(ProviderIllError):
        service.list_tasks(EMO)
    assert wire.answers == []


def test_a_list_of_endless_pages_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope_client, "LIST_MAX_PAGES", 3)
    service, wire = client(*(page([row(number)], total_page=9) for number in range(9)))
    with pytest.raises(ProviderIllError, match="no end after 3 pages"):
        service.list_tasks(EMO)
    assert len(wire.sent) == 3


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_list_without_time_is_not_begun(seconds: float) -> None:
    service, wire = client(page([row(1)], total=1))
    with pytest.raises(ProviderIllError):
        service.list_tasks(EMO, seconds=seconds)
    assert wire.sent == []


def test_a_list_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope_client, "LIST_MAX_SECONDS", 0.0)
    service, _ = client(*(page([row(number)]) for number in range(50)))
    with pytest.raises(ProviderIllError):
        service.list_tasks(EMO)


# Cancel


def test_only_pending_is_cancelled() -> None:
    """A task that is no longer pending cannot be cancelled."""
    service, _ = client(refusal(400, "UnsupportedOperation", "the task is not PENDING"))
    assert service.cancel("t-1") is False


def test_any_other_refusal_of_a_cancel_is_an_error() -> None:
    service, _ = client(refusal(400, "InvalidParameter"))
    with pytest.raises(JobRefusedError):
        service.cancel("t-1")
