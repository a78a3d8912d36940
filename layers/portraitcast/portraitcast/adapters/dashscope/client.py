"""The video service over HTTP: portrait check, create, query, list, cancel and temporary storage, for every model.

A create is paid as soon as the service accepts it, and there is no idempotency key. So the create is sent once, and its
outcome is one of three: a task id; an error of this package, which says for certain that nothing was paid; or
`UnknownOutcome`. Every other call may be repeated, and every trouble with it is an error. Strict in what is sent,
lenient in what is read.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import time
import uuid
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn
from urllib.parse import quote, urlsplit

from portraitcast.adapters.dashscope import responses
from portraitcast.adapters.dashscope.errors import AccountError, JobRefusedError, ProviderError, ProviderIllError
from portraitcast.adapters.dashscope.responses import (
    Answer,
    CheckPassed,
    CheckRefused,
    Created,
    ListedTask,
    ProviderTask,
    UnknownOutcome,
    UploadPolicy,
)
from portraitcast.adapters.dashscope.transport import FormBody, JsonBody, Transport
from portraitcast.domain.models import Boxes, Call, Model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

LIST_MAX_SECONDS: Final = 120.0  # ours: all pages of a list together
LIST_MAX_PAGES: Final = 200  # ours: a model that runs one task at a time makes some hundreds of tasks in 24 h
LIST_PAGE_SIZE: Final = 100  # the largest isn't documented; a service that gives fewer is followed page by page
UPLOAD_MAX_SECONDS: Final = 120.0  # ours: 15 MB at 1 Mbit/s, which a line across a border may be
STORED: Final = "oss://"  # the scheme of a file in the service's temporary storage

_CHECK_PATH: Final = "/services/aigc/image2video/face-detect"
_CREATE_PATH: Final = "/services/aigc/image2video/video-synthesis"
_API_KEY: Final = re.compile(r"[\x21-\x7e]{1,512}")  # printable ASCII without spaces: it goes into a header
_PLACEHOLDER: Final = re.compile(r"not.?set|replace|change.?me|placeholder|your.?(api.?)?key|<|\.\.\.", re.IGNORECASE)
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,8}")


class DashScope:
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

    Attributes
    ----------
    call_seconds
        The most that one call takes; a list and an upload have bounds of their own.

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
            raise ValueError("the base URL of the video service must be an http(s) address without query or fragment")
        self._base = base_url.rstrip("/")
        self._https = parts.scheme == "https"
        self._api_key = api_key
        self._transport = Transport(session, connect_timeout, read_timeout)
        self.call_seconds = self._transport.call_seconds

    def key_mark(self) -> str | None:
        """Return a mark that tells the API key in use from another and from which none can be guessed; None without."""
        try:
            return hashlib.sha256(self._key().encode()).hexdigest()[:8]
        except AccountError:
            return None

    def check_portrait(
        self, model: Model, image_url: str, parameters: Mapping[str, object]
    ) -> CheckPassed | CheckRefused:
        """Let the service look at a portrait: does it show one person who can be animated, and where.

        Parameters
        ----------
        model
            The model of the video; its check has a model of its own.
        image_url
            An http(s) link, or the ``oss://`` link of an `upload` for the check's model.
        parameters
            Those of the model, as set; the check's are sent, with their defaults.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError, ProviderIllError
        """
        given = _parameters(model, Call.CHECK, parameters)
        payload: dict[str, object] = {"model": model.check_model, "input": {"image_url": image_url}}
        if given:
            payload["parameters"] = given
        # No X-DashScope-Async here: with it the service answers 403.
        try:
            answer = self._call("POST", _CHECK_PATH, payload=payload, headers=_resolving(image_url))
        except JobRefusedError as error:
            if error.code.startswith("InvalidFile."):  # the same verdict, told as HTTP 400
                return CheckRefused(error.code, error.message, error.request_id)
            raise
        return responses.read_check(answer, model)

    def create(
        self,
        model: Model,
        *,
        image_url: str,
        audio_url: str,
        boxes: Boxes | None,
        parameters: Mapping[str, object],
    ) -> Created | UnknownOutcome:
        """Ask for a video, once. `Created` is paid; `UnknownOutcome` may be.

        Parameters
        ----------
        model
            Whose video.
        image_url, audio_url
            Http(s) links, or ``oss://`` links of an `upload` for this model.
        boxes
            As the check answered them; None for a model without.
        parameters
            Those of the model, as set; the create's are sent, with their defaults.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError
            Nothing was paid.
        """
        given = _parameters(model, Call.CREATE, parameters)
        inputs: dict[str, object] = {"image_url": image_url, "audio_url": audio_url}
        if model.takes_boxes:
            if boxes is None:
                raise JobRefusedError("InvalidParameter.Boxes", f"{model.name} needs the boxes of the portrait's face")
            inputs |= {"face_bbox": list(boxes.face), "ext_bbox": list(boxes.ext)}
        try:
            answer = self._call(
                "POST",
                _CREATE_PATH,
                payload={"model": model.name, "input": inputs, "parameters": given},
                headers={"X-DashScope-Async": "enable", **_resolving(image_url, audio_url)},
            )
        except ProviderIllError as error:
            return UnknownOutcome(str(error), error.request_id)
        return responses.read_created(answer)

    def query(self, task_id: str) -> ProviderTask:
        """Ask after one task.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError, ProviderIllError
        """
        return responses.read_task(self._call("GET", f"/tasks/{_in_path(task_id)}"), task_id)

    def list_tasks(self, model: Model, *, seconds: float | None = None) -> list[ListedTask]:
        """Return every task of the last 24 h that the service lists for a model, or raise: never a part of them.

        No time window is sent, since its zone isn't documented.

        Parameters
        ----------
        model
            Whose tasks.
        seconds
            The most that all pages together may take; at most `LIST_MAX_SECONDS`.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError
        ProviderIllError
            Also when the time is over, or when the pages don't fit together, as when tasks came or went while they
            were read.
        """
        most = LIST_MAX_SECONDS if seconds is None else min(seconds, LIST_MAX_SECONDS)
        until = time.monotonic() + most
        found: dict[str, ListedTask] = {}
        rows_read, first_total = 0, None
        for page_no in range(1, LIST_MAX_PAGES + 1):
            left = until - time.monotonic()
            if left <= 0:
                raise ProviderIllError("NoAnswer", f"the list wasn't complete after {max(most, 0):.0f} s")
            params: dict[str, str | int] = {
                "model_name": model.name,
                "page_no": page_no,
                "page_size": LIST_PAGE_SIZE,
            }
            answer = self._call("GET", "/tasks/", params=params, seconds=min(left, self.call_seconds))
            page = responses.read_page(answer, model.name)
            first_total = page.total if page_no == 1 else first_total
            if page.total != first_total:
                _not_whole("the list changed while it was read", answer)
            for row in page.rows:
                if row.task_id in found:
                    _not_whole("the list holds a task twice: it changed while it was read", answer)
                found[row.task_id] = row
            rows_read += page.size
            more_promised = rows_read < (page.total or 0) or page_no < (page.pages or 0)
            if not page.size and (more_promised or (page_no > 1 and page.pages is not None)):
                _not_whole("the list ends before its own count", answer)
            # Without any count only an empty page is the end.
            if not more_promised and (not page.size or page.total is not None or page.pages is not None):
                return list(found.values())
        raise ProviderIllError("Nonsense", f"the list has no end after {LIST_MAX_PAGES} pages")

    def cancel(self, task_id: str) -> bool:
        """Call off a task that is PENDING; False when it is no longer.

        Raises
        ------
        JobRefusedError, AccountError, ThrottledError, NotConnectedError, ProviderIllError
        """
        try:
            self._call("POST", f"/tasks/{_in_path(task_id)}/cancel")
        except ProviderError as error:
            if error.code == "UnsupportedOperation" and not isinstance(error, ProviderIllError):
                return False
            raise
        return True

    def upload_limit(self, model: str) -> int | None:
        """Ask for leave to upload for a model, which costs nothing; return the largest file, bytes, None if not told.

        Raises as `upload`.
        """
        return self._policy(model, time.monotonic() + self.call_seconds).max_bytes

    def upload(self, model: str | Model, file: BinaryIO, name: str, size: int, *, seconds: float | None = None) -> str:
        """Put a file into the service's temporary storage, and return its ``oss://`` link.

        The link lives 48 h, for this account and this model only; whatever goes wrong, nothing was paid. A policy that
        is over when the form arrives is fetched anew, once.

        Parameters
        ----------
        model
            Who will read it: a model for the create, the name of its `check_model` for the check.
        file
            Read from where it stands, `size` bytes; able to seek, or an expired policy is an error.
        name
            Only its suffix is used; people's names for their files are none of the service's affair.
        size
            In bytes.
        seconds
            The most that it may take altogether; at most `UPLOAD_MAX_SECONDS`.

        Raises
        ------
        JobRefusedError
            ``Upload.EntityTooLarge``: the file is larger than the storage takes.
        AccountError, ThrottledError, NotConnectedError, ProviderIllError
        TryLaterError
            The file could not be read, or isn't as long as `size`.
        """
        most = UPLOAD_MAX_SECONDS if seconds is None else min(seconds, UPLOAD_MAX_SECONDS)
        until = time.monotonic() + most
        start = _position(file)
        key_name = uuid.uuid4().hex + _suffix(name)  # never one that is there: the storage refuses to overwrite
        for attempt in (1, 2):
            policy = self._policy(model if isinstance(model, str) else model.name, until)
            if policy.max_bytes is not None and size > policy.max_bytes:
                raise JobRefusedError(
                    "Upload.EntityTooLarge",
                    f"the file has {size} bytes, and the service's temporary storage takes {policy.max_bytes} at most",
                )
            key = f"{policy.directory}/{key_name}"
            try:
                self._post(policy, key, file, size, until)
            except ProviderIllError as error:
                over = error.http_status == 403 and "expired" in error.message.lower()
                if attempt == 1 and over and start is not None and _rewound(file, start):
                    continue
                raise
            return STORED + key
        raise AssertionError("the second attempt returns or raises")

    def _policy(self, model: str, until: float) -> UploadPolicy:
        params = {"action": "getPolicy", "model": model}
        try:
            answer = self._call("GET", "/uploads", params=params, seconds=self._left(until))
        except JobRefusedError as error:  # nothing of the job was in the request: the same befalls every job
            raise AccountError(
                error.code, error.message, request_id=error.request_id, http_status=error.http_status
            ) from None
        return responses.read_policy(answer, https=self._https)

    def _post(self, policy: UploadPolicy, key: str, file: BinaryIO, size: int, until: float) -> None:
        fields = {**policy.fields, "key": key, "success_action_status": "200"}
        form = FormBody(fields, file, posixpath.basename(key), size, boundary=uuid.uuid4().hex)
        raw = self._transport.exchange(
            "POST",
            policy.host,
            body=form,
            headers={"Content-Type": form.content_type},
            seconds=self._left(until, within=UPLOAD_MAX_SECONDS),
        )
        if not 200 <= raw.status < 300:
            raise responses.storage_error(raw)

    def _left(self, until: float, within: float | None = None) -> float:
        left = until - time.monotonic()
        if left <= 0:
            raise ProviderIllError("NoAnswer", "the upload's time was over")
        return min(left, self.call_seconds if within is None else within)

    def _call(
        self,
        method: str,
        path: str,
        *,
        payload: Mapping[str, object] | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """Send one request, once, and return its 2xx answer or raise what its trouble means."""
        key = self._key()
        raw = self._transport.exchange(
            method,
            self._base + path,
            key=key,
            body=None if payload is None else JsonBody(json.dumps(payload).encode()),
            params=params,
            headers={**({} if payload is None else {"Content-Type": "application/json"}), **(headers or {})},
            seconds=seconds,
        )
        answer = responses.read_answer(raw, key)
        if not 200 <= answer.status < 300:
            raise responses.error_of(answer)
        return answer

    def _key(self) -> str:
        try:
            key = self._api_key()
        except (LookupError, ValueError):
            key = ""  # told below, without the error's text
        key = key.strip() if isinstance(key, str) else ""
        if not _API_KEY.fullmatch(key) or _PLACEHOLDER.search(key):
            raise AccountError("ApiKeyMissing", "the API key of the video service isn't set, or isn't a key")
        return key


def _parameters(model: Model, call: Call, parameters: Mapping[str, object]) -> dict[str, object]:
    try:
        return model.for_call(call, parameters)
    except ValueError as error:  # settings are checked when they are read: these are of another version of ours
        raise JobRefusedError("InvalidParameter", str(error)) from None


def _resolving(*links: str) -> dict[str, str]:
    """Return the header with which the service takes links into its temporary storage."""
    return {"X-DashScope-OssResourceResolve": "enable"} if any(link.startswith(STORED) for link in links) else {}


def _in_path(task_id: str) -> str:
    if responses.task_id_of(task_id) != task_id:
        raise JobRefusedError("InvalidParameter.TaskId", "not the id of a task")
    return quote(task_id, safe="")


def _not_whole(fault: str, answer: Answer) -> NoReturn:
    raise ProviderIllError("Nonsense", fault, request_id=answer.request_id, http_status=answer.status)


def _suffix(name: str) -> str:
    """Return a file's suffix if it is a plain one: the service wants the right one in the link."""
    suffix = posixpath.splitext(name)[1].lower()
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def _position(file: BinaryIO) -> int | None:
    try:
        return file.tell() if file.seekable() else None
    except (OSError, ValueError, AttributeError):  # a stream of an HTTP answer
        return None


def _rewound(file: BinaryIO, start: int) -> bool:
    try:
        return file.seek(start) == start
    except (OSError, ValueError):
        return False
