"""``make check-service``: hold the real service against what this project takes for granted about it.

It asks the free and cheapest of what can be asked, and says of each statement whether the service agreed. No task is
created. With ``CHECK_PORTRAIT=file`` one portrait is uploaded to the service's temporary storage and checked, which
costs CNY 0.004; without it nothing costs anything. ``MODEL`` names the model (``emo-v1``); ``DASHSCOPE_BASE_URL``
another address; the key is read from ``DASHSCOPE_API_KEY``, else asked for without echo, and is never shown or stored.

The exit code is 0 when nothing differed, 1 when something did, 2 when it could not be asked.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from portraitcast.adapters.dashscope import AccountError, DashScope, ProviderError
from portraitcast.adapters.dashscope.responses import Answer, clean, error_of, read_answer, read_check
from portraitcast.adapters.dashscope.transport import JsonBody, Transport
from portraitcast.domain.models import DEFAULT, MODELS, Model, UnknownModelError, model_named
from portraitcast.errors import PortraitcastError

if TYPE_CHECKING:
    from collections.abc import Callable

BASE_URL: Final = "https://dashscope.aliyuncs.com/api/v1"
WRONG_KEY: Final = "sk-00000000000000000000000000000000"  # of the right form, and nobody's
SHOWN: Final = 160  # characters of an answer that are shown


class Verdict(StrEnum):
    """What the service said to a statement."""

    AGREED = "agreed"
    DIFFERS = "differs"
    LEARNED = "learned"  # the documents are silent: what was seen
    NOT_SEEN = "not seen"  # it could not be asked, or there was nothing to see it in


@dataclass(frozen=True)
class Statement:
    """Something that this project takes for granted, or would like to know, about the service."""

    name: str
    words: str
    costs: bool = False


STATEMENTS: Final = {
    statement.name: statement
    for statement in (
        Statement("key", "a wrong key is HTTP 401 InvalidApiKey"),
        Statement("error-form", "an error holds code, message and request_id"),
        Statement("address", "a call that isn't there is known as the stack's trouble, not a job's"),
        Statement("query-unknown", "a query of an unknown id is HTTP 200 with the status UNKNOWN"),
        Statement("cancel-unknown", "cancelling what isn't PENDING is HTTP 400 UnsupportedOperation"),
        Statement("list-form", "the list holds total, data, total_page, page_no and page_size"),
        Statement("list-read", "this project's client reads the list to its end"),
        Statement("list-page", "the list gives pages of 100 rows"),
        Statement("list-model", "the list gives the rows of the model that was asked for, and no other"),
        Statement("list-row", "a row holds task_id, gmt_create in milliseconds, and the create's request_id"),
        Statement("list-day", "a list without times is that of the last 24 hours"),
        Statement("list-links", "a row holds no link"),
        Statement("list-order", "the order of the rows"),
        Statement("list-zone", "the zone of start_time and end_time"),
        Statement("policy-form", "an upload policy holds every field that the form needs"),
        Statement("policy-host", "files are uploaded to a host of aliyuncs.com, by HTTPS"),
        Statement("policy-time", "an upload policy lives 300 seconds"),
        Statement("policy-size", "the largest file of the temporary storage"),
        Statement("policy-models", "policies are given for each model and for its portrait check"),
        Statement("policy-wrong-model", "a policy for a model that isn't there"),
        Statement("upload", "a form with the file last, and without a key, is taken", costs=True),
        Statement("check-answer", "a portrait check of a stored picture answers a verdict", costs=True),
        Statement(
            "check-boxes", "a passed check of EMO holds face_bbox and ext_bbox, of four whole numbers", costs=True
        ),
        Statement("check-usage", "a portrait check counts one picture in usage.image_count", costs=True),
    )
}


@dataclass(frozen=True)
class Finding:
    """A statement, what became of it, and what was seen."""

    statement: Statement
    verdict: Verdict
    seen: str = ""


class Checker:
    """Asks the service, and keeps what was found.

    Parameters
    ----------
    base_url
        The service's address.
    key
        The API key.
    model
        Whose list, policy and portrait check are looked at.
    tell
        Called with each finding as it is made.
    """

    def __init__(self, base_url: str, key: str, model: Model, tell: Callable[[Finding], None]) -> None:
        self.findings: list[Finding] = []
        self._base = base_url.rstrip("/")
        self._key = key
        self._model = model
        self._tell = tell
        self._transport = Transport(None, 10.0, 60.0)
        self._service = DashScope(base_url, lambda: key, connect_timeout=10.0, read_timeout=60.0)

    def run(self, portrait: Path | None) -> None:
        """Ask everything; the portrait only if there is one.

        Raises
        ------
        ProviderError
            There was no answer, or the key is refused.
        """
        if self._service.key_mark() is None:
            raise AccountError("ApiKeyMissing", "DASHSCOPE_API_KEY isn't a key")
        answer = self._ask("GET", "/tasks/", {"page_size": 1})
        if answer.status == 401:
            raise error_of(answer)
        self._errors()
        self._tasks()
        self._list()
        self._policies()
        if portrait is None:
            for name, statement in STATEMENTS.items():
                if statement.costs:
                    self._found(name, Verdict.NOT_SEEN, "CHECK_PORTRAIT=file asks it, for CNY 0.004")
        else:
            self._portrait(portrait)

    # ------------------------------------------------------------------ what is asked
    def _errors(self) -> None:
        answer = self._ask("GET", "/tasks/", {"page_size": 1}, key=WRONG_KEY)
        self._judge("key", (answer.status, answer.body.get("code")) == (401, "InvalidApiKey"), _shape(answer))
        missing = [name for name in ("code", "message", "request_id") if not isinstance(answer.body.get(name), str)]
        self._judge("error-form", not missing, f"missing: {', '.join(missing)}" if missing else _shape(answer))
        answer = self._ask("POST", f"/services/aigc/image2video/no-such-call-{uuid.uuid4().hex[:8]}", {}, payload={})
        self._judge("address", answer.status >= 400 and isinstance(error_of(answer), AccountError), _shape(answer))

    def _tasks(self) -> None:
        unknown = str(uuid.uuid4())
        answer = self._ask("GET", f"/tasks/{unknown}")
        agreed = (answer.status, answer.output.get("task_status")) == (200, "UNKNOWN")
        self._judge("query-unknown", agreed, _shape(answer))
        answer = self._ask("POST", f"/tasks/{unknown}/cancel")
        agreed = (answer.status, answer.body.get("code")) == (400, "UnsupportedOperation")
        self._judge("cancel-unknown", agreed, _shape(answer))

    def _list(self) -> None:
        answer = self._ask("GET", "/tasks/", {"model_name": self._model.name, "page_no": 1, "page_size": 100})
        fields = ("total", "data", "total_page", "page_no", "page_size")
        missing = [name for name in fields if name not in answer.body]
        self._judge("list-form", not missing, f"missing: {', '.join(missing)}" if missing else _shape(answer))
        self._judge(
            "list-page", answer.body.get("page_size") in (100, "100"), f"page_size {answer.body.get('page_size')}"
        )
        try:
            self._found("list-read", Verdict.AGREED, f"{len(self._service.list_tasks(self._model))} tasks")
        except ProviderError as error:
            self._found("list-read", Verdict.DIFFERS, str(error))
        data = answer.body.get("data")
        rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
        if not rows:
            for name in ("list-model", "list-row", "list-day", "list-links", "list-order", "list-zone"):
                self._found(name, Verdict.NOT_SEEN, f"no task of {self._model.name} in the last 24 hours")
            return
        models = {str(row.get("model_name")) for row in rows}
        self._judge("list-model", models == {self._model.name}, ", ".join(sorted(models)))
        row = rows[0]
        created = [each["gmt_create"] for each in rows if isinstance(each.get("gmt_create"), int)]
        whole = len(created) == len(rows)
        agreed = whole and isinstance(row.get("task_id"), str) and isinstance(row.get("request_id"), str)
        self._judge("list-row", agreed, ", ".join(sorted(row)))
        if not whole:
            for name in ("list-day", "list-order", "list-zone"):
                self._found(name, Verdict.NOT_SEEN, "no readable gmt_create")
        else:
            now = datetime.now(UTC).timestamp()
            oldest = now - min(created) / 1000
            self._judge("list-day", oldest <= 86_400 + 300, f"the oldest row is {oldest / 3600:.1f} h old")
            order = {tuple(sorted(created)): "oldest first", tuple(sorted(created, reverse=True)): "newest first"}
            known = order.get(tuple(created), "none") if len(rows) > 1 else "one row only"
            self._found("list-order", Verdict.LEARNED, known)
            self._found("list-zone", Verdict.LEARNED, self._zone(created[0] / 1000))
        self._judge("list-links", "http" not in str(rows), f"{len(rows)} rows")

    def _zone(self, created: float) -> str:
        """Ask for a window around a task in both zones, and tell in which the task was found."""
        seen: list[str] = []
        for zone, hours in (("Beijing", 8), ("UTC", 0)):
            moment = datetime.fromtimestamp(created, UTC) + timedelta(hours=hours)
            first, last = ((moment + timedelta(minutes=add)).strftime("%Y%m%d%H%M%S") for add in (-5, 5))
            answer = self._ask(
                "GET", "/tasks/", {"model_name": self._model.name, "start_time": first, "end_time": last}
            )
            if isinstance(answer.body.get("total"), int) and answer.body["total"] > 0:
                seen.append(zone)
        return " and ".join(seen) or "found in neither Beijing time nor UTC"

    def _policies(self) -> None:
        answer = self._policy(self._model.name)
        data = answer.body.get("data")
        data = data if isinstance(data, dict) else {}
        needed = (
            "policy", "signature", "upload_dir", "upload_host", "expire_in_seconds", "max_file_size_mb",
            "oss_access_key_id", "x_oss_object_acl", "x_oss_forbid_overwrite",
        )  # fmt: skip
        missing = [name for name in needed if name not in data]
        self._judge(
            "policy-form", not missing, f"missing: {', '.join(missing)}" if missing else ", ".join(sorted(data))
        )
        host = clean(data.get("upload_host"), SHOWN)
        if (urlsplit(self._base).hostname or "").endswith(".aliyuncs.com"):
            self._judge("policy-host", host.startswith("https://") and host.rstrip("/").endswith(".aliyuncs.com"), host)
        else:
            self._found("policy-host", Verdict.LEARNED, f"another service than aliyuncs.com: {host}")
        self._judge("policy-time", data.get("expire_in_seconds") == 300, f"{data.get('expire_in_seconds')} s")
        self._found("policy-size", Verdict.LEARNED, f"{data.get('max_file_size_mb')} MB")
        refused = [
            f"{name}: {_shape(given)}"
            for model in MODELS.values()
            for name in (model.name, model.check_model)
            if (given := self._policy(name)).status != 200
        ]
        self._judge("policy-models", not refused, "; ".join(refused) or f"{len(MODELS) * 2} models")
        self._found("policy-wrong-model", Verdict.LEARNED, _shape(self._policy("no-such-model")))

    def _portrait(self, portrait: Path) -> None:
        size = portrait.stat().st_size
        try:
            with portrait.open("rb") as file:
                link = self._service.upload(self._model.check_model, file, portrait.name, size)
        except PortraitcastError as error:
            self._found("upload", Verdict.DIFFERS, clean(str(error), SHOWN))
            for name in ("check-answer", "check-boxes", "check-usage"):
                self._found(name, Verdict.NOT_SEEN, "the portrait could not be uploaded")
            return
        self._found("upload", Verdict.AGREED, f"{size} bytes")
        payload: dict[str, Any] = {"model": self._model.check_model, "input": {"image_url": link}}
        if self._model.takes_boxes:
            payload["parameters"] = {"ratio": "1:1"}
        headers = {"X-DashScope-OssResourceResolve": "enable"}
        answer = self._ask("POST", "/services/aigc/image2video/face-detect", payload=payload, headers=headers)
        try:
            read = type(read_check(answer, self._model)).__name__ if answer.status == 200 else "no answer"
        except ProviderError as error:
            read = str(error)
        verdict = answer.output.get(self._model.verdict)
        self._judge("check-answer", read.startswith("Check") and isinstance(verdict, bool), f"{read}, {_shape(answer)}")
        if not self._model.takes_boxes or verdict is not True:
            self._found("check-boxes", Verdict.NOT_SEEN, "no passed check of a model with boxes")
        else:
            boxes = [answer.output.get(name) for name in ("face_bbox", "ext_bbox")]
            whole = all(isinstance(box, list) and [type(side) for side in box] == [int] * 4 for box in boxes)
            self._judge("check-boxes", whole, str(boxes))
        usage = answer.body.get("usage")
        count = usage.get("image_count") if isinstance(usage, dict) else None
        self._judge("check-usage", count == 1, f"image_count {count}")

    # ------------------------------------------------------------------ asking and keeping
    def _policy(self, model: str) -> Answer:
        return self._ask("GET", "/uploads", {"action": "getPolicy", "model": model})

    def _ask(
        self,
        method: str,
        path: str,
        params: dict[str, str | int] | None = None,
        *,
        payload: object = None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Ask once, and give the answer whatever its status.

        Raises
        ------
        ProviderError
            There was no answer.
        """
        body = None if payload is None else JsonBody(json.dumps(payload).encode())
        sent = {**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}
        key = key or self._key
        raw = self._transport.exchange(method, self._base + path, key=key, body=body, params=params, headers=sent)
        return read_answer(raw, key)

    def _judge(self, name: str, agreed: object, seen: str) -> None:
        self._found(name, Verdict.AGREED if agreed else Verdict.DIFFERS, seen)

    def _found(self, name: str, verdict: Verdict, seen: str) -> None:
        finding = Finding(STATEMENTS[name], verdict, clean(seen, SHOWN))
        self.findings.append(finding)
        self._tell(finding)


def _shape(answer: Answer) -> str:
    """Tell an answer by its status and code, or by its fields: never by what a link or a policy holds."""
    code = answer.body.get("code") or answer.output.get("code")
    if code:
        message = answer.body.get("message") or answer.output.get("message")
        return f"HTTP {answer.status} {clean(code, SHOWN)}: {clean(message, SHOWN)}"
    output = f", output: {', '.join(sorted(map(str, answer.output)))}" if answer.output else ""
    fields = ", ".join(sorted(map(str, answer.body))) or "no JSON object"
    return f"HTTP {answer.status}, {fields}{output}"


def show(finding: Finding) -> None:
    """Print a finding."""
    print(f"{finding.verdict:9} {finding.statement.words}\n{'':9} {finding.seen}", flush=True)


def api_key() -> str:
    """Return the key of the environment, or one that is typed without echo; "" where neither can be."""
    key = os.environ.get("DASHSCOPE_API_KEY", "")
    if key or not sys.stdin.isatty():
        return key
    return getpass.getpass("API key of Model Studio (Beijing region), not shown: ")


def main() -> int:
    """Ask the service that the environment names; return the exit code."""
    base_url = os.environ.get("DASHSCOPE_BASE_URL") or BASE_URL
    try:
        model = model_named(os.environ.get("MODEL") or DEFAULT)
    except UnknownModelError as error:
        print(f"make check-service: {error}", file=sys.stderr)
        return 2
    named = os.environ.get("CHECK_PORTRAIT")
    portrait = Path(named) if named else None
    if portrait is not None and not portrait.is_file():
        print(f"make check-service: CHECK_PORTRAIT names no file: {portrait}", file=sys.stderr)
        return 2
    key = api_key().strip()
    if not key:
        print("make check-service: set DASHSCOPE_API_KEY to a key of the Beijing region", file=sys.stderr)
        return 2
    cost = f"one portrait check, CNY {model.check_cny:g}" if portrait else "nothing"
    print(f"Asking {base_url} about {model.name}. No video is ordered; this costs {cost}.\n", flush=True)
    try:
        checker = Checker(base_url, key, model, show)
        checker.run(portrait)
    except (PortraitcastError, ValueError) as error:
        print(f"\nmake check-service: the service could not be asked: {clean(str(error), 500)}", file=sys.stderr)
        return 2
    counts = {verdict: sum(each.verdict is verdict for each in checker.findings) for verdict in Verdict}
    print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) + ".")
    return 1 if counts[Verdict.DIFFERS] else 0


if __name__ == "__main__":
    sys.exit(main())
