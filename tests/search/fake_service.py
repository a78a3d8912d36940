"""The simulator's account in this process: its tasks run on the world's clock, and its faults are the simulator's.

No network, no threads, no pictures: a "video" says which task made it. What a task was made from is kept with it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from portraitcast.adapters.dashscope.errors import NotConnectedError, ProviderIllError
from portraitcast.adapters.dashscope.transport import RawAnswer
from simulator import api
from simulator.account import Account, Settings, Task, key_id
from simulator.faults import spoil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fake_aws import Outside

    from portraitcast.adapters.dashscope.transport import Body

ORIGIN: Final = "https://service.example"
CALL_SECONDS: Final = 35.0
NO_RATES: Final[dict[str, Any]] = dict.fromkeys(("check_rate", "create_rate", "query_rate", "list_rate", "cancel_rate"))
_BOXES: Final = {"face_bbox": [302, 286, 610, 593], "ext_bbox": [71, 9, 840, 778]}


class Service(Account):
    """An account of the simulator that lives on another clock."""

    def __init__(self, clock: Callable[[], float], content: Callable[[str], str | None]) -> None:
        self._clock = clock
        self.content = content  # what lies behind a link
        super().__init__(Settings(task_seconds=20.0, **NO_RATES))
        self.tenant = 0  # whose key it is: another account sees no task of this one
        self.tenants: dict[str, int] = {}  # of tasks
        self.hidden: set[str] = set()  # from lists
        self.checks: list[float] = []  # when portraits were checked
        self.on_create: Callable[[Task], None] = lambda _task: None

    def now(self) -> float:
        """Return the time by the service's clock."""
        return self._clock() + self.settings.clock_offset_seconds

    def create(self, **given: Any) -> Task:
        """Take an order; nothing but the time runs it."""
        number = len(self.tasks) + 1
        task = Task(
            id=f"task-{number}",
            request_id=f"request-{number}",
            api_key_id=key_id(given.pop("api_key")),
            submitted_at=self.now(),
            **given,
        )
        with self.changed:
            self.tasks[task.id] = self._open[task.id] = task
            self.tenants[task.id] = self.tenant
            self._settle()
        self.on_create(task)
        return replace(task, status="PENDING")

    def charge_check(self, check_name: str) -> None:
        """Count a check."""
        super().charge_check(check_name)
        self.checks.append(self._clock())

    def find(self, task_id: str) -> Task | None:
        """Give a task that this account has."""
        found = super().find(task_id)
        return found if found and self.tenants[task_id] == self.tenant else None

    def listed(self) -> list[Task]:
        """Give the tasks of this account that show."""
        shown = super().listed()
        return [t for t in shown if self.tenants[t.id] == self.tenant and t.id not in self.hidden]

    def cancel(self, task_id: str) -> bool:
        """Call off a task of this account."""
        return self.tenants.get(task_id) == self.tenant and super().cancel(task_id)

    def _settle(self) -> None:
        now = self.now()
        while True:
            running = [t for t in self._open.values() if t.status == "RUNNING"]
            for task in running:
                self._go_on(task, now)
            for task in list(self._open.values()):
                if now - task.submitted_at > self.settings.timeout_seconds:
                    self._end(task, "FAILED", "InternalError.Timeout", "The task timed out.", settle=False)
            if any(t.status == "RUNNING" for t in self._open.values()) or not self._open:
                return
            following = next(iter(self._open.values()))
            ended = max((t.ended_at or 0.0 for t in self.tasks.values()), default=0.0)
            following.status, following.started_at = "RUNNING", min(now, max(following.submitted_at, ended))
            self._go_on(following, now)
            if following.status == "RUNNING":
                return

    def _go_on(self, task: Task, now: float) -> None:
        """End a running task when its time has come."""
        seconds = 0.0 if task.released else self.settings.task_seconds or 0.0
        due = (task.started_at or now) + seconds
        if due > now or (self.settings.manual and not task.released):
            return
        fault = self.faults.take("task", "any", task.id, task.text)
        wrong = fault["task_fails"] if fault else {}
        self._end(task, "FAILED" if fault else "SUCCEEDED", wrong.get("code"), wrong.get("message"), settle=False)
        task.ended_at = min(now, due)

    def link(self, task_id: str) -> str:
        """Link to a task's video."""
        return f"https://results.aliyuncs.com/{task_id}"

    def seconds_of(self, task: Task) -> float:
        """Return how long a task's video is: as its voice, whose content says it."""
        return float((self.content(task.audio_url) or "0").rpartition(" ")[2])


class Calls(api.Api):
    """The service's calls, without pictures."""

    def __init__(self, service: Service) -> None:
        super().__init__(service, lambda _origin, task_id: service.link(task_id), ORIGIN)
        self._service = service

    def _check(self, call: api.Call, _: str) -> api.Answer:
        order = json.loads(call.body)
        content = self._service.content(order["input"]["image_url"])
        self._service.charge_check(order["model"])
        output: dict[str, Any] = {"check_pass": True, **_BOXES}
        if content is not None and "no face" in content:
            output = {"check_pass": False, "code": "InvalidFile.NoHuman", "message": "There is no human in the image."}
        return 200, {"output": output, "usage": {"image_count": 1}, "request_id": "check"}

    def _query(self, call: api.Call, key: str) -> api.Answer:
        task = self._service.find(call.task_id or "")
        status, answer = super()._query(call, key)
        if task is not None and task.status == "SUCCEEDED" and answer["output"].get("task_status") == "SUCCEEDED":
            if not self._service.faults.take("no_link", "query", task.id, task.text):
                answer["output"]["results"] = {"video_url": self._service.link(task.id)}
            answer["usage"] = {"video_duration": self._service.seconds_of(task), "video_ratio": "1:1"}
        return status, answer


class InProcess:
    """Stands for `Transport`: hands a request to the service, and strikes with its faults."""

    call_seconds = CALL_SECONDS

    def __init__(self, service: Service, outside: Outside, wait: Callable[[float], None]) -> None:
        self._service = service
        self._calls = Calls(service)
        self._outside = outside
        self._wait = wait
        self.unreachable = 0  # connections that can't be made

    def exchange(
        self,
        method: str,
        url: str,
        *,
        key: str | None = None,
        body: Body | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> RawAnswer:
        """Send one request."""
        found = api.route(method, urlsplit(url).path)
        assert found is not None, url
        endpoint, task_id = found
        content = body.read() if body is not None else b""
        sent: Any = {"Authorization": f"Bearer {key}", **(headers or {})}
        query = {name: str(value) for name, value in (params or {}).items()}
        call = api.Call(endpoint, task_id, sent, query, content, ORIGIN)
        answer: RawAnswer = self._outside(
            f"service.{endpoint}", lambda: self._answer(call, CALL_SECONDS if seconds is None else seconds)
        )
        return answer

    def _answer(self, call: api.Call, most: float) -> RawAnswer:
        service = self._service
        if self.unreachable:
            self.unreachable -= 1
            raise NotConnectedError("NotConnected", "no connection to the service")
        service.count(call.endpoint)
        text = call.body.decode()
        action = service.faults.take("http", call.endpoint, call.task_id, text) or {"delay": 0}
        if "delay" in action:
            self._wait(action["delay"])
            status, answer = self._calls.answer(call)
            odd = service.faults.take("answer", call.endpoint, call.task_id, text)
            return RawAnswer(status, None, spoil(odd, answer) if odd else json.dumps(answer).encode())
        if action["effect"] or action.get("close") == "after":
            self._calls.answer(call)
        if "status" in action:
            said = action.get("body", {"code": "SystemError", "message": "A fault on request.", "request_id": "f"})
            content = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            return RawAnswer(action["status"], (action.get("headers") or {}).get("Retry-After"), content)
        if "hang" in action:
            self._wait(most)
        raise ProviderIllError("NoAnswer", "the service's answer was lost")
