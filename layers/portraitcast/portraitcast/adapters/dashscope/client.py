"""The EMO service over HTTP: portrait check, create, query, list and cancel.

A create is paid as soon as the service accepts it, and there is no idempotency key. So the create is sent once, and its
outcome is one of three: a task id; an error of this module, which says for certain that nothing was paid; or
`Unknown`. Every other call may be repeated, and every trouble with it is an error. Strict in what is sent, lenient in
what is read.
"""

from __future__ import annotations

import email.utils
import hashlib
import io
import json
import math
import re
import threading
import time
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote, urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from portraitcast.errors import PortraitcastError
from portraitcast.domain.problems import scrub
from portraitcast.domain.settings import MODEL, Box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CHECK_MODEL: Final = "emo-detect-v1"
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"})  # emo-api §4: only these end a task
ANSWER_MAX_BYTES: Final = 1024 * 1024  # ours: a page of 100 tasks is some 40 kB
MESSAGE_MAX: Final = 500  # ours: characters of the provider's words that are kept
LIST_MAX_SECONDS: Final = 120.0  # ours: all pages of a list together
LIST_PAGE_SIZE: Final = 100  # the largest isn't documented; a service that gives fewer is followed page by page

_USER_AGENT: Final = "portraitcast/0.1.0"
_BEIJING: Final = timezone(timedelta(hours=8))
_TASK_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")  # no "..": it goes into a path
_API_KEY: Final = re.compile(r"[\x21-\x7e]{1,512}")  # printable ASCII without spaces: it goes into a header
_PLACEHOLDER: Final = re.compile(r"not.?set|replace|change.?me|placeholder|your.?(api.?)?key|<|\.\.\.", re.IGNORECASE)

# emo-api §7. The account's codes are looked for first: some come as 429, which waiting doesn't cure.
_ACCOUNT: Final = frozenset(
    {
        "InvalidApiKey",
        "Arrearage",
        "ModelNotFound",
        "CommodityNotPurchased",
        "PrepaidBillOverdue",
        "PostpaidBillOverdue",
        "AllocationQuota.FreeTierOnly",
    }
)
_ACCESS_DENIED: Final = re.compile(r"(Model\.|Workspace\.|Endpoint\.)?AccessDenied(\.|$)")
_ILL: Final = re.compile(
    r"(InternalError|SystemError|ModelServiceFailed|RequestTimeOut|ModelServingError|ModelUnavailable)", re.IGNORECASE
)


class EmoError(PortraitcastError):
    """What the service, or the way to it, said instead of an answer; free of keys and of links' secrets.

    Attributes
    ----------
    code, message
        The provider's words where there are any, ours otherwise; the message has at most `MESSAGE_MAX` characters.
    request_id
        The provider's, to ask its support with.
    http_status
        None where there was no answer.
    retry_after
        Seconds that the provider asked to wait, or None.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        request_id: str | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.request_id = request_id
        self.http_status = http_status
        self.retry_after = retry_after


class JobRefusedError(EmoError):
    """The job is wrong and its owner must mend it. Nothing was paid."""

    @property
    def worth_one_more_try(self) -> bool:
        """Say whether the fault may have been the download of the inputs, not the inputs."""
        return worth_one_more_try(self.code, self.message)


class AccountError(EmoError):
    """The account is wrong: no job can pass until the operator mends it. Nothing was paid."""


class ThrottledError(EmoError):
    """Too many calls; waiting cures it. Nothing was paid."""


class NotConnectedError(EmoError):
    """The request never left: no connection was made. Nothing was paid."""


class ProviderIllError(EmoError):
    """5xx, nonsense, or no answer in time, from a call that may be repeated. `Emo.create` never raises it."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """What a check found in a portrait that will do, to be handed to the create as it is."""

    face: Box
    ext: Box


@dataclass(frozen=True, slots=True)
class CheckRefused:
    """The portrait won't do; code and message may be empty, as the service leaves them."""

    code: str
    message: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Created:
    """A task was made, and is paid."""

    task_id: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether a task was made: look before paying again."""

    reason: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Task:
    """One task as the service tells it; what it doesn't tell is None.

    Attributes
    ----------
    status
        PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED, UNKNOWN, or any other word that the service may use.
    submit_time, scheduled_time, end_time
        Aware, in Beijing time.
    video_url
        The link to the video, for 24 h. A secret, so it isn't in the repr.
    video_seconds
        What is paid for.
    """

    task_id: str
    status: str
    submit_time: datetime | None
    scheduled_time: datetime | None
    end_time: datetime | None
    video_url: str | None = field(repr=False)
    code: str | None
    message: str | None
    request_id: str | None
    video_seconds: float | None

    @property
    def ended(self) -> bool:
        """Say whether the task has ended; a status that nobody knows has not."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class ListedTask:
    """A row of the list. `created_at` is in epoch seconds; `request_id` is that of the create."""

    task_id: str
    created_at: float
    request_id: str | None
    api_key_id: str | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer of any status. `body` is empty where it wasn't a JSON object."""

    status: int
    body: dict[str, Any]
    retry_after: float | None

    @property
    def output(self) -> dict[str, Any]:
        return _object(self.body.get("output"))

    @property
    def request_id(self) -> str | None:
        return _id(self.body.get("request_id"))


class Emo:
    """A client of the service. Safe to keep between invocations: no connection is kept.

    Parameters
    ----------
    base_url
        Such as ``https://dashscope.aliyuncs.com/api/v1``, with or without a slash at its end.
    api_key
        Called for every request. A LookupError or ValueError of it, an empty key and a placeholder are an
        `AccountError` ``ApiKeyMissing``; anything else that it raises is passed on.
    session
        A session with a transport of its own, for tests. Without it every call has a new one.
    connect_timeout, read_timeout
        Seconds. A whole call, from the first look-up of a name to the last byte, takes no longer than both together.

    Raises
    ------
    ValueError
        The base URL is no http(s) address.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Callable[[], str],
        *,
        session: requests.Session | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("the base URL of the EMO service must be an http(s) address without query or fragment")
        self._base = base_url.rstrip("/")
        self._api_key = api_key
        self._session = session
        self._timeouts = (connect_timeout, read_timeout)
        self.call_seconds = connect_timeout + read_timeout

    def key_mark(self) -> str | None:
        """Return a mark that tells the API key in use from another and from which none can be guessed; None without."""
        try:
            return hashlib.sha256(self._key().encode()).hexdigest()[:8]
        except AccountError:
            return None

    def check_portrait(self, image_url: str, ratio: str) -> Boxes | CheckRefused:
        """Let the service look at a portrait: does it show one face that can be animated, and where.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError, ProviderIllError
        """
        # No X-DashScope-Async here: with it the service answers 403.
        payload = {"model": CHECK_MODEL, "input": {"image_url": image_url}, "parameters": {"ratio": ratio}}
        try:
            answer = self._send("POST", "/services/aigc/image2video/face-detect", payload=payload)
        except JobRefusedError as error:
            if error.code.startswith("InvalidFile."):  # the same verdict, told as HTTP 400
                return CheckRefused(error.code, error.message, error.request_id)
            raise
        output = answer.output
        passed = output.get("check_pass")
        if passed is False or (isinstance(passed, str) and passed.strip().lower() == "false"):
            code, message = _words(answer.body)
            if _ILL.match(code):
                raise ProviderIllError(code, message, request_id=answer.request_id, http_status=answer.status)
            return CheckRefused(code, message, answer.request_id)
        face, ext = _box(output.get("face_bbox")), _box(output.get("ext_bbox"))
        if face is None or ext is None:
            _nonsense("the portrait check's answer holds neither a verdict nor boxes", answer)
        return Boxes(face, ext)

    def create(self, *, image_url: str, audio_url: str, boxes: Boxes, style_level: str) -> Created | Unknown:
        """Ask for a video, once. `Created` is paid; `Unknown` may be.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError
            Nothing was paid.
        """
        payload = {
            "model": MODEL,
            "input": {
                "image_url": image_url,
                "audio_url": audio_url,
                "face_bbox": list(boxes.face),
                "ext_bbox": list(boxes.ext),
            },
            "parameters": {"style_level": style_level},
        }
        try:
            answer = self._send(
                "POST",
                "/services/aigc/image2video/video-synthesis",
                payload=payload,
                headers={"X-DashScope-Async": "enable"},
            )
        except ProviderIllError as error:
            return Unknown(str(error), error.request_id)
        task_id = _task_id(answer.output.get("task_id"))
        if task_id is None:
            return Unknown(f"HTTP {answer.status} without a task id", answer.request_id)
        return Created(task_id, answer.request_id)

    def query(self, task_id: str) -> Task:
        """Ask after one task.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError, ProviderIllError
        """
        answer = self._send("GET", f"/tasks/{_in_path(task_id)}")
        output, usage = answer.output, _object(answer.body.get("usage"))
        status = _text(output.get("task_status"))
        if status is None:
            _nonsense("the task's answer holds no status", answer)
        if _text(output.get("task_id")) not in (None, task_id):
            _nonsense("the answer is about another task", answer)
        code, message = _words(answer.body)
        return Task(
            task_id=task_id,
            status=status,
            submit_time=_beijing(output.get("submit_time")),
            scheduled_time=_beijing(output.get("scheduled_time")),
            end_time=_beijing(output.get("end_time")),
            video_url=_text(_object(output.get("results")).get("video_url")) or _text(output.get("video_url")),
            code=code or None,
            message=message or None,
            request_id=answer.request_id,
            video_seconds=_seconds(usage.get("video_duration"), usage.get("duration")),
        )

    def list_tasks(self) -> list[ListedTask]:
        """Return every task of the last 24 h that the service lists for our model, or raise: never a part of them.

        No time window is sent, since its zone isn't documented.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError
        ProviderIllError
            Also when the pages don't fit together, as when tasks came or went while they were read.
        """
        found: dict[str, ListedTask] = {}
        for row, answer in self._rows():
            task = _listed(row)
            if task is None:  # it may be the very task that is looked for
                _nonsense("a row of the list holds no task id or no time", answer)
            if task.task_id in found:  # rows moved to the next page, so others may have moved away
                _nonsense("the list names a task twice", answer)
            found[task.task_id] = task
        return list(found.values())

    def cancel(self, task_id: str) -> bool:
        """Cancel a PENDING task; False when it is no longer PENDING.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError, ProviderIllError
        """
        try:
            self._send("POST", f"/tasks/{_in_path(task_id)}/cancel")
        except JobRefusedError as error:
            if error.code == "UnsupportedOperation":
                return False
            raise
        return True

    def _rows(self) -> Iterator[tuple[object, _Answer]]:
        """Yield the rows of all pages, each with its page's answer; raise unless the pages fit together."""
        until = time.monotonic() + LIST_MAX_SECONDS
        rows_read, page_no, first_total = 0, 1, None
        while time.monotonic() < until:
            answer = self._send(
                "GET", "/tasks/", params={"model_name": MODEL, "page_no": page_no, "page_size": LIST_PAGE_SIZE}
            )
            total, pages = _count(answer.body.get("total")), _count(answer.body.get("total_page"))
            rows = answer.body.get("data")
            if rows is None and total == 0:
                rows = []
            if not isinstance(rows, list):
                _nonsense("a page of the list holds no rows", answer)
            first_total = total if page_no == 1 else first_total
            if total != first_total:
                _nonsense("the list changed while it was read", answer)
            yield from ((row, answer) for row in rows)
            rows_read += len(rows)
            more_promised = rows_read < (total or 0) or page_no < (pages or 0)
            if not rows and (more_promised or (page_no > 1 and pages is not None)):
                _nonsense("the list ends before its own count", answer)
            # Without any count only an empty page is the end.
            if not more_promised and (not rows or total is not None or pages is not None):
                return
            page_no += 1
        raise ProviderIllError("NoAnswer", f"the list wasn't complete after {LIST_MAX_SECONDS:.0f} s")

    def _send(
        self,
        method: str,
        path: str,
        *,
        payload: Mapping[str, object] | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Answer:
        """Send one request, once, and return its 2xx answer or raise what its trouble means.

        The whole call is bounded, not only each read of the socket, which a service that drips a byte at a time could
        stretch for ever: the exchange runs in a thread of its own that is left behind when the time is over. It can do
        no harm then: the body, if it hasn't begun to leave, is recalled, and an answer is read to a maximum.
        """
        key = self._key()
        body = None if payload is None else _Body(json.dumps(payload).encode())
        sent_headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # nothing to unpack, so nothing that unpacks to gigabytes
            "Connection": "close",
            "User-Agent": _USER_AGENT,
            **({} if body is None else {"Content-Type": "application/json"}),
            **(headers or {}),
        }
        # A new connection for every call: one out of a pool may have been dropped by the other side unseen, and a
        # create that fails on it is one that nobody knows the outcome of.
        session = self._session or new_session()
        ask = partial(
            session.request,
            method,
            self._base + path,
            params=params,
            data=body,
            headers=sent_headers,
            auth=_Bearer(key),
            timeout=self._timeouts,
            allow_redirects=False,
            stream=True,
        )
        outcome: Future[_Answer] = Future()

        def run() -> None:
            try:
                outcome.set_result(_read_answer(ask, key))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
                outcome.set_exception(error)
            finally:
                if session is not self._session:
                    session.close()

        thread = threading.Thread(target=run, name="emo", daemon=True)
        thread.start()
        thread.join(self.call_seconds)
        if not outcome.done():
            if body is not None and body.recall():
                raise NotConnectedError(
                    "NotConnected", f"no connection to the service within {self.call_seconds:.0f} s"
                )
            raise ProviderIllError("NoAnswer", f"no whole answer of the service within {self.call_seconds:.0f} s")
        try:
            answer = outcome.result()
        except (OSError, urllib3.exceptions.HTTPError, HTTPException) as error:
            # Only the kind of the error is told: its text may hold addresses.
            if _never_left(error, body):
                raise NotConnectedError("NotConnected", f"no connection to the service ({_kind(error)})") from None
            raise ProviderIllError("NoAnswer", f"the service's answer was lost ({_kind(error)})") from None
        if not 200 <= answer.status < 300:
            raise _error_of(answer)
        return answer

    def _key(self) -> str:
        try:
            key = self._api_key().strip()
        except (LookupError, ValueError):
            key = ""  # told below, without the error's text
        if not _API_KEY.fullmatch(key) or _PLACEHOLDER.search(key):
            raise AccountError("ApiKeyMissing", "the API key of the EMO service isn't set, or isn't a key")
        return key


def worth_one_more_try(code: str, message: str) -> bool:
    """Say whether a refusal or failure may have been the provider's download of the inputs, not the inputs (§7)."""
    return code in ("InvalidURL.Timeout", "InvalidURL.ConnectionRefused") or (
        code == "InvalidParameter.DataInspection" and "unable to download" in message.lower()
    )


class _Body(io.BytesIO):
    """A request's body that knows whether it has begun to leave, and can be told not to.

    The connection is made and the headers are sent before the first read; a service that has got no more than headers
    has no request. So "never read" is the one sure sign of "never sent", whatever the network's error looks like: an
    SSL error, for one, may come from the handshake or from the answer.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._lock = threading.Lock()
        self._recalled = False
        self.left = False

    def read(self, size: int | None = -1, /) -> bytes:
        with self._lock:
            if self._recalled:
                raise TimeoutError("the call's time was over before its body was sent")
            self.left = True
        return super().read(size)

    def recall(self) -> bool:
        """Keep the body from leaving; False when it has begun to."""
        with self._lock:
            self._recalled = not self.left
            return self._recalled


class _Bearer(AuthBase):
    """The API key as a header. As requests' own `auth`, so that a .netrc can't put another in its place."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _TooLongError(OSError):
    """The answer is longer than any answer of the service."""


class _Session(requests.Session):
    """A session that doesn't look at redirects: requests reads the whole body of one even if told not to follow it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Find none."""


def new_session() -> requests.Session:
    """Return a session that sends nothing twice and neither follows nor reads redirects."""
    session = _Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=0))  # never sent again by a library
    return session


def _read_answer(ask: Callable[[], requests.Response], key: str) -> _Answer:
    with closing(ask()) as response:
        content = bytearray()
        for chunk in response.iter_content(16 * 1024):
            content += chunk
            if len(content) > ANSWER_MAX_BYTES:
                raise _TooLongError
        retry_after = _retry_after(response.headers.get("Retry-After"))
        return _Answer(response.status_code, _json_object(bytes(content), key), retry_after)


def _never_left(error: Exception, body: _Body | None) -> bool:
    if body is not None:
        return not body.left and not isinstance(error, requests.ReadTimeout)
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)):
        return True
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(cause, urllib3.exceptions.NewConnectionError)


def _kind(error: Exception) -> str:
    return type(error).__name__.strip("_")


def _error_of(answer: _Answer) -> EmoError:
    """Sort an answer that isn't 2xx, by what to do about it (emo-api §7)."""
    code, message = _words(answer.body)
    kind: type[EmoError]
    if not 400 <= answer.status < 500 or answer.status == 408 or not code or _ILL.match(code):
        # Without a code of the provider's it may come from anything on the way, which says nothing about the job.
        kind = ProviderIllError
    elif answer.status == 401 or code in _ACCOUNT or _ACCESS_DENIED.match(code) or _free_quota_is_gone(code, message):
        kind = AccountError
    elif answer.status == 429 or code.startswith("Throttling"):
        kind = ThrottledError
    else:
        kind = JobRefusedError
    return kind(
        code or f"HTTP{answer.status}",
        message or f"HTTP {answer.status} without a message",
        request_id=answer.request_id,
        http_status=answer.status,
        retry_after=answer.retry_after,
    )


def _free_quota_is_gone(code: str, message: str) -> bool:
    return code == "Throttling.AllocationQuota" and "free allocated quota exceeded" in message.lower()


def _nonsense(fault: str, answer: _Answer) -> NoReturn:
    raise ProviderIllError("Nonsense", fault, request_id=answer.request_id, http_status=answer.status)


def _words(body: dict[str, Any]) -> tuple[str, str]:
    """Return the provider's code and message, in the output or at the top, as they may be told; "" where missing."""
    output = _object(body.get("output"))
    source = output if _text(output.get("code")) or _text(output.get("message")) else body
    code, message = scrub(_text(source.get("code")) or ""), scrub(_text(source.get("message")) or "")
    return code[:100], message[:MESSAGE_MAX]


def _json_object(content: bytes, key: str) -> dict[str, Any]:
    """Return the object that an answer holds, without our key if it was echoed; empty where it holds none."""
    if len(key) >= 16:  # shorter than any key; taking "a" out would leave nothing to read
        content = content.replace(key.encode(), b"...")
    try:
        return _object(json.loads(content))
    except (ValueError, RecursionError):
        return {}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _id(value: object) -> str | None:
    text = _text(value)
    return text if text and re.fullmatch(r"[\w.:-]{1,200}", text, re.ASCII) else None


def _task_id(value: object) -> str | None:
    text = _text(value)
    return text if text and _TASK_ID.fullmatch(text) else None


def _in_path(task_id: str) -> str:
    if not _TASK_ID.fullmatch(task_id):
        raise ValueError("not the id of a task")
    return quote(task_id, safe="")


def _number(value: object) -> float | None:
    """Return a finite number that isn't negative, also out of a string."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _seconds(*values: object) -> float | None:
    return next((number for value in values if (number := _number(value)) is not None), None)


def _box(value: object) -> Box | None:
    """Return a box as the provider gave it; it may lie partly outside the picture, which is the provider's affair."""
    if not isinstance(value, list) or len(value) != 4 or any(isinstance(number, bool) for number in value):
        return None
    try:
        x1, y1, x2, y2 = (round(float(number)) for number in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _beijing(value: object) -> datetime | None:
    """Read ``2025-12-26 11:33:03.146``, which is Beijing time without saying so."""
    try:
        moment = datetime.fromisoformat(_text(value) or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=_BEIJING) if moment.tzinfo is None else moment.astimezone(_BEIJING)


def _listed(row: object) -> ListedTask | None:
    fields = _object(row)
    task_id, created_ms = _task_id(fields.get("task_id")), _number(fields.get("gmt_create"))
    if task_id is None or created_ms is None:
        return None
    return ListedTask(
        task_id=task_id,
        created_at=created_ms / 1000,
        request_id=_id(fields.get("request_id")),
        api_key_id=_id(fields.get("api_key_id")),
    )


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which may name a moment instead; at most a day."""
    seconds = _number(value)
    if seconds is None and value:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = max(0.0, (moment - datetime.now(UTC)).total_seconds())
    return None if seconds is None else min(seconds, 86_400.0)
