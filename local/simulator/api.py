"""The service's calls: what a request must look like, and what it is answered."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from simulator import inputs, storage
from simulator.errors import ApiError, InputError
from simulator.models import CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

    from simulator.account import Account, Task
    from simulator.inputs import Box
    from simulator.models import Model, Rule

    Answer = tuple[int, dict[str, Any]]

BASE: Final = "/api/v1"
BEIJING: Final = timezone(timedelta(hours=8))
LONGEST_WINDOW: Final = timedelta(hours=24)  # of a list
LARGEST_PAGE: Final = 100  # ours: the service's is not documented
LIST_FIELDS: Final = {
    "start_time", "end_time", "model_name", "status", "page_no", "page_size", "task_id", "api_key_id"
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One request: which endpoint, and everything it brought."""

    endpoint: str
    task_id: str | None
    headers: Message  # looked up without regard to case
    query: dict[str, str]
    body: bytes
    origin: str  # of this service, as the caller knows it


def route(method: str, path: str) -> tuple[str, str | None] | None:
    """Tell the endpoint and the task id of a path, None if there is no such call."""
    task = re.fullmatch(f"{BASE}/tasks/([^/]+)(/cancel)?", path)
    if task:
        called = {("GET", None): "query", ("POST", "/cancel"): "cancel"}.get((method, task[2]))
        return (called, task[1]) if called else None
    endpoint = {
        ("POST", f"{BASE}/services/aigc/image2video/face-detect"): "check",
        ("POST", f"{BASE}/services/aigc/image2video/video-synthesis"): "create",
        ("POST", f"{BASE}/services/aigc/image2video/video-synthesis/"): "create",
        ("GET", f"{BASE}/uploads"): "policy",
        ("GET", f"{BASE}/tasks"): "list",
        ("GET", f"{BASE}/tasks/"): "list",
    }.get((method, path))
    return (endpoint, None) if endpoint else None


def refusal(error: ApiError) -> Answer:
    """Put an error into the body that every call answers with."""
    return error.status, {"code": error.code, "message": error.message, "request_id": str(uuid.uuid4())}


def beijing(when: float | None) -> str | None:
    """Write Unix time as the service does: Beijing time, milliseconds, no zone."""
    return when if when is None else datetime.fromtimestamp(when, BEIJING).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


class Api:
    """Answers calls for one account.

    Parameters
    ----------
    account : Account
        Whose tasks these are.
    link : Callable[[str, str], str]
        Makes a link, at an origin, to the video of a task id.
    uploads : str
        Path to which forms of the temporary storage are posted.
    """

    def __init__(self, account: Account, link: Callable[[str, str], str], uploads: str) -> None:
        self._account = account
        self._link = link
        self._uploads = uploads

    def answer(self, call: Call) -> Answer:
        """Give HTTP status and JSON body."""
        try:
            scheme, _, api_key = call.headers.get("Authorization", "").partition(" ")
            self._account.admit(call.endpoint, api_key if scheme == "Bearer" else "", _model_in(call))
            made: Answer = getattr(self, f"_{call.endpoint}")(call, api_key)
        except ApiError as error:
            return refusal(error)
        return made

    def _check(self, call: Call, _: str) -> Answer:
        if call.headers.get("X-DashScope-Async"):
            raise ApiError(403, "AccessDenied", "current user api does not support asynchronous calls.")
        order = _order(call)
        model = CHECKS.get(order["model"]) if isinstance(order["model"], str) else None
        if model is None:
            raise ApiError(404, "ModelNotFound", "Model not exist.")
        _only(order, {"image_url"}, set(model.check_rules))
        url = self._link_in(call, order["input"], "image_url", model.check_name)
        given = _parameters(order["parameters"], model.check_rules)
        if "ratio" in model.check_rules and "ratio" not in given:
            raise _invalid("The ratio is required.")
        try:
            download = self._account.fetch(url, model.check_name, model.picture_bytes)
            image = inputs.open_portrait(download, model)
            inputs.who_is_in(image)
        except InputError as error:
            status = self._account.settings.refused_check_status
            if not error.code.startswith("InvalidFile.") or status != 200:
                raise ApiError(400, error.code, error.message) from error
            output = _refused_portrait(model, error)
        else:
            output = {model.verdict: True}
            if model.boxes:
                face, ext = inputs.boxes(image.size, given["ratio"])
                output |= {"face_bbox": list(face), "ext_bbox": list(ext)}
            elif model.verdict == "pass":
                output |= {"message": "success"}
            else:
                output |= {"humanoid": True}
        self._account.charge_check(model.check_name)
        return 200, {"output": output, "usage": {"image_count": 1}, "request_id": str(uuid.uuid4())}

    def _create(self, call: Call, api_key: str) -> Answer:
        if call.headers.get("X-DashScope-Async") != "enable":
            raise ApiError(403, "AccessDenied", "current user api does not support synchronous calls.")
        order = _order(call)
        model = self._account.model(order["model"])
        if model is None:
            raise ApiError(404, "ModelNotFound", "Model not exist.")
        _only(order, set(model.inputs), set(model.rules))
        given = order["input"]
        rules = {name: rule.default for name, rule in model.rules.items()}
        task = self._account.create(
            api_key=api_key,
            model=order["model"],
            image_url=self._link_in(call, given, "image_url", order["model"]),
            audio_url=self._link_in(call, given, "audio_url", order["model"]),
            face_bbox=_box_in(given, "face_bbox") if model.boxes else None,
            ext_bbox=_box_in(given, "ext_bbox") if model.boxes else None,
            parameters=rules | _parameters(order["parameters"], model.rules),
        )
        return 200, {"output": {"task_id": task.id, "task_status": task.status}, "request_id": task.request_id}

    def _policy(self, call: Call, api_key: str) -> Answer:
        if call.query.get("action") != "getPolicy" or set(call.query) != {"action", "model"}:
            raise _invalid("action=getPolicy and model are required.")
        name = call.query["model"]
        if self._account.model(name) is None and name not in CHECKS:
            raise ApiError(404, "ModelNotFound", "Model not exist.")
        account = self._account
        with account.changed:
            data = account.storage.policy(
                name,
                account.owner(api_key) or "",
                call.origin + self._uploads,
                seconds=account.settings.policy_seconds,
                max_mb=account.settings.upload_max_mb,
            )
        return 200, {"request_id": str(uuid.uuid4()), "data": data}

    def _link_in(self, call: Call, given: dict[str, Any], name: str, model: str) -> str:
        """Read a link: http, https, or with its header a file of the temporary storage that is for this model."""
        url = given.get(name)
        if not isinstance(url, str) or not url:
            raise _invalid(f"Field required: input.{name}")
        if url.startswith(storage.SCHEME) and call.headers.get("X-DashScope-OssResourceResolve") == "enable":
            account = self._account
            with account.changed:
                if account.storage.find(url, model, "", seconds=account.settings.stored_seconds) is None:
                    raise storage.refused(name)
            return url
        try:
            parts = urlsplit(url)
            known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that isn't one, half an IPv6 address
            known = False
        if not known:
            raise ApiError(400, "InvalidURL", f"The {name} is invalid: only HTTP and HTTPS links are supported.")
        return url

    def _query(self, call: Call, _: str) -> Answer:
        task = self._account.find(call.task_id or "")
        if task is None:
            unknown = {"task_id": call.task_id, "task_status": "UNKNOWN"}
            return 200, {"output": unknown, "request_id": str(uuid.uuid4())}
        fault = self._account.faults.take("task_status", "query", task.id, task.text)
        if fault:
            told = {"task_id": task.id, "task_status": fault["task_status"], "submit_time": beijing(task.submitted_at)}
            return 200, {"output": told, "request_id": str(uuid.uuid4())}
        output: dict[str, Any] = {
            "task_id": task.id,
            "task_status": task.status,
            "submit_time": beijing(task.submitted_at),
            "scheduled_time": beijing(task.started_at),
            "end_time": beijing(task.ended_at),
            "code": task.code,
            "message": task.message,
        }
        answer: dict[str, Any] = {
            "request_id": str(uuid.uuid4()),
            "output": {name: value for name, value in output.items() if value is not None},
        }
        if task.status == "SUCCEEDED" and task.video:
            if not self._account.faults.take("no_link", "query", task.id, task.text):
                answer["output"]["results"] = {"video_url": self._link(call.origin, task.id)}
            seconds = round(task.video.seconds, 2)
            # Two pages of wan2.2-s2v name the length differently; the other models' don't.
            wan = task.video.ratio == "standard" and "resolution" in task.parameters
            answer["usage"] = (
                {"duration": seconds} if wan else {"video_duration": seconds, "video_ratio": task.video.ratio}
            )
        return 200, answer

    def _cancel(self, call: Call, _: str) -> Answer:
        if not self._account.cancel(call.task_id or ""):
            raise ApiError(
                400,
                "UnsupportedOperation",
                "Failed to cancel the task, please confirm if the task is in PENDING status.",
            )
        return 200, {"request_id": str(uuid.uuid4())}

    def _list(self, call: Call, _: str) -> Answer:
        if unknown := set(call.query) - LIST_FIELDS:
            raise _invalid(f"Unknown query parameters: {', '.join(sorted(unknown))}.")
        first, last = self._window(call.query)
        page_no = _whole(call.query, "page_no", 1, None)
        page_size = _whole(call.query, "page_size", 10, LARGEST_PAGE)
        wanted = [
            row
            for task in self._account.listed()
            if first <= task.submitted_at <= last
            for row in [_row(task)]
            if all(
                row[name] == call.query[name]
                for name in ("model_name", "status", "task_id", "api_key_id")
                if name in call.query
            )
        ]
        return 200, {
            "request_id": str(uuid.uuid4()),
            "total": len(wanted),
            "data": wanted[(page_no - 1) * page_size : page_no * page_size],
            "total_page": -(-len(wanted) // page_size),
            "page_no": page_no,
            "page_size": page_size,
        }

    def _window(self, query: dict[str, str]) -> tuple[float, float]:
        """Read a list's window: Beijing time, at most 24 h, by default the last 24 h; Unix time, s."""
        times: dict[str, datetime] = {}
        for name in ("start_time", "end_time"):
            if name in query:
                if not re.fullmatch(r"\d{14}", query[name]):
                    raise _invalid(f"The {name} is invalid: YYYYMMDDhhmmss is expected.")
                try:
                    times[name] = datetime.strptime(query[name], "%Y%m%d%H%M%S").replace(tzinfo=BEIJING)
                except ValueError as error:
                    raise _invalid(f"The {name} is invalid: YYYYMMDDhhmmss is expected.") from error
        now = datetime.fromtimestamp(self._account.now(), BEIJING)
        if "start_time" in times:
            first = times["start_time"]
            last = times.get("end_time", first + LONGEST_WINDOW)
        else:
            last = times.get("end_time", now)
            first = last - LONGEST_WINDOW
        if not timedelta() <= last - first <= LONGEST_WINDOW:
            raise _invalid("The time range is invalid: start_time to end_time must be within 24 hours.")
        return first.timestamp(), last.timestamp()


def _row(task: Task) -> dict[str, Any]:
    """Show a task as a row of a list: no inputs, no link."""
    row = {
        "api_key_id": task.api_key_id,
        "gmt_create": round(task.submitted_at * 1000),
        "start_time": None if task.started_at is None else round(task.started_at * 1000),
        "end_time": None if task.ended_at is None else round(task.ended_at * 1000),
        "region": "cn-beijing",
        "request_id": task.request_id,
        "status": task.status,
        "task_id": task.id,
        "model_name": task.model,
    }
    return {name: value for name, value in row.items() if value is not None}


def _invalid(message: str) -> ApiError:
    return ApiError(400, "InvalidParameter", message)


def _model_in(call: Call) -> str:
    """Tell which model a call is for, where the service counts calls by model."""
    if call.endpoint == "policy":
        return call.query.get("model", "")
    if call.endpoint not in {"check", "create"}:
        return ""
    try:
        return str(json.loads(call.body)["model"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _refused_portrait(model: Model, error: InputError) -> dict[str, Any]:
    """Word a refused portrait as the model's page does."""
    if model.boxes:
        return {model.verdict: False, "code": error.code, "message": error.message}
    if model.verdict == "pass":
        no_face = error.code == "InvalidFile.NoHuman"
        return {model.verdict: False, "message": "No human face detected." if no_face else error.message}
    return {model.verdict: False, "humanoid": error.code != "InvalidFile.NoHuman"}


def _order(call: Call) -> dict[str, Any]:
    """Read a JSON body of model, input and parameters."""
    content_type = call.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise _invalid("The Content-Type must be application/json.")
    try:
        order = json.loads(call.body)
    except (ValueError, RecursionError) as error:
        raise _invalid("The request body is not valid JSON.") from error
    if not isinstance(order, dict):
        raise _invalid("The request body must be a JSON object.")
    order.setdefault("parameters", {})
    order.setdefault("model", None)
    if not isinstance(order.get("input"), dict) or not isinstance(order["parameters"], dict):
        raise _invalid("input and parameters must be JSON objects.")
    return order


def _only(order: dict[str, Any], input_fields: set[str], parameter_fields: set[str]) -> None:
    """Refuse every field that the model's page doesn't name."""
    unknown = {str(name) for name in order if name not in {"model", "input", "parameters"}}
    unknown |= {f"input.{name}" for name in order["input"] if name not in input_fields}
    unknown |= {f"parameters.{name}" for name in order["parameters"] if name not in parameter_fields}
    if unknown:
        raise _invalid(f"Unknown fields: {', '.join(sorted(unknown))}.")


def _parameters(given: dict[str, Any], rules: Mapping[str, Rule]) -> dict[str, Any]:
    for name, value in given.items():
        if not rules[name].allows(value):
            raise _invalid(f"The {name} is invalid.")
    return given


def _box_in(given: dict[str, Any], name: str) -> Box:
    box = given.get(name)
    if not isinstance(box, list) or len(box) != 4 or not all(type(side) is int and side >= 0 for side in box):
        raise _invalid("Invalid bbox input")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise _invalid("Invalid bbox input")
    return (box[0], box[1], box[2], box[3])


def _whole(query: dict[str, str], name: str, default: int, most: int | None) -> int:
    text = query.get(name, str(default))
    value = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
    if value < 1 or (most is not None and value > most):
        raise _invalid(f"The {name} is invalid: a whole number from 1{f' to {most}' if most else ''} is expected.")
    return value
