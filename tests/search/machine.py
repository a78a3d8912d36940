"""The search: Hypothesis draws histories of a stack, and the judge looks at each step and at the end of each.

A history is people's actions, the service's faults, functions that die, stall or meet conflicts, and time. Hypothesis
shortens one that fails to the fewest steps.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from judge import QUIET_SECONDS, Judge
from small_world import START, UPLOADS, SmallWorld, Strike

from portraitcast.domain.models import DEFAULT, MODELS, Boxes
from simulator.account import TROUBLES
from simulator.faults import NONSENSE

PEOPLE: Final = ("anna", "bob")
LATE: Final = st.sampled_from([0.0, 0.0, 0.0, 1.0, 4.0, 70.0, 4000.0])
AGAIN: Final = st.sampled_from([None, None, None, 2.0, 100.0, 4000.0])
# What may go wrong, and at which calls: those that change something, and any.
CALLS: Final = {
    "submit": [
        *("any", "put_item", "update_item", "transact_write_items", "query", "get_item", "get_object", "head_object"),
        *("list_objects_v2", "put_object", "send_message", "start_execution", "sign", "service.check", "service.create", "service.list"),
    ],
    "deliver": ["any", "service.fetch", "service.query", "put_object", "head_object", "transact_write_items", "update_item", "query", "send_message"],
    "status": ["any"],
    "prepare": ["any"],
}
SETTINGS: Final = {
    "calm": {"parameters": {"style_level": "calm"}},
    "active": {"parameters": {"style_level": "active"}},
    "zed": {"input": {"image_url": "zed.png"}},
}
HTTP_FAULTS: Final[list[dict[str, Any]]] = [
    {"close": "before"},
    {"close": "after"},
    {"hang": True, "effect": True},
    {"status": 500},
    {"status": 502, "body": "<html>Bad Gateway</html>", "effect": True},
    {"status": 429, "body": {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded."}},
    {"delay": 20},
]
REFUSALS: Final[list[dict[str, Any]]] = [
    {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."},
    {"code": "InvalidURL.Timeout", "message": "Downloading the image timed out."},
    {"code": "InvalidParameter", "message": "The audio is of a kind that is not supported."},
]


class Search(RuleBasedStateMachine):
    """One history."""

    def __init__(self) -> None:
        super().__init__()
        self.world = SmallWorld()
        self.judge = Judge(self.world)
        self.files = 0

    @initialize(
        most=st.sampled_from([2, 1]),
        budget=st.sampled_from([0.0, 0.0, 0.0, 0.5]),
        skew=st.sampled_from([0.0, 0.0, 40.0, -40.0, 130.0, -130.0]),
        task_seconds=st.sampled_from([20.0, 1.0, 400.0]),
    )
    def begin(self, most: int, budget: float, skew: float, task_seconds: float) -> None:
        """Choose the stack's parameters, and what the service is like."""
        self.judge.close()
        self.world.close()
        self.world = SmallWorld(most=most, budget=budget)
        self.judge = Judge(self.world)
        self.world.service.set({"clock_offset_seconds": skew, "task_seconds": task_seconds})

    @property
    def dropped(self) -> bool:
        """Whether anything was dropped yet."""
        return bool(self.world.changes)

    # ------------------------------------------------------------------ people
    @rule(who=st.sampled_from(PEOPLE), pair=st.booleans(), late=LATE, again=AGAIN)
    def drop_voice(self, who: str, pair: bool, late: float, again: float | None) -> None:  # noqa: FBT001  # a rule's
        """Drop a new voice; `pair`: with a portrait of its own."""
        self.files += 1
        self.world.put(f"acme/{who}.wav", f"voice {who} {self.files} 2.0", late=late, again=again)
        if pair:
            self.world.put(f"acme/{who}.png", f"face {who} {self.files}")

    @rule(key=st.sampled_from(["anna.mp3", "anna.png", "bob.png", "anna.jpg", "zed.png"]), bad=st.sampled_from(["", "", " no face"]), late=LATE, again=AGAIN)
    def drop_file(self, key: str, bad: str, late: float, again: float | None) -> None:
        """Drop another new file."""
        self.files += 1
        who = key.partition(".")[0]
        content = f"voice {who} {self.files} 3.0" if key.endswith("mp3") else f"face {who} {self.files}{bad}"
        self.world.put(f"acme/{key}", content, late=late, again=again)

    @rule(key=st.sampled_from(["anna", "settings"]), what=st.sampled_from([*SETTINGS, "broken"]), late=LATE)
    def drop_settings(self, key: str, what: str, late: float) -> None:
        """Drop a settings JSON, of a job or of the folder."""
        self.world.put(f"acme/{key}.json", json.dumps(SETTINGS[what]) if what in SETTINGS else "{", late=late)

    @rule(late=LATE)
    def drop_job_of_links(self, late: float) -> None:
        """Drop a JSON that is a job by itself; nobody measures its voice."""
        self.files += 1
        link = "https://voices.example/" + quote(f"voice linked {self.files} 2.0")
        self.world.put("acme/linked.json", json.dumps({"input": {"audio_url": link}}), late=late)
        self.world.put("acme/linked.png", f"face linked {self.files}")

    @precondition(lambda self: self.dropped)
    @rule(n=st.integers(0, 5), late=LATE, again=AGAIN)
    def drop_again(self, n: int, late: float, again: float | None) -> None:
        """Drop a file once more that was there before."""
        dropped = [c for c in self.world.changes if c.content is not None]
        change = dropped[-1 - n % len(dropped)]
        self.world.put(change.key, change.content or "", late=late, again=again)

    @precondition(lambda self: self.dropped)
    @rule(n=st.integers(0, 5), late=LATE, again=AGAIN)
    def delete(self, n: int, late: float, again: float | None) -> None:
        """Delete a file."""
        there = sorted(k for k in self.world.s3.buckets[UPLOADS] if self.world.s3.current(UPLOADS, k))
        if there:
            self.world.delete(there[n % len(there)], late=late, again=again)

    # ------------------------------------------------------------------ time and operators
    @rule(seconds=st.sampled_from([4.0, 15.0, 30.0, 70.0, 300.0, 1000.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(seconds)

    @precondition(lambda self: self.world.budget)
    @rule()
    def wait_for_midnight(self) -> None:
        """Let time pass to just before the service's next day."""
        self.world.run(-(self.world.now + 8 * 3600) % 86_400 - 30)

    @precondition(lambda self: self.world.running())
    @rule(told=st.booleans(), status=st.sampled_from(["ABORTED", "ABORTED", "FAILED", "TIMED_OUT"]))
    def end_execution(self, told: bool, status: str) -> None:  # noqa: FBT001  # a rule's
        """Abort an execution, or let it break; the event of it may be lost."""
        self.world.end(self.world.running()[0], status, told=told or status == "ABORTED")

    @rule(paused=st.booleans(), late=st.sampled_from([0.0, 30.0]))
    def pause(self, paused: bool, late: float) -> None:  # noqa: FBT001  # a rule's
        """Pause or resume; the order may come late."""
        self.world.post({"pause": paused, "at": None}, after=late)

    @rule()
    def sweep(self) -> None:
        """Let the schedule come."""
        self.world.post({"sweep": True})

    @precondition(lambda self: self.world.dead)
    @rule()
    def redrive(self) -> None:
        """Send the dead letters back."""
        self.world.redrive()

    # ------------------------------------------------------------------ functions
    @rule(
        data=st.data(),
        function=st.sampled_from(["submit", "submit", "submit", "deliver", "deliver", "status", "prepare"]),
        what=st.sampled_from(["die", "die after", "refuse", "lose", "conflict", "stall", "stall"]),
        nth=st.integers(1, 4),
        far=st.integers(0, 3),
        seconds=st.sampled_from([1.0, 30.0, 115.0, 590.0]),
    )
    def strike(self, data: Any, function: str, what: str, nth: int, far: int, seconds: float) -> None:
        """Let something go wrong at a call to come."""
        call = data.draw(st.sampled_from(CALLS[function]))
        times = nth + 4 * far if call == "any" else nth
        self.world.strikes.append(Strike(what, function, call, times, seconds))

    # ------------------------------------------------------------------ the service
    @rule(
        endpoint=st.sampled_from(["create", "create", "create", "check", "query", "list", "cancel", "result"]),
        action=st.sampled_from(HTTP_FAULTS),
        times=st.sampled_from([1, 1, 1, 4]),
    )
    def fault(self, endpoint: str, action: dict[str, Any], times: int) -> None:
        """Let calls of the service fail."""
        self.world.service.faults.add({"endpoint": endpoint, "action": dict(action), "times": times})

    @rule(endpoint=st.sampled_from(["query", "list", "create", "check"]), name=st.sampled_from(sorted(set(NONSENSE) - {"deep", "long_texts", "numbers_long"})))
    def nonsense(self, endpoint: str, name: str) -> None:
        """Let the service answer nonsense once."""
        self.world.service.faults.add({"endpoint": endpoint, "action": {"nonsense": name}})

    @rule(endpoint=st.sampled_from(["create", "check"]), said=st.sampled_from(REFUSALS))
    def refusal(self, endpoint: str, said: dict[str, Any]) -> None:
        """Let the service refuse a job."""
        self.judge.trouble = True
        self.world.service.faults.add({"endpoint": endpoint, "action": {"status": 400, "body": said}})

    @rule(code=st.sampled_from(["InternalError", "InvalidParameter.DataInspection", None]))
    def task_fails(self, code: str | None) -> None:
        """Let the next task that ends fail."""
        message = "Unable to download the media resource during the data inspection process."
        self.world.service.faults.add({"action": {"task_fails": {"code": code, "message": message}}})

    @rule(times=st.sampled_from([1, 4]))
    def no_link(self, times: int) -> None:
        """Let a finished task have no link."""
        self.world.service.faults.add({"action": {"no_link": True}, "times": times})

    @rule(state=st.sampled_from(["ok", "ok", *sorted(TROUBLES)]))
    def account(self, state: str) -> None:
        """Let the account be in trouble, or well."""
        self.judge.trouble = self.judge.trouble or state != "ok"
        self.world.service.set_trouble(state)

    @rule(times=st.integers(1, 4))
    def unreachable(self, times: int) -> None:
        """Let the service not be reached."""
        self.world.transport.unreachable = times

    @rule(lag=st.sampled_from([0.0, 10.0, 60.0]))
    def list_lag(self, lag: float) -> None:
        """Let fresh tasks be in no list for a while: less than it takes to the second look."""
        self.world.service.set({"list_lag_seconds": lag})

    @precondition(lambda self: len(self.judge.orders) > 1)
    @rule()
    def list_forgets(self) -> None:
        """Let the list lack all tasks of now, among them one that the stack knows."""
        self.world.service.hidden = set(self.world.service.tasks)

    @rule(manual=st.booleans())
    def hold_tasks(self, manual: bool) -> None:  # noqa: FBT001  # a rule's
        """Let tasks run on, or end in their time."""
        self.world.service.set({"manual": manual})

    @rule(other_account=st.booleans())
    def rotate_key(self, other_account: bool) -> None:  # noqa: FBT001  # a rule's
        """Give the stack another key, of the same account or of another."""
        service = self.world.service
        service.tenant += other_account
        service.set({"api_key": f"{service.settings.api_key}x"})

    @rule(seconds=st.sampled_from([2.0, 9.0]), same_key=st.booleans())
    def foreign_task(self, seconds: float, same_key: bool) -> None:  # noqa: FBT001  # a rule's
        """Let other software of the same account make a task; of our length only with a key that tells it apart."""
        key = self.world.service.settings.api_key if same_key else "sk-theirs"
        length = 9.0 if same_key else seconds
        self.world.service.create(
            api_key=key,
            model=MODELS[DEFAULT].name,
            image_url="https://theirs.example/face",
            audio_url="https://theirs.example/" + quote(f"voice theirs 1 {length}"),
            face_bbox=None,
            ext_bbox=None,
            parameters={},
        )

    # ------------------------------------------------------------------ what must hold
    @invariant()
    def holds(self) -> None:
        """At every step."""
        self.judge.check()

    def teardown(self) -> None:
        """End all trouble, let an hour pass, and look at what has become of everything."""
        try:
            if not self.judge.faults:
                self._quiet()
        finally:
            self.judge.close()
            self.world.close()

    def _quiet(self) -> None:
        world = self.world
        world.strikes.clear()
        world.service.faults.clear()
        world.service.set_trouble("ok")
        world.service.set({"manual": False, "list_lag_seconds": 0.0})
        world.service.hidden.clear()
        world.transport.unreachable = 0
        world.run(60)
        world.post({"pause": False, "at": None})
        world.redrive()
        world.run(4000)  # the latest event
        world.redrive()
        world.run(QUIET_SECONDS)
        self.judge.check_end()


__all__ = ["START", "Boxes", "Search"]
