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
from small_world import UPLOADS, SmallWorld, Strike

from portraitcast.domain.models import DEFAULT
from simulator.account import TROUBLES
from simulator.faults import NONSENSE

PEOPLE: Final = ("anna", "bob")
LATE: Final = st.sampled_from([0.0, 0.0, 0.0, 1.0, 4.0, 70.0, 4000.0])
AGAIN: Final = st.sampled_from([None, None, None, 2.0, 100.0, 4000.0])
# What may go wrong, and at which calls: those that change something, and any.
CALLS: Final = {
    "submit": [
        *("any", "put_item", "update_item", "transact_write_items", "query", "get_item", "get_object", "head_object"),
        *(
            "list_objects_v2",
            "put_object",
            "send_message",
            "start_execution",
            "sign",
            "service.check",
            "service.create",
            "service.list",
        ),
    ],
    "deliver": [
        "any",
        "service.fetch",
        "service.query",
        "put_object",
        "head_object",
        "transact_write_items",
        "update_item",
        "query",
        "send_message",
    ],
    "status": ["any"],
    "prepare": ["any"],
}
SETTINGS: Final = {
    "calm": {"parameters": {"style_level": "calm"}},
    "active": {"parameters": {"style_level": "active"}},
    "zed": {"input": {"image_url": "zed.png"}},
}
SUBMIT_STALLS: Final = [
    *("service.create", "service.create", "service.check", "transact_write_items", "list_objects_v2", "put_item"),
    *("query", "put_object"),
]
DELIVER_STALLS: Final = ["put_object", "service.fetch", "transact_write_items", "service.query"]
CREATES: Final[dict[str, dict[str, Any]]] = {
    "taken, answer lost": {"close": "after"},
    "not taken, answer lost": {"close": "before"},
    "well": {"delay": 0},
}
ODD: Final = sorted(set(NONSENSE) - {"deep", "long_texts", "numbers_long"})  # those take long to read
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
    {"code": "InternalError", "message": "An internal error has occurred."},
]


ALWAYS, CREATES_, DELIVERIES, EVENTS = "all", "creates", "deliveries", "events"
MOODS: Final = (CREATES_, DELIVERIES, EVENTS, ALWAYS)


def in_moods(*moods: str) -> Any:
    """Let a rule be drawn in histories of these moods, and in those of all: what belongs together meets sooner."""
    return precondition(lambda self: self.mood in {*moods, ALWAYS})


class Search(RuleBasedStateMachine):
    """One history. It has a mood, which says what kind of thing happens in it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = SmallWorld()
        self.judge = Judge(self.world)
        self.files = 0
        self.mood = ALWAYS
        self.rotated = False

    @initialize(
        mood=st.sampled_from(MOODS),
        most=st.sampled_from([2, 1]),
        budget=st.sampled_from([0.0, 0.0, 0.0, 0.5]),
        skew=st.sampled_from([0.0, 0.0, 40.0, -40.0, 130.0, -130.0]),
        task_seconds=st.sampled_from([20.0, 1.0, 400.0]),
    )
    def begin(self, mood: str, most: int, budget: float, skew: float, task_seconds: float) -> None:
        """Choose the stack's parameters, and what the service is like."""
        self.mood = mood
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
    @in_moods(CREATES_, DELIVERIES, EVENTS)
    @rule(who=st.sampled_from(PEOPLE), late=LATE, again=AGAIN)
    def drop_voice(self, who: str, late: float, again: float | None) -> None:
        """Drop a new voice."""
        self.files += 1
        self.world.put(f"acme/{who}.wav", f"voice {who} {self.files} 2.0", late=late, again=again)

    @in_moods(EVENTS)
    @rule(
        key=st.sampled_from(["anna.mp3", "anna.png", "bob.png", "anna.jpg", "zed.png"]),
        bad=st.sampled_from(["", "", " no face"]),
        late=LATE,
        again=AGAIN,
    )
    def drop_file(self, key: str, bad: str, late: float, again: float | None) -> None:
        """Drop another new file."""
        self.files += 1
        who = key.partition(".")[0]
        content = f"voice {who} {self.files} 3.0" if key.endswith("mp3") else f"face {who} {self.files}{bad}"
        self.world.put(f"acme/{key}", content, late=late, again=again)

    @in_moods(EVENTS)
    @rule(key=st.sampled_from(["anna", "settings"]), what=st.sampled_from([*SETTINGS, "broken"]), late=LATE)
    def drop_settings(self, key: str, what: str, late: float) -> None:
        """Drop a settings JSON, of a job or of the folder."""
        self.world.put(f"acme/{key}.json", json.dumps(SETTINGS[what]) if what in SETTINGS else "{", late=late)

    @rule(bob=st.booleans())
    def drop_pairs(self, bob: bool) -> None:
        """Drop what makes a job, or two."""
        for who in PEOPLE[: 1 + bob]:
            self.files += 1
            self.world.put(f"acme/{who}.wav", f"voice {who} {self.files} 2.0")
            self.world.put(f"acme/{who}.png", f"face {who} {self.files}")

    @in_moods(CREATES_)
    @rule(late=LATE)
    def drop_job_of_links(self, late: float) -> None:
        """Drop a JSON that is a job by itself; nobody measures its voice."""
        self.files += 1
        link = "https://voices.example/" + quote(f"voice linked {self.files} 2.0")
        self.world.put("acme/linked.json", json.dumps({"input": {"audio_url": link}}), late=late)
        self.world.put("acme/linked.png", f"face linked {self.files}")

    @in_moods(DELIVERIES, EVENTS)
    @precondition(lambda self: self.dropped)
    @rule(n=st.integers(0, 5), late=LATE, again=AGAIN)
    def drop_again(self, n: int, late: float, again: float | None) -> None:
        """Drop a file once more that was there before."""
        dropped = [c for c in self.world.changes if c.content is not None]
        change = dropped[-1 - n % len(dropped)]
        self.world.put(change.key, change.content or "", late=late, again=again)

    @in_moods(EVENTS)
    @precondition(lambda self: self.dropped)
    @rule(n=st.integers(0, 5), late=LATE, again=AGAIN)
    def delete(self, n: int, late: float, again: float | None) -> None:
        """Delete a file that is there."""
        there = sorted(k for k in self.world.s3.buckets[UPLOADS] if self.world.s3.current(UPLOADS, k))
        if there:
            self.world.delete(there[n % len(there)], late=late, again=again)

    # ------------------------------------------------------------------ time and operators
    @rule(seconds=st.sampled_from([4.0, 15.0, 30.0, 70.0, 300.0, 1000.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(seconds)

    @in_moods(CREATES_)
    @precondition(lambda self: self.world.budget)
    @rule()
    def wait_for_midnight(self) -> None:
        """Let time pass to just before the service's next day."""
        self.world.run(-(self.world.now + 8 * 3600) % 86_400 - 30)

    @in_moods(DELIVERIES)
    @precondition(lambda self: self.world.running())
    @rule(told=st.booleans(), status=st.sampled_from(["ABORTED", "ABORTED", "FAILED", "TIMED_OUT"]))
    def end_execution(self, told: bool, status: str) -> None:
        """Abort an execution, or let it break; the event of it may be lost."""
        self.world.end(self.world.running()[0], status, told=told or status == "ABORTED")

    @in_moods()
    @rule(paused=st.booleans(), late=st.sampled_from([0.0, 30.0]))
    def pause(self, paused: bool, late: float) -> None:
        """Pause or resume; the order may come late."""
        self.world.post({"pause": paused, "at": None}, after=late)

    @in_moods(CREATES_, DELIVERIES, EVENTS)
    @rule()
    def wait_a_moment(self) -> None:
        """Let what was just dropped be ingested, matched and sent."""
        self.world.run(6)

    @in_moods(CREATES_, DELIVERIES, EVENTS)
    @rule()
    def wait_a_minute(self) -> None:
        """Let what is at the service come back."""
        self.world.run(60)

    @in_moods()
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
    @in_moods(CREATES_, DELIVERIES, EVENTS)
    @rule(
        data=st.data(),
        function=st.sampled_from(["submit", "submit", "deliver", "status", "prepare"]),
        what=st.sampled_from(["die", "die after", "refuse", "lose", "conflict"]),
        nth=st.integers(1, 4),
        far=st.integers(0, 3),
    )
    def strike(self, data: Any, function: str, what: str, nth: int, far: int) -> None:
        """Let something go wrong at a call to come."""
        call = data.draw(st.sampled_from(CALLS[function]))
        self.world.strikes.append(Strike(what, function, call, nth + 4 * far if call == "any" else nth))

    @in_moods(CREATES_, EVENTS)
    @rule(
        call=st.sampled_from(SUBMIT_STALLS), nth=st.sampled_from([1, 1, 2]), seconds=st.sampled_from([30.0, 115.0, 1.0])
    )
    def stall_submit(self, call: str, nth: int, seconds: float) -> None:
        """Let submit stand still at a call to come; others go on meanwhile."""
        self.world.strikes.append(Strike("stall", "submit", call, nth, seconds))

    @in_moods(DELIVERIES)
    @rule(call=st.sampled_from(DELIVER_STALLS), seconds=st.sampled_from([590.0, 590.0, 30.0]))
    def stall_deliver(self, call: str, seconds: float) -> None:
        """Let deliver stand still at a call to come; others go on meanwhile."""
        self.world.strikes.append(Strike("stall", "deliver", call, 1, seconds))

    # ------------------------------------------------------------------ the service
    @in_moods(CREATES_)
    @rule(outcomes=st.lists(st.sampled_from(sorted(CREATES)), min_size=1, max_size=3))
    def creates(self, outcomes: list[str]) -> None:
        """Say what becomes of the next creates."""
        for outcome in outcomes:
            self.world.service.faults.add({"endpoint": "create", "action": dict(CREATES[outcome])})

    @in_moods(CREATES_, DELIVERIES)
    @rule(
        endpoint=st.sampled_from(["create", "check", "query", "list", "cancel", "result"]),
        action=st.sampled_from([*HTTP_FAULTS, *({"nonsense": name} for name in ODD)]),
        times=st.sampled_from([1, 1, 4]),
    )
    def fault(self, endpoint: str, action: dict[str, Any], times: int) -> None:
        """Let calls of the service fail, or be answered with nonsense."""
        if "nonsense" not in action or endpoint not in {"cancel", "result"}:
            self.world.service.faults.add({"endpoint": endpoint, "action": dict(action), "times": times})

    @in_moods(DELIVERIES, EVENTS)
    @rule(
        endpoint=st.sampled_from(["create", "check", "task", "task", "no link"]),
        said=st.sampled_from(REFUSALS),
        times=st.sampled_from([1, 4]),
    )
    def refusal(self, endpoint: str, said: dict[str, Any], times: int) -> None:
        """Let the service refuse a job, or a task fail, or have no link."""
        self.judge.trouble = True
        if endpoint == "no link":
            self.world.service.faults.add({"action": {"no_link": True}, "times": times})
        elif endpoint == "task":
            self.world.service.faults.add({"action": {"task_fails": said}})
        else:
            self.world.service.faults.add({"endpoint": endpoint, "action": {"status": 400, "body": said}})

    @in_moods()
    @rule(state=st.sampled_from(["ok"]) | st.sampled_from(["unreachable", *sorted(TROUBLES)]))
    def account(self, state: str) -> None:
        """Let the account be in trouble, or well, or not be reached for a while."""
        self.judge.trouble = self.judge.trouble or state != "ok"
        if state == "unreachable":
            self.world.transport.unreachable = 3
        else:
            self.world.service.set_trouble(state)

    @in_moods(CREATES_)
    @rule(lag=st.sampled_from([0.0, 10.0, 60.0]))
    def list_lag(self, lag: float) -> None:
        """Let fresh tasks be in no list for a while: less than it takes to the second look."""
        self.world.service.set({"list_lag_seconds": lag})

    @in_moods(CREATES_)
    @precondition(lambda self: len(self.judge.orders) > 1)
    @rule(forgets=st.booleans())
    def list_forgets(self, forgets: bool) -> None:
        """Let the list lack all tasks of now, among them one that the stack knows; or show them again."""
        self.world.service.hidden = set(self.world.service.tasks) if forgets else set()

    @in_moods(DELIVERIES)
    @rule(manual=st.booleans())
    def hold_tasks(self, manual: bool) -> None:
        """Let tasks run on, or end in their time."""
        self.world.service.set({"manual": manual})

    @in_moods(DELIVERIES)
    @rule(other_account=st.booleans())
    def rotate_key(self, other_account: bool) -> None:
        """Give the stack another key, of the same account or of another."""
        service = self.world.service
        self.rotated = True
        service.tenant += other_account
        service.set({"api_key": f"{service.settings.api_key}x"})

    @in_moods(CREATES_)
    @rule(seconds=st.sampled_from([2.0, 9.0]), same_key=st.booleans())
    def foreign_task(self, seconds: float, same_key: bool) -> None:
        """Let other software of the same account make a task; of our length only where a key tells it apart.

        Nobody can tell its task from ours by the list where both have one key, or nothing has shown which is ours: the
        first lost create takes up a task of the same time and length.
        """
        known = self.world.eye.table.account().recent_tasks
        told_apart = bool(known) and not same_key and not self.rotated
        key = self.world.service.settings.api_key if same_key else "sk-theirs"
        length = seconds if told_apart else 9.0
        self.world.service.create(
            api_key=key,
            model=DEFAULT,
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
