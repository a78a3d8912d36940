"""What the service's answers mean: the one place where its words are cleaned and bounded.

Nothing is trusted. A value of a wrong type, out of its range, too long, or not fit to be stored and shown is the same
as one that is missing. Text that gets out of here is valid Unicode without controls, and free of keys and of links'
secrets; numbers are finite; times lie between 2020 and 2100. Lenient in what is read: fields are found in each of the
places where the service, its sister models or its older versions have put them.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

from portraitcast.adapters.dashscope.errors import (
    CODE_MAX,
    MESSAGE_MAX,
    AccountError,
    JobRefusedError,
    ProviderError,
    ProviderIllError,
    ThrottledError,
)
from portraitcast.domain.models import Box, Boxes, Model
from portraitcast.domain.problems import controls, scrub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portraitcast.adapters.dashscope.transport import RawAnswer

ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"})  # Model Studio, task query: only these end one
STATUS_MAX: Final = 40  # ours: characters of a status; the longest known has 14
LINK_MAX: Final = 4096  # ours: characters of a link to a video; a signed one has some 500
SIDE_MAX: Final = 100_000  # ours: a box's coordinate, px; a picture has at most 7000
VIDEO_MAX_SECONDS: Final = 86_400.0  # ours: a video is at most minutes long
RETRY_MAX_SECONDS: Final = 86_400.0  # ours
DEPTH_MAX: Final = 6  # ours: how deep in an output a video's link is looked for

_BEIJING: Final = timezone(timedelta(hours=8))
_TASK_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")  # no "..": it goes into a path
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")

# Model Studio, error codes. The account's are looked for first: some come as 429, which waiting doesn't cure.
_ACCOUNT: Final = frozenset(
    {
        "InvalidApiKey",
        "Arrearage",
        "ModelNotFound",
        "WorkSpaceNotFound",
        "CommodityNotPurchased",
        "PrepaidBillOverdue",
        "PostpaidBillOverdue",
        "AllocationQuota.FreeTierOnly",
        # The form of our request: it befalls every job, when the service has changed or we have.
        "BadRequest.EmptyModel",
        "BadRequest.EmptyInput",
        "BadRequest.EmptyParameters",
        "UnsupportedOperation",
        # The same in the words of the service's OpenAI-compatible address, which somebody has taken for the base.
        "invalid_api_key",
        "model_not_found",
        "access_denied",
        "insufficient_quota",
    }
)
_ACCESS_DENIED: Final = re.compile(r"(Model\.|Workspace\.|Endpoint\.|App\.)?AccessDenied(\.|$)")
# Words about the way to the service, not about a job's files: a wrong base address, a key of another region.
_ADDRESS_WORDS: Final = re.compile(
    r"url error|invalid url (provided in your request|\()|request (url|path|address)|no static resource"
    r"|no (such (api|interface|call|path|route)|handler found)|\b(api|interface|endpoint|route) (is |was )?not found"
    r"|\b(api|interface|endpoint) (does not|doesn't) exist|api[- ]?key|workspace|synchronous calls"
    r"|(request |http )?method.{0,20} not (allowed|supported)",
    re.IGNORECASE,
)
# Words about the model: another region has others, and each must be opened. Unless a job's file is spoken of.
_MODEL_WORDS: Final = re.compile(
    r"\bmodel\b.{0,60}?\b(not exist|not (be )?found|not supported|not (been )?(open|activat|enabl)\w*)"
    r"|unsupported model|\bregion\b.{0,40}?\bnot (available|supported)|not (available|supported).{0,40}?\bregion\b",
    re.IGNORECASE,
)
_FILE_WORDS: Final = re.compile(r"image|picture|photo|portrait|audio|voice|face|human|bbox", re.IGNORECASE)
_ILL: Final = re.compile(
    r"(InternalError|SystemError|ModelServiceFailed|RequestTimeOut|ModelServingError|ModelUnavailable)", re.IGNORECASE
)
# No router has got a request of ours as far as the service when it says this about the address itself.
_NO_SUCH_ADDRESS: Final = (404, 405)
# With these statuses a code that nobody knows is about rights and addresses.
_ABOUT_ACCESS: Final = (401, 402, 403, 404, 405, 407, 410, 421)
_ABOUT_INPUT: Final = re.compile(r"InvalidFile\.|InvalidURL\.|InvalidParameter|DataInspection|IPInfringement")


@dataclass(frozen=True, slots=True)
class CheckPassed:
    """The portrait will do; `boxes` where the model has them, to be handed to the create as they are."""

    boxes: Boxes | None


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
class UnknownOutcome:
    """Nobody knows whether a task was made: look before paying again."""

    reason: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class ProviderTask:
    """One task as the service tells it; what it doesn't tell is None.

    Attributes
    ----------
    status
        PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED, UNKNOWN, or any other word that the service may use.
    submit_time, scheduled_time, end_time
        Aware, in Beijing time.
    video_url
        The http(s) link to the video, for 24 h. A secret, so it isn't in the repr.
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
class Page:
    """A page of the list; `rows` are those of the model that was asked for, `size` counts all."""

    rows: tuple[ListedTask, ...]
    size: int
    total: int | None
    pages: int | None


@dataclass(frozen=True, slots=True)
class UploadPolicy:
    """Leave to put one file into the service's temporary storage.

    Attributes
    ----------
    host
        Where the form is posted to.
    directory
        The folder of the key, without a slash at its end.
    fields
        The form's fields but ``key`` and the file. Secrets, so they aren't in the repr.
    max_bytes
        Of one file, or None where the service names no limit.
    """

    host: str
    directory: str
    fields: dict[str, str] = field(repr=False)
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of any status. `body` is empty where it wasn't a JSON object."""

    status: int
    body: dict[str, Any]
    retry_after: float | None

    @property
    def output(self) -> dict[str, Any]:
        """The answer's ``output``."""
        return _object(self.body.get("output"))

    @property
    def request_id(self) -> str | None:
        """The provider's number of the request."""
        return _id(self.body.get("request_id"))


# ---------------------------------------------------------------------- reading
def read_answer(raw: RawAnswer, key: str) -> Answer:
    """Read an answer of any status, without our key if it was echoed."""
    content = raw.content
    if len(key) >= 16:  # shorter than any key; taking "a" out would leave nothing to read
        content = content.replace(key.encode(), b"...")
    try:
        # A wrong byte costs its character, not the answer: a task's id may stand beside it.
        body = json.loads(
            content.decode("utf-8-sig", "replace"), parse_int=_whole, parse_float=_finite, parse_constant=_nothing
        )
    except (ValueError, RecursionError):
        body = None
    return Answer(raw.status, _object(body), _retry_after(raw.retry_after))


def error_of(answer: Answer) -> ProviderError:
    """Return an answer that isn't 2xx as an error, sorted by what to do about it."""
    code, message = _words(answer.body)
    if answer.status in _NO_SUCH_ADDRESS and not code:
        message = message or "there is no such address: the base address of the service is wrong"
    return _kind_of(answer.status, code, message)(
        code or f"HTTP{answer.status}",
        message or f"HTTP {answer.status} without a message",
        request_id=answer.request_id,
        http_status=answer.status,
        retry_after=answer.retry_after,
    )


def _kind_of(status: int, code: str, message: str) -> type[ProviderError]:
    if status in _NO_SUCH_ADDRESS and not code:
        return AccountError
    if not 400 <= status < 500 or status == 408 or not code or _ILL.match(code):
        # Without a code of the provider's it may come from anything on the way, which says nothing about the job.
        return ProviderIllError
    if status == 401 or code in _ACCOUNT or _ACCESS_DENIED.match(code) or _free_quota_is_gone(code, message):
        return AccountError
    if status == 429 or code.startswith("Throttling"):
        return ThrottledError
    if _is_about_the_stack(message) or (status in _ABOUT_ACCESS and not _ABOUT_INPUT.match(code)):
        return AccountError
    return JobRefusedError


def read_check(answer: Answer, model: Model) -> CheckPassed | CheckRefused:
    """Read a portrait check's verdict.

    Raises
    ------
    ProviderIllError
        There is none.
    ProviderError
        The check didn't pass for a reason that says nothing about the portrait: it could not be downloaded, or the
        account or the service is in trouble. The kind is that of the same code as an HTTP error.
    """
    output = answer.output
    verdict = next((output[name] for name in (model.verdict, "check_pass", "pass") if name in output), None)
    passed = verdict.strip().lower() if isinstance(verdict, str) else verdict
    if passed is False or passed == "false":
        code, message = _words(answer.body)
        kind = _kind_of(400, code, message) if code else JobRefusedError
        if kind is not JobRefusedError or code.startswith(("InvalidURL", "InvalidParameter")):
            raise kind(code, message, request_id=answer.request_id, http_status=answer.status)
        return CheckRefused(code, message, answer.request_id)
    if not model.takes_boxes:
        if passed is True or passed == "true":
            return CheckPassed(None)
        _nonsense("the portrait check's answer holds no verdict", answer)
    face, ext = _box(output.get("face_bbox")), _box(output.get("ext_bbox"))
    if face is None or ext is None:
        _nonsense("the portrait check's answer holds neither a verdict nor boxes", answer)
    return CheckPassed(Boxes(face, ext))


def read_created(answer: Answer) -> Created | UnknownOutcome:
    """Read a create's 2xx answer."""
    task_id = task_id_of(answer.output.get("task_id")) or task_id_of(answer.body.get("task_id"))
    if task_id is None:
        return UnknownOutcome(f"HTTP {answer.status} without a task id", answer.request_id)
    return Created(task_id, answer.request_id)


def read_task(answer: Answer, task_id: str) -> ProviderTask:
    """Read a query's answer.

    Raises
    ------
    ProviderIllError
        It holds no status, or is about another task.
    """
    output = answer.output
    usage = _object(answer.body.get("usage")) or _object(output.get("usage"))
    status = clean(output.get("task_status"), STATUS_MAX).upper()
    if not status:
        _nonsense("the task's answer holds no status", answer)
    about = output.get("task_id")
    if isinstance(about, str) and about.strip() not in ("", task_id):
        _nonsense("the answer is about another task", answer)
    code, message = _words(answer.body)
    return ProviderTask(
        task_id=task_id,
        status=status,
        submit_time=_beijing(output.get("submit_time")),
        scheduled_time=_beijing(output.get("scheduled_time")),
        end_time=_beijing(output.get("end_time")),
        video_url=_video_link(output),
        code=code or None,
        message=message or None,
        request_id=answer.request_id,
        video_seconds=_seconds(usage),
    )


def read_page(answer: Answer, model: str) -> Page:
    """Read a page of the list.

    Raises
    ------
    ProviderIllError
        A row can't be read: it may be the very task that is looked for.
    """
    total, pages = _count(answer.body.get("total")), _count(answer.body.get("total_page"))
    data = answer.body.get("data")
    if data is None and total == 0:
        data = []
    if not isinstance(data, list):
        _nonsense("a page of the list holds no rows", answer)
    rows: list[ListedTask] = []
    for each in data:
        row = _object(each)
        task_id, created_at = task_id_of(row.get("task_id")), _moment(row.get("gmt_create"))
        if task_id is None or created_at is None:
            _nonsense("a row of the list holds no task id or no time", answer)
        # A service that doesn't know the filter lists other models' tasks, which are none of ours.
        if clean(row.get("model_name"), CODE_MAX) in ("", model):
            rows.append(ListedTask(task_id, created_at, _id(row.get("request_id")), _id(row.get("api_key_id"))))
    return Page(tuple(rows), len(data), total, pages)


def read_policy(answer: Answer, *, https: bool) -> UploadPolicy:
    """Read the leave to upload a file.

    Parameters
    ----------
    https
        Whether the storage must be reached by HTTPS, as the service itself is.

    Raises
    ------
    ProviderIllError
        A field is missing or can't be used.
    """
    data = _object(answer.body.get("data")) or answer.output
    host = _raw(data.get("upload_host"))
    if not _is_link(host, ("https",) if https else ("https", "http")) or set(host) & set("?#"):
        _nonsense("the upload policy names no address to upload to", answer)
    directory = _raw(data.get("upload_dir")).strip("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./=-]{0,499}", directory) or ".." in directory:
        _nonsense("the upload policy names no folder", answer)
    fields: dict[str, str] = {}
    for ours, theirs in (
        ("OSSAccessKeyId", "oss_access_key_id"),
        ("Signature", "signature"),
        ("policy", "policy"),
        ("x-oss-object-acl", "x_oss_object_acl"),
        ("x-oss-forbid-overwrite", "x_oss_forbid_overwrite"),
    ):
        value = data.get(theirs)
        value = str(value).lower() if isinstance(value, bool) else value
        if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,8192}", value):
            _nonsense(f"the upload policy holds no {theirs}", answer)
        fields[ours] = value
    megabytes = _number(data.get("max_file_size_mb"))
    return UploadPolicy(host, directory, fields, None if megabytes is None else int(megabytes * 1024 * 1024))


def storage_error(raw: RawAnswer) -> ProviderError:
    """Return what the temporary storage answered instead of 2xx, as an error; nothing was paid in any case.

    The storage is Alibaba Cloud OSS, which answers in XML. What it refuses is the policy, which is the account's or
    the service's trouble, but for a file that is too large.
    """
    text = raw.content[:10_000].decode("utf-8", "replace")

    def part(tag: str, most: int) -> str:
        found = re.search(f"<{tag}>([^<]*)</{tag}>", text)
        return clean(found[1] if found else None, most)

    code, message = part("Code", CODE_MAX - 10), part("Message", MESSAGE_MAX)
    request_id = _id(part("RequestId", 200))
    kind: type[ProviderError]
    if "EntityTooLarge" in code or raw.status == 413:
        kind = JobRefusedError
    elif raw.status == 429:
        kind = ThrottledError
    elif 400 <= raw.status < 500 and code and "expired" not in message.lower() and raw.status not in (408, 409):
        kind = AccountError
    else:
        kind = ProviderIllError
    return kind(
        f"Upload.{code or f'HTTP{raw.status}'}",
        message or f"the service's temporary storage answered HTTP {raw.status}",
        request_id=request_id,
        http_status=raw.status,
        retry_after=_retry_after(raw.retry_after),
    )


# ---------------------------------------------------------------------- cleaning
def clean(value: object, most: int) -> str:
    """Return somebody's text on one line, at most so many characters; "" for what is no text.

    Half surrogates and other characters that can't be stored or shown become ``\N{REPLACEMENT CHARACTER}``; keys and
    links' secrets are taken out.
    """
    if not isinstance(value, str):
        return ""
    start = value[: most * 4 + 200]
    if len(start) < len(value):
        start = start.rpartition(" ")[0] or start  # the last word may be half a secret that nobody recognises
    line = " ".join(start.split())
    safe = "".join("\N{REPLACEMENT CHARACTER}" if controls(char) else char for char in line)
    return scrub(safe)[:most].strip()


def task_id_of(value: object) -> str | None:
    """Return a task's id that can go into a path, else None."""
    text = _raw(value)
    return text if _TASK_ID.fullmatch(text) else None


def _words(body: dict[str, Any]) -> tuple[str, str]:
    """Return the provider's code and message, in the output, at the top or in ``error``; "" where missing."""
    places = [_object(body.get("output")), body, _object(body.get("error"))]
    found = [(clean(each.get("code"), CODE_MAX), clean(each.get("message"), MESSAGE_MAX)) for each in places]
    return next((words for words in found if any(words)), ("", ""))


def _free_quota_is_gone(code: str, message: str) -> bool:
    return code == "Throttling.AllocationQuota" and "free allocated quota exceeded" in message.lower()


def _is_about_the_stack(message: str) -> bool:
    return bool(_ADDRESS_WORDS.search(message) or (_MODEL_WORDS.search(message) and not _FILE_WORDS.search(message)))


def _nonsense(fault: str, answer: Answer) -> NoReturn:
    raise ProviderIllError("Nonsense", fault, request_id=answer.request_id, http_status=answer.status)


def _raw(value: object) -> str:
    """Return text that its reader judges whole."""
    return value.strip() if isinstance(value, str) else ""


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _id(value: object) -> str | None:
    text = _raw(value)
    return text if _ID.fullmatch(text) else None


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= 20 else None  # 10,000 digits would be an error of Python's


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None  # 1e999


def _nothing(_: str) -> None:
    """Take NaN and Infinity for nothing."""


def _number(value: object) -> float | None:
    """Return a finite number that isn't negative, also out of a string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 40:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _seconds(usage: dict[str, Any]) -> float | None:
    """Return a video's length: one page has it as ``video_duration``, another as ``duration``."""
    lengths = (_number(usage.get(name)) for name in ("video_duration", "duration"))
    return next((length for length in lengths if length is not None and length <= VIDEO_MAX_SECONDS), None)


def _box(value: object) -> Box | None:
    """Return a box as the provider gave it; it may lie partly outside the picture, which is the provider's affair."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    sides: list[int] = []
    for each in value:
        if isinstance(each, bool) or not isinstance(each, int | float | str) or len(str(each)) > 40:
            return None
        try:
            side = round(float(each))
        except (ValueError, OverflowError):
            return None
        if abs(side) > SIDE_MAX:
            return None
        sides.append(side)
    x1, y1, x2, y2 = sides
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _beijing(value: object) -> datetime | None:
    """Read ``2025-12-26 11:33:03.146``, which is Beijing time without saying so."""
    if not isinstance(value, str) or len(value) > STATUS_MAX:
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        moment = moment.replace(tzinfo=_BEIJING) if moment.tzinfo is None else moment.astimezone(_BEIJING)
    except (ValueError, OverflowError):
        return None
    return moment if _EARLIEST <= moment < _LATEST else None


def _moment(milliseconds: object) -> float | None:
    """Return epoch milliseconds as seconds."""
    number = _number(milliseconds)
    if number is None or not _EARLIEST.timestamp() <= number / 1000 < _LATEST.timestamp():
        return None
    return number / 1000


def _video_link(output: dict[str, Any]) -> str | None:
    """Find the link to the video: a paid video must not be lost to another form of the answer.

    EMO: ``results.video_url``; sister models: ``video_url``; seen by other clients: ``results`` as a list, ``url``
    instead of ``video_url``, and more levels.
    """
    results = output.get("results")
    for names, place in ((("video_url",), results), (("video_url",), output), (("url", "video_urls"), results)):
        for link in _links_under(place, names, DEPTH_MAX):
            return link
    return next(_links_under(output.get("result"), ("video_url", "url"), DEPTH_MAX), None)


def _links_under(value: object, names: tuple[str, ...], depth: int, *, named: bool = False) -> Iterator[str]:
    if isinstance(value, str):
        link = value.strip()
        if named and _is_link(link, ("http", "https")):
            yield link
    elif depth and isinstance(value, dict):
        for name in names:
            yield from _links_under(value.get(name), names, depth - 1, named=True)
        for name, each in value.items():
            if name not in names and isinstance(each, dict | list):
                yield from _links_under(each, names, depth - 1)
    elif depth and isinstance(value, list):
        for each in value[:100]:
            yield from _links_under(each, names, depth - 1, named=named)


def _is_link(text: str, schemes: tuple[str, ...]) -> bool:
    if not re.fullmatch(f"[\x21-\x7e]{{8,{LINK_MAX}}}", text):
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # half an IPv6 address, a port that isn't one
        return False
    host = parts.netloc.rpartition("@")[2]
    host = host.removesuffix(f":{port}") if port is not None else host.removesuffix(":")
    return parts.scheme in schemes and port != 0 and "@" not in parts.netloc and bool(_HOST.fullmatch(host))


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which may name a moment instead; at most a day."""
    if not isinstance(value, str) or len(value) > 100:
        return None
    seconds = _number(value)
    if seconds is None:
        try:
            moment = email.utils.parsedate_to_datetime(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = max(0.0, (moment - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return min(seconds, RETRY_MAX_SECONDS)
