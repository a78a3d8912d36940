"""One account of the service: its settings, its tasks, and for each model the worker that they wait for."""

from __future__ import annotations

import math
import threading
import time
import uuid
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from simulator import inputs, render
from simulator.errors import ApiError, InputError
from simulator.faults import Faults
from simulator.models import CHECK_CNY, MODELS, video_size
from simulator.storage import SCHEME, Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.inputs import Box, Download
    from simulator.models import Model
    from simulator.render import Video

WAN_FPS: Final = 16  # frames a second of the model family; no page of the service names any
OPEN: Final = ("PENDING", "RUNNING")
# Troubles of an account, each as the service's list of errors prints it: (HTTP status, code, message).
TROUBLES: Final = {
    "invalid_key": (401, "InvalidApiKey", "Invalid API-key provided."),
    "arrearage": (400, "Arrearage", "Access denied, please make sure your account is in good standing."),
    "model_not_open": (403, "Model.AccessDenied", "Model access denied."),
    "access_denied": (403, "AccessDenied", "Access denied."),
    "workspace_denied": (403, "Workspace.AccessDenied", "Workspace access denied."),
    "free_tier_only": (
        403,
        "AllocationQuota.FreeTierOnly",
        (
            "The free tier of the model has been exhausted. If you wish to continue access the model on a paid basis, "
            'please disable the "use free tier only" mode in the management console.'
        ),
    ),
    "free_quota_exceeded": (429, "Throttling.AllocationQuota", "Free allocated quota exceeded."),
    "quota_exceeded": (
        429,
        "Throttling.AllocationQuota",
        "Allocated quota exceeded, please increase your quota limit.",
    ),
    "not_purchased": (429, "CommodityNotPurchased", "Commodity has not purchased yet."),
    "prepaid_overdue": (429, "PrepaidBillOverdue", "The prepaid bill is overdue."),
    "postpaid_overdue": (429, "PostpaidBillOverdue", "The postpaid bill is overdue."),
    "model_not_found": (404, "ModelNotFound", "Model not exist."),
    "workspace_not_found": (404, "WorkSpaceNotFound", "WorkSpace can not be found."),
    "wrong_address": (400, "InvalidParameter", "url error, please check url\uff01"),
    "down": (
        500,
        "InternalError",
        "An internal error has occurred, please try again later or contact service support.",
    ),
}


@dataclass(frozen=True)
class Settings:
    """What can be set at the start and changed while it runs."""

    api_key: str = "sk-simulator"
    more_api_keys: tuple[str, ...] = ()  # other keys of the same account; tasks and rates are shared
    foreign_api_keys: tuple[str, ...] = ()  # keys of another account, which may only store files
    deployments: dict[str, str] = field(default_factory=dict)  # names of dedicated deployments and what they run
    task_seconds: float | None = None  # a task's time, s; None: by the voice
    seconds_per_second: float = 0.2  # a task's time per second of voice
    manual: bool = False  # tasks stay RUNNING until they are told to finish
    running: int = 1  # tasks of one model at once
    check_rate: float | None = 5  # portrait checks of one model a second; None: no limit
    create_rate: float | None = 5  # creates of one model a second
    policy_rate: float | None = 100  # upload policies for one model a second
    query_rate: float | None = 20  # queries a second (EMO)
    list_rate: float | None = 20  # lists a second (EMO)
    cancel_rate: float | None = 20  # cancels a second
    list_lag_seconds: float = 0  # a fresh task is in no list before that
    link_seconds: float = 86_400  # a video's link lives that long (EMO: 24 h)
    id_seconds: float = 86_400  # a task id lives that long (EMO: 24 h)
    timeout_seconds: float = 10_800  # a task without a result fails that long after submit (EMO: 3 h)
    download_seconds: float = 5  # for each input
    policy_seconds: float = 300  # an upload policy lives that long
    upload_max_mb: int = 100  # largest file of the temporary storage; the service's figure isn't documented
    stored_seconds: float = 172_800  # a stored file lives that long (48 h)
    clock_offset_seconds: float = 0  # how far this account's clock is ahead of the machine's
    refused_check_status: int = 200  # HTTP status of a refused portrait check (EMO: 200; its codes are listed as 400)


@dataclass
class Task:
    """One order for a video."""

    id: str
    request_id: str
    api_key_id: str
    model: str  # as the order named it: a model, or a deployment
    image_url: str
    audio_url: str
    face_bbox: Box | None  # of a model with boxes
    ext_bbox: Box | None
    parameters: dict[str, Any]  # with the defaults of what was left out
    submitted_at: float  # Unix time by the account's clock, like the other two, s
    started_at: float | None = None
    ended_at: float | None = None
    status: str = "PENDING"
    code: str | None = None
    message: str | None = None
    image_sha256: str | None = None
    audio_sha256: str | None = None
    video: Video | None = None
    released: bool = False  # told to finish, see Settings.manual

    @property
    def text(self) -> str:
        """What a fault rule's ``contains`` looks at."""
        return f"{self.image_url} {self.audio_url}"

    def state(self) -> dict[str, Any]:
        """Everything about the task, for ``/control/state``."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in {"video", "released"}}
        return known | {
            "style_level": self.parameters.get("style_level"),
            "video_seconds": self.video.seconds if self.video else None,
            "video_size": [self.video.width, self.video.height] if self.video else None,
        }


@dataclass
class Counters:
    """What happened since the start or the last reset."""

    requests: Counter[str] = field(default_factory=Counter)
    throttled: Counter[str] = field(default_factory=Counter)
    creates_accepted: int = 0
    creates: Counter[str] = field(default_factory=Counter)  # of those, by model
    paid_cny: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # by model: videos and checks
    max_open: int = 0  # most tasks of one model that were PENDING or RUNNING at one time
    max_running: int = 0  # most of one model
    max_running_all: int = 0  # most of all models together
    busy_seconds: float = 0.0  # sum of the running times of ended tasks
    first_start: float | None = None
    last_end: float | None = None


def key_id(api_key: str) -> str:
    """Give the number of an API key, as rows of a list carry it."""
    return str(100_000 + zlib.crc32(api_key.encode()) % 900_000)


class Account:
    """Takes tasks, runs them in order, and tells about them.

    Everything is guarded by one condition, ``changed``, which is notified at each change, so that tests can wait for
    events instead of sleeping.

    Parameters
    ----------
    settings
        Of this account.
    names
        Names of hosts that only containers can look up, and the addresses that they stand for.
    """

    def __init__(self, settings: Settings, names: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self._names = names or {}
        self.faults = Faults()
        self.changed = threading.Condition(threading.RLock())
        self.tasks: OrderedDict[str, Task] = OrderedDict()
        self.counters = Counters()
        self.trouble: str | None = None
        self.closing = False
        self._initial = settings
        self._open: OrderedDict[str, Task] = OrderedDict()
        self._recent: dict[tuple[str, str], deque[float]] = {}
        self._folder = TemporaryDirectory(prefix="emo-simulator-")  # of this user alone, mode 0700
        self.storage = Storage(Path(self._folder.name), self.now)
        self._made: dict[tuple[object, ...], Video] = {}  # inputs seen before give the same video at once
        self._rendering = threading.Lock()  # one core for us, the other for the stack under test

    def now(self) -> float:
        """Unix time by the account's clock, s."""
        return time.time() + self.settings.clock_offset_seconds

    # Requests

    def owner(self, api_key: str) -> str | None:
        """Tell whose a key is: this account's (""), another's, or nobody's (None)."""
        if api_key in {self.settings.api_key, *self.settings.more_api_keys}:
            return ""
        return f"owner of {key_id(api_key)}" if api_key in self.settings.foreign_api_keys else None

    def model(self, name: object) -> Model | None:
        """Give the model of a name: its own, or a deployment's."""
        return MODELS.get(self.settings.deployments.get(name, name)) if isinstance(name, str) else None

    def admit(self, endpoint: str, api_key: str, model: str = "") -> None:
        """Let a call through, or refuse it for its key, its account's state or its rate.

        Parameters
        ----------
        endpoint
            Whose rate it is.
        api_key
            As the call brought it.
        model
            The name in the call, where each model has a rate of its own.

        Raises
        ------
        ApiError
            The service's answer.
        """
        with self.changed:
            owner = self.owner(api_key)
            if owner is None or (owner and endpoint != "policy"):
                raise ApiError(*TROUBLES["invalid_key"])
            if self.trouble:
                raise ApiError(*TROUBLES[self.trouble])
            rate: float | None = getattr(self.settings, f"{endpoint}_rate")
            now = time.monotonic()
            recent = self._recent.setdefault((endpoint, model), deque())
            while recent and recent[0] <= now - 1:
                recent.popleft()
            if rate is not None and len(recent) >= rate:
                self.counters.throttled[endpoint] += 1
                raise ApiError(429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later.")
            recent.append(now)

    def create(
        self,
        *,
        api_key: str,
        model: str,
        image_url: str,
        audio_url: str,
        face_bbox: Box | None,
        ext_bbox: Box | None,
        parameters: dict[str, Any],
    ) -> Task:
        """Take an order; it waits for its turn."""
        with self.changed:
            task = Task(
                id=str(uuid.uuid4()),
                request_id=str(uuid.uuid4()),
                api_key_id=key_id(api_key),
                model=model,
                image_url=image_url,
                audio_url=audio_url,
                face_bbox=face_bbox,
                ext_bbox=ext_bbox,
                parameters=parameters,
                submitted_at=self.now(),
            )
            self.tasks[task.id] = self._open[task.id] = task
            self.counters.creates_accepted += 1
            self.counters.creates[model] += 1
            here = sum(each.model == model for each in self._open.values())
            self.counters.max_open = max(self.counters.max_open, here)
            self._settle()
            self.changed.notify_all()
            return replace(task, status="PENDING")  # as it was taken, however soon it starts

    def charge_check(self, check_name: str) -> None:
        """Count the price of a portrait check, passed or not."""
        with self.changed:
            self.counters.paid_cny[check_name] = round(self.counters.paid_cny[check_name] + CHECK_CNY, 6)

    def fetch(self, url: str, model: str, max_bytes: int | None) -> Download:
        """Download an input as the service does, out of its own storage too.

        Raises
        ------
        InputError
            If it can't be had.
        """
        most = inputs.PICTURE_MAX_BYTES if max_bytes is None else max_bytes
        if not url.startswith(SCHEME):
            return inputs.fetch(url, self.settings.download_seconds, most, self._names)
        with self.changed:
            stored = self.storage.find(url, model, "", seconds=self.settings.stored_seconds)
        if stored is None:
            raise InputError(
                "InvalidParameter.DataInspection",
                "Unable to download the media resource during the data inspection process.",
            )
        if stored.bytes > most:
            raise inputs.too_large(most)
        return inputs.Download(stored.path.read_bytes(), "application/octet-stream", Path(stored.key).suffix.lower())

    def find(self, task_id: str) -> Task | None:
        """Give a task as it stands, None if its id is unknown or too old."""
        with self.changed:
            self._settle()
            task = self.tasks.get(task_id)
            return replace(task) if task and self.now() - task.submitted_at <= self.settings.id_seconds else None

    def cancel(self, task_id: str) -> bool:
        """Call off a task that hasn't started; tell whether it was one."""
        with self.changed:
            self._settle()
            task = self._open.get(task_id)
            if not task or task.status != "PENDING":
                return False
            self._end(task, "CANCELED")
            return True

    def listed(self) -> list[Task]:
        """Give every task that shows in lists, newest first."""
        with self.changed:
            self._settle()
            latest = self.now() - self.settings.list_lag_seconds
            return [replace(task) for task in reversed(self.tasks.values()) if task.submitted_at <= latest]

    def result(self, task_id: str) -> Video | None:
        """Give a task's video, if there is one."""
        with self.changed:
            task = self.tasks.get(task_id)
            return task.video if task and task.status == "SUCCEEDED" else None

    def other_video(self, seconds: float, width: int, height: int) -> Video:
        """Give a playable video that is nobody's, of any length and size."""
        return self._once(("still", seconds, width, height), lambda path: render.still(seconds, width, height, path))

    # Control

    def set(self, values: dict[str, Any]) -> None:
        """Change settings by name.

        Raises
        ------
        ValueError
            If a name is unknown.
        """
        names = {f.name for f in fields(Settings)}
        if unknown := set(values) - names:
            raise ValueError(f"unknown settings {sorted(unknown)}; there are {sorted(names)}")
        for name in {"more_api_keys", "foreign_api_keys"} & set(values):
            values = values | {name: tuple(values[name])}
        with self.changed:
            self.settings = replace(self.settings, **values)
            self._settle()
            self.changed.notify_all()

    def set_trouble(self, state: str) -> None:
        """Make every call answer with an account's trouble; ``ok`` ends it.

        Raises
        ------
        ValueError
            If the state is unknown.
        """
        if state != "ok" and state not in TROUBLES:
            raise ValueError(f"unknown state {state!r}; there are {['ok', *TROUBLES]}")
        with self.changed:
            self.trouble = None if state == "ok" else state

    def finish(self, task_id: str | None = None) -> list[str]:
        """Let tasks end that ``manual`` holds back: one, or all that are open. One still PENDING runs through later."""
        with self.changed:
            released = [task for task in self._open.values() if task_id in {None, task.id}]
            for task in released:
                task.released = True
            self.changed.notify_all()
            return [task.id for task in released]

    def reset(self) -> None:
        """Forget tasks, faults, counters and troubles, and return to the settings of the start."""
        with self.changed:
            self.settings = self._initial
            for task in self._open.values():
                task.status = "CANCELED"  # whoever works on it sees that and leaves
            self.tasks.clear()
            self._open.clear()
            self._recent.clear()
            self.storage.files.clear()
            self.faults.clear()
            self.counters = Counters()
            self.trouble = None
            self.changed.notify_all()

    def count(self, endpoint: str) -> None:
        """Count a request."""
        with self.changed:
            self.counters.requests[endpoint] += 1
            self.changed.notify_all()

    def state(self) -> dict[str, Any]:
        """Everything there is to know, for ``GET /control/state``."""
        with self.changed:
            self._settle()
            return {
                "now": self.now(),
                "account": self.trouble or "ok",
                "settings": asdict(self.settings),
                "counters": vars(self.counters)
                | {
                    "requests": dict(self.counters.requests),
                    "throttled": dict(self.counters.throttled),
                    "creates": dict(self.counters.creates),
                    "paid_cny": dict(self.counters.paid_cny),
                },
                "stored": [stored.state() for stored in self.storage.files.values()],
                "faults": self.faults.state(),
                "tasks": [task.state() for task in self.tasks.values()],
            }

    def close(self) -> None:
        """Stop working and remove what was rendered."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        with self._rendering:  # nobody writes into the folder any more
            self._folder.cleanup()

    # The worker

    def _settle(self) -> None:
        """Fail what is overdue and start what is next. The caller holds the lock."""
        late = self.now() - self.settings.timeout_seconds
        for task in [task for task in self._open.values() if task.submitted_at < late]:
            self._end(task, "FAILED", "InternalError.Timeout", "The task timed out.", settle=False)
        running = Counter(task.model for task in self._open.values() if task.status == "RUNNING")
        for task in self._open.values():
            if self.closing:
                break
            if task.status == "PENDING" and running[task.model] < self.settings.running:
                running[task.model] += 1
                task.status, task.started_at = "RUNNING", self.now()
                self.counters.first_start = self.counters.first_start or task.started_at
                threading.Thread(target=self._run, args=(task,), daemon=True).start()
                self.changed.notify_all()
        self.counters.max_running = max(self.counters.max_running, *running.values(), 0)
        self.counters.max_running_all = max(self.counters.max_running_all, running.total())

    def _run(self, task: Task) -> None:
        began = time.monotonic()
        try:
            video = self._make(task)
        except InputError as error:
            with self.changed:
                self._end(task, "FAILED", error.code, error.message)
            return
        with self.changed:

            def left() -> float:
                """Time until the task may end, s; asked anew at each change of the settings."""
                if self.settings.manual and not task.released:
                    return math.inf
                seconds = self.settings.task_seconds
                if task.released:
                    seconds = 0.0
                elif seconds is None:
                    seconds = video.seconds * self.settings.seconds_per_second
                return began + seconds - time.monotonic()

            while task.status == "RUNNING" and not self.closing and (wait := left()) > 0:
                self.changed.wait(None if wait == math.inf else wait)
            if self.closing or task.status != "RUNNING":
                return
            fault = self.faults.take("task", "any", task.id, task.text)
            if fault:
                wrong = fault["task_fails"]
                self._end(task, "FAILED", wrong.get("code"), wrong.get("message"))
            else:
                task.video = video
                fee = round(video.seconds, 2) * self._model_of(task).price(task.parameters, video.ratio)
                paid = self.counters.paid_cny[task.model]
                self.counters.paid_cny[task.model] = round(paid + fee, 6)
                self._end(task, "SUCCEEDED")

    def _make(self, task: Task) -> Video:
        """Fetch a task's inputs, now that it runs, and render its video.

        Raises
        ------
        InputError
            If an input can't be had or used.
        """
        model = self._model_of(task)
        picture = self.fetch(task.image_url, task.model, model.picture_bytes)
        sound = self.fetch(task.audio_url, task.model, model.voice_bytes)
        with self.changed:
            task.image_sha256, task.audio_sha256 = picture.sha256, sound.sha256
            self.changed.notify_all()
        named = inputs.declared_type(sound)

        def make(path: Path) -> Video:
            portrait = inputs.open_portrait(picture, model)
            plan = _plan(model, task, portrait.size)
            return render.render(portrait, inputs.read_voice(sound, model), plan, path)

        settings = tuple(sorted(task.parameters.items()))
        key = (model.name, settings, picture.sha256, picture.suffix, sound.sha256, named, task.face_bbox, task.ext_bbox)
        return self._once(key, make)

    def _model_of(self, task: Task) -> Model:
        return MODELS[self.settings.deployments.get(task.model, task.model)]

    def _once(self, key: tuple[object, ...], make: Callable[[Path], Video]) -> Video:
        with self._rendering:
            if self.closing:
                raise InputError("InternalError", "The service is closing.")
            if key not in self._made:
                self._made[key] = make(Path(self._folder.name) / f"{len(self._made)}.mp4")
            return self._made[key]

    def _end(
        self, task: Task, status: str, code: str | None = None, message: str | None = None, *, settle: bool = True
    ) -> None:
        """End a task, unless it has ended or was forgotten meanwhile. The caller holds the lock."""
        if task.status not in OPEN:
            return
        task.status, task.code, task.message, task.ended_at = status, code, message, self.now()
        del self._open[task.id]
        if task.started_at is not None:
            self.counters.busy_seconds += task.ended_at - task.started_at
            self.counters.last_end = task.ended_at
        if settle:
            self._settle()
        self.changed.notify_all()


def _plan(model: Model, task: Task, picture: tuple[int, int]) -> render.Plan:
    """Decide what a task's video shows of its picture.

    Raises
    ------
    InputError
        A box lies outside the picture.
    """
    if task.face_bbox and task.ext_bbox:
        for box in (task.face_bbox, task.ext_bbox):
            if box[2] > picture[0] or box[3] > picture[1]:
                raise InputError("InvalidParameter", "Invalid bbox input")
        ratio = inputs.ratio_of(task.ext_bbox)
        return render.Plan(task.face_bbox, task.ext_bbox, render.SIZES[ratio], render.FPS, ratio)
    face, _ = inputs.boxes(picture, "1:1")
    cut = (0, 0, *picture) if task.parameters.get("paste_back", True) else face
    size = video_size(model, task.parameters, (cut[2] - cut[0], cut[3] - cut[1]))
    return render.Plan(face, cut, size, int(task.parameters.get("video_fps", WAN_FPS)), "standard")
