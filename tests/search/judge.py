"""What must hold whatever happens: each order is paid once, nobody gets another's video, everything ends or says why.

The judge knows the bucket's history and the service's truth, and nothing of the product but its reports, its videos and
the account's item. What it finds is kept and raised by `check`: raised inside a function it would be caught there.
"""

from __future__ import annotations

import json
import logging
import posixpath
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from small_world import RESULTS, UPLOADS, SmallWorld

from portraitcast.domain.account import beijing_day
from portraitcast.errors import PortraitcastError

if TYPE_CHECKING:
    from fake_aws import Version

    from simulator.account import Task

    Bucket = dict[str, str]

FREE: Final = {"FAILED", "CANCELED"}  # tasks that nobody pays
CHECK_CNY, SECOND_CNY = 0.004, 0.08
QUIET_SECONDS: Final = 75 * 60.0  # an hour, and what is given up after an hour has its sweeps
ENDS: Final = {"done", "rejected", "failed", "withdrawn", "waiting"}
VOICES, PICTURES = (".wav", ".mp3"), (".png", ".jpg")


@dataclass(frozen=True)
class Order:
    """One create that the service took for us."""

    task: Task
    name: str
    at: float
    voice: str
    portrait: str
    style: str
    seen: int  # changes of the bucket that submit had certainly seen


class Judge:
    """Watches one world."""

    def __init__(self, world: SmallWorld) -> None:
        self.world = world
        self.faults: list[str] = []
        self.orders: dict[str, Order] = {}
        self.trouble = False  # what a refusal by the service may come from
        self._buckets: list[Bucket] = [{}]  # after each change
        self._revisions: dict[str, int] = {}
        world.service.on_create = self._created
        world.s3.on_put.append(self._put)
        self._log = _Log(self.faults)
        logging.getLogger("portraitcast").addHandler(self._log)

    def close(self) -> None:
        """Stop watching."""
        logging.getLogger("portraitcast").removeHandler(self._log)

    def check(self) -> None:
        """Raise what was found, and look at what must hold at every moment."""
        account = self.world.eye.table.account()
        for model, tasks in Counter(account.tasks_in_flight.values()).items():
            if tasks > self.world.most:
                self.faults.append(f"{tasks} slots of {self.world.most} of {model} are taken")
        self._paid_once()
        self._within_budget()
        found = [*self.faults, *self.world.surprises]
        if found:
            raise AssertionError("; ".join(dict.fromkeys(found)))

    # ------------------------------------------------------------------ what happens
    def _snapshots(self) -> list[Bucket]:
        for change in self.world.changes[len(self._buckets) - 1 :]:
            after = {**self._buckets[-1]}
            after.pop(change.key, None)
            if change.content is not None:
                after[change.key] = change.content
            self._buckets.append(after)
        return self._buckets

    def _created(self, task: Task) -> None:
        fiber = self.world.fiber
        if fiber is None:
            return  # somebody else's
        name = _name_of(task.audio_url)
        own, folder = f"{name}.", f"{posixpath.dirname(name)}/settings."
        snapshots = self._snapshots()
        now = len(snapshots) - 1
        seen = min(fiber.listed.get(own, now), fiber.listed.get(folder, now))
        content = self.world.content
        order = Order(
            task,
            name,
            self.world.now,
            content(task.audio_url) or "",
            content(task.image_url) or "",
            str(task.parameters.get("style_level")),
            seen,
        )
        self.orders[task.id] = order
        if not any(_may_be(snapshot, order) for snapshot in snapshots[seen:]):
            self.faults.append(f"{name} is made of {order.voice}, {order.portrait}, {order.style}, which is not there")

    def _put(self, bucket: str, key: str, version: Version, there: Version | None) -> None:
        if bucket != RESULTS:
            return
        if key.endswith(".json"):
            revision = int(version.metadata["revision"])
            if revision <= self._revisions.get(key, 0):
                self.faults.append(f"{key} goes from revision {self._revisions[key]} to {revision}")
            self._revisions[key] = revision
            return
        task, name = _task_in(version), key.removesuffix(".mp4")
        order = self.orders.get(task)
        if order is None or order.name != name:
            whose = order.name if order else "somebody else"
            self.faults.append(f"the video of {whose} ({task}) is delivered to {name}")
            return
        before = self.orders.get(_task_in(there)) if there else None
        if before is not None and before.at > order.at and task not in self.world.aborted:
            self.faults.append(f"{name}: the video of {task} replaces the newer one of {before.task.id}")

    # ------------------------------------------------------------------ money
    def _paid_once(self) -> None:
        """Each paid create of a name must have its own reason: a file of that name that came, or went, before it.

        The same bytes once more are another try if the first fails, however late their event: such a reason keeps.
        """
        since: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for order in self.orders.values():
            if order.task.status in FREE:
                continue
            name = order.name
            reasons = [self._is_new(at) for at in range(since[name], order.seen) if self._is_about(at, name)]
            since[name] = max(since[name], order.seen)
            kept[name] += reasons.count(False)
            if True not in reasons:
                kept[name] -= 1
            if kept[name] < 0:
                self.faults.append(f"{name} is paid once more by {order.task.id}, and nobody ordered it")

    def _is_about(self, at: int, name: str) -> bool:
        return self.world.changes[at].key.startswith(f"{name}.")

    def _is_new(self, at: int) -> bool:
        """Say whether a change brought other bytes than those that lay there."""
        change = self.world.changes[at]
        return self._snapshots()[at].get(change.key) != change.content

    def _within_budget(self) -> None:
        if not self.world.budget:
            return
        paid: Counter[str] = Counter()
        for order in self.orders.values():
            if order.task.status not in FREE:
                paid[beijing_day(order.at)] += self.world.service.seconds_of(order.task) * SECOND_CNY  # type: ignore[assignment]  # sums of money
        for at in self.world.service.checks:
            paid[beijing_day(at)] += CHECK_CNY  # type: ignore[assignment]  # as above
        for day, cny in paid.items():
            if cny > self.world.budget + 1e-6:
                self.faults.append(f"CNY {cny:.3f} are paid on {day}, of {self.world.budget}")

    # ------------------------------------------------------------------ after an hour of quiet
    def check_end(self) -> None:
        """Look at what must be so when nothing has happened for an hour and all trouble is over."""
        self.check()
        account = self.world.eye.table.account()
        if account.open_create or account.check:
            self.faults.append(f"a create or a check is open: {account.open_create or account.check}")
        unseen = {t for t, tenant in self.world.service.tenants.items() if tenant != self.world.service.tenant}
        names = {c.key.rpartition(".")[0] for c in self.world.changes} - {"acme/settings", "acme/zed"}
        for name in sorted(names):
            self._ended(name, self._snapshots()[-1], unseen)
        if not unseen and account.tasks_in_flight:
            self.faults.append(f"slots are held: {account.tasks_in_flight}")
        self.check()

    def _ended(self, name: str, bucket: Bucket, unseen: set[str]) -> None:
        report = self.world.report(name)
        voices = [bucket[name + s] for s in VOICES if name + s in bucket]
        linked = _linked(bucket.get(f"{name}.json"))
        if report is None:
            if voices or linked:
                self.faults.append(f"{name} has no report")
            return
        status = report["status"]
        held = report["queue"]["held"] if report["queue"] else None
        # With another key nobody sees a task: its 24 hours are waited for.
        if (status, held) == ("queued", "budget") or (status == "rendering" and report["task"]["id"] in unseen):
            return
        if status not in ENDS:
            self.faults.append(f"{name} is still {status} ({held}): {report['message']}")
            return
        self._has_its_reason(name, report, bucket, has_voice=bool(voices or linked))
        if len(voices) == 1 and not linked and status != "withdrawn" and not self._had_two_voices(name):
            self._is_of_this_voice(name, report, voices[0], bucket)

    def _had_two_voices(self, name: str) -> bool:
        """Say whether two voices of one name lay there: the second may have been refused, and must be dropped again."""
        return any(sum(name + suffix in bucket for suffix in VOICES) > 1 for bucket in self._snapshots())

    def _has_its_reason(self, name: str, report: dict[str, Any], bucket: Bucket, *, has_voice: bool) -> None:
        """An end without a video says why, and it is true."""
        status, error = report["status"], report["error"]
        if status in {"rejected", "failed"} and not error:
            self.faults.append(f"{name} is {status} without a reason")
        if status == "waiting" and _is_whole(bucket, name):
            self.faults.append(f"{name} waits, and nothing is missing: {report['message']}")
        if status == "withdrawn" and has_voice and not self._had_two_voices(name):
            self.faults.append(f"{name} is withdrawn, and its voice is there")
        dear = error and error["code"] == "OverBudget" and self.world.budget
        if status == "rejected" and _is_whole(bucket, name) and not (self.trouble or dear):
            self.faults.append(f"{name} is rejected, and nothing is wrong: {error}")

    def _is_of_this_voice(self, name: str, report: dict[str, Any], voice: str, bucket: Bucket) -> None:
        """A job's report speaks of the voice that lies there, and its video is made of it."""
        said = (report["inputs"]["voice"] or {}).get("sha256")
        its_json = bucket.get(f"{name}.json")
        if said is not None and said != sha256(voice.encode()).hexdigest():
            self.faults.append(f"{name} is {report['status']}, and its report is about another voice than {voice}")
        if report["status"] != "done":
            return
        there = self.world.s3.current(RESULTS, f"{name}.mp4")
        if there is None:
            self.faults.append(f"{name} is done, and there is no video")
            return
        order = self.orders[_task_in(there)]
        if order.voice != voice:
            self.faults.append(f"{name} is done with {order.voice}, and {voice} is there")
        if report["video"]["sha256"] != sha256(there.body or b"").hexdigest():
            self.faults.append(f"{name}: the report is about another video than the one that is there")
        gone = {c.key for c in self.world.changes if c.content is None}
        own = [bucket[name + s] for s in PICTURES if name + s in bucket]
        if not gone & {f"{name}.json"} and len(own) == 1 and not _image(its_json) and order.portrait != own[0]:
            self.faults.append(f"{name} is done with {order.portrait}, and {own[0]} is its own")
        if its_json and (style := _style(its_json)) and order.style != style:
            self.faults.append(f"{name} is done as {order.style}, and its settings say {style}")


class _Log(logging.Handler):
    """Keeps the errors that a loop has caught and that are no errors of ours."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, PortraitcastError):
            self._faults.append(f"{record.getMessage()}: {type(error).__name__}: {error}")


# ---------------------------------------------------------------------- what the bucket asks for
def _name_of(audio_url: str) -> str:
    """Return whose voice lies behind a link."""
    parts = urlsplit(audio_url)
    if parts.hostname == "uploads.example":
        return unquote(parts.path[1:]).rpartition(".")[0]
    return "acme/" + unquote(parts.path.rpartition("/")[2]).split(" ")[1]


def _task_in(version: Version | None) -> str:
    return str(json.loads(version.body or b"{}")["task"]) if version else ""


def _parsed(text: str | None) -> dict[str, Any]:
    """Return a settings JSON; an empty one for what is none."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _broken(text: str | None) -> bool:
    return text is not None and not text.endswith("}")


def _style(text: str | None) -> str | None:
    style: str | None = _parsed(text).get("parameters", {}).get("style_level")
    return style


def _image(text: str | None) -> str | None:
    image: str | None = _parsed(text).get("input", {}).get("image_url")
    return image


def _linked(text: str | None) -> str | None:
    link: str | None = _parsed(text).get("input", {}).get("audio_url")
    return unquote(link.rpartition("/")[2]) if link else None


def _may_be(bucket: Bucket, order: Order) -> bool:
    """Say whether a bucket asks for this very video."""
    name, folder = order.name, posixpath.dirname(order.name)
    own, shared = bucket.get(f"{name}.json"), bucket.get(f"{folder}/settings.json")
    if _broken(own) or _broken(shared):
        return False
    if order.voice not in [bucket.get(name + s) for s in VOICES] and order.voice != _linked(own):
        return False
    if order.style != (_style(own) or _style(shared) or "normal"):
        return False
    return order.portrait in _portraits(bucket, name, own, shared)


def _portraits(bucket: Bucket, name: str, own: str | None, shared: str | None) -> list[str | None]:
    """Return which pictures may be a job's; which of a folder's several is the only one, its events decide."""
    folder = posixpath.dirname(name)
    if image := _image(own):
        return [bucket.get(f"{folder}/{image}")]
    pictures = [bucket[name + s] for s in PICTURES if name + s in bucket]
    if pictures:
        return list(pictures) if len(pictures) == 1 else []
    if image := _image(shared):
        return [bucket.get(f"{folder}/{image}")]
    return [content for key, content in bucket.items() if key.startswith(folder) and key.endswith(PICTURES)]


def _is_whole(bucket: Bucket, name: str) -> bool:
    """Say whether everything that a job needs is there, and right."""
    own, shared = bucket.get(f"{name}.json"), bucket.get(f"{posixpath.dirname(name)}/settings.json")
    voices = [*(bucket[name + s] for s in VOICES if name + s in bucket), *([_linked(own)] if _linked(own) else [])]
    portraits = _portraits(bucket, name, own, shared)
    well = not (_broken(own) or _broken(shared)) and len(voices) == 1 and len(portraits) == 1
    return well and portraits[0] is not None and "no face" not in portraits[0]


__all__ = ["QUIET_SECONDS", "UPLOADS", "Judge"]
