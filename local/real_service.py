"""Before a video is paid: what is sent where and what it costs, free questions to the service, and the person's word.

Used where a person has named a video service (provider.py). The client is the product's own; what it needs beside the
standard library is what is installed for the functions' layer.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import av
from boto3.dynamodb.types import TypeDeserializer

from assets import DEFAULT, MODELS, Model, StackModels, model_named
from install import ROOT, InstallError
from package import installed_requirements
from provider import REAL, Provider, RunError, trusted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from run import Run

SETTLE_SECONDS = 60.0  # ours: a create that is on the wire has 35 s, and is written down behind it
LOOKS = 3  # ours: a submit that was called a moment ago begins its lease by then
STORED_HOURS = 48  # Model Studio, "Upload a local file to get a temporary URL"
TASK_HOURS = 24  # a task's id and its video's link live that long


@dataclass(frozen=True)
class Order:
    """A video that is to be made: its files, the voice's length in seconds, and the model."""

    portrait: Path
    voice: Path
    seconds: float
    model: Model

    @property
    def cost(self) -> float:
        """The expected price, CNY: the portrait check, and each second of the voice."""
        return round(self.model.check_cny + self.model.video_fee(self.seconds, {}), 4)


def chosen_model(parameters: Mapping[str, str]) -> Model:
    """Return the model that jobs have by default; RunError if there is none of that name."""
    try:
        models = StackModels.read(parameters.get("DefaultModel", DEFAULT), parameters.get("ModelDeployments", ""))
    except ValueError as error:
        raise RunError(str(error)) from None
    return model_named(models.default, models.deployments)


def seconds_of(voice: Path) -> float:
    """Return the length of a voice, decoded to its end; RunError if it is no sound, or a film."""
    try:
        with av.open(str(voice)) as file:
            sound = file.streams.audio[0]
            samples = sum(frame.samples for frame in file.decode(sound))
            return samples / float(sound.rate)
    except (av.FFmpegError, IndexError, ZeroDivisionError):
        raise RunError(f"{voice.name} holds no sound that can be read.") from None


def plan(portrait: Path, voice: Path, model: Model) -> Order:
    """Return what is to be made; RunError where the service would not take it, before anything is sent."""
    order = Order(portrait, voice, seconds_of(voice), model)
    if model.voice.too_long(order.seconds) or model.voice.too_short(order.seconds):
        raise RunError(f"{voice.name} has {order.seconds:.1f} s, and {model.name} takes {model.voice.describe()}.")
    return order


@contextmanager
def client(provider: Provider) -> Iterator[Any]:
    """Give the product's own client of the service; its errors become RunError, in plain words."""
    try:
        if not find_spec("requests"):  # behind everything: what both have is this environment's
            sys.path.append(str(installed_requirements(ROOT / "layers" / "portraitcast" / "requirements.txt")))
    except InstallError as error:
        raise RunError(f"what the service's client needs can't be installed: {error}") from error
    from portraitcast.adapters.dashscope import (  # noqa: PLC0415 - needs the folder above
        DashScope,
        NotConnectedError,
        ProviderError,
    )

    before = dict(os.environ)
    os.environ.update(trusted(os.environ))
    try:
        yield DashScope(provider.base_url, lambda: provider.api_key, connect_timeout=10.0, read_timeout=30.0)
    except NotConnectedError as error:
        raise RunError(f"{provider.base_url} can't be reached: {error.message}. Nothing was paid.") from None
    except ProviderError as error:
        raise RunError(
            f"{provider.base_url} answers {error.code}: {error.message.rstrip('.')}. Nothing was paid."
        ) from None
    finally:
        os.environ.clear()
        os.environ.update(before)


def ask_free(provider: Provider, order: Order) -> None:
    """Ask the service for nothing: does it take the key, are both models open to it, are the files small enough.

    RunError in plain words where it isn't so.
    """
    with client(provider) as service:
        for model, files in (
            (order.model.check_model, [order.portrait]),
            (order.model.name, [order.portrait, order.voice]),
        ):
            most = service.upload_limit(model)
            for file in files:
                size = file.stat().st_size
                if most is not None and size > most:
                    raise RunError(
                        f"{file.name} has {size} bytes, and the service's temporary storage takes {most}. Nothing was "
                        "sent or paid."
                    )


def describe(provider: Provider, order: Order) -> str:
    """Return what will be sent where, and what it will cost."""
    model, sizes = order.model, [f"{path.name} ({_size(path)})" for path in (order.portrait, order.voice)]
    return (
        f"\nA real video, at {provider.base_url}\n"
        f"  sent    {' and '.join(sizes)}, or what they are converted to, into the service's own temporary storage, "
        f"which keeps files for {STORED_HOURS} hours\n"
        f"  model   {model.name}: {model.good_for}\n"
        f"  price   about CNY {order.cost:.2f}: a portrait check, CNY {model.check_cny:g}, and "
        f"{order.seconds:.1f} s of video at {_rate(model)}; the account of your key pays it\n"
        "Ctrl-C costs nothing until the portrait is checked.\n"
    )


def describe_all(provider: Provider, parameters: Mapping[str, str]) -> str:
    """Return what happens to what is dropped into a stack that talks to this service, and what it costs."""
    deployments = StackModels.read(DEFAULT, parameters.get("ModelDeployments", "")).deployments
    models = [*MODELS.values(), *(model_named(name, deployments) for name in deployments)]
    prices = "\n".join(
        f"          {model.name}: {model.describe_prices()}, CNY {model.check_cny:g} a portrait check"
        for model in models
    )
    budget = float(parameters.get("DailyBudgetCny", "0") or 0)
    ceiling = f"CNY {budget:g} a Beijing day" if budget else 'none; PARAMS="DailyBudgetCny=20" sets one'
    return (
        f"\nReal videos, at {provider.base_url}\n"
        "  sent    every voice that is dropped, with its portrait, into the service's own temporary storage, which "
        f"keeps files for {STORED_HOURS} hours\n"
        f"  price   of each, paid by the account of your key:\n{prices}\n"
        f"  ceiling {ceiling}\n"
    )


def confirm(environment: Mapping[str, str], question: str) -> None:
    """Return once the person has agreed, by ``YES=1`` or at the terminal; RunError otherwise. Nothing is paid yet."""
    if environment.get("YES", "") not in {"", "0"}:
        return
    if not sys.stdin.isatty():
        raise RunError("nobody can be asked here: say YES=1 to agree. Nothing was paid.")
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in {"y", "yes"}:
        raise RunError("not agreed to. Nothing was sent or paid.")


def account_of(run: Run) -> dict[str, Any]:
    """Return the stack's account item, its open create, breaker and fees, as plain values; {} while there is none."""
    answer = run.client("dynamodb").get_item(
        TableName=run.outputs["table"], Key={"pk": {"S": "ACCOUNT"}, "sk": {"S": "ACCOUNT"}}, ConsistentRead=True
    )
    return plain(answer.get("Item", {}))


def plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a DynamoDB item as plain values."""
    read = TypeDeserializer().deserialize
    return {name: read(value) for name, value in item.items()}


def stop_creates(run: Run) -> tuple[list[str], float]:
    """Let no more creates be sent, and wait for the one that is; return the tasks that go on, and what was paid, CNY.

    submit is called no more, so nothing new begins. A check or create that is open ends within its own bound.
    """
    functions = run.client("lambda")
    for mapping in functions.list_event_source_mappings(FunctionName=run.outputs["functions"]["submit"])[
        "EventSourceMappings"
    ]:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    deadline, quiet = time.monotonic() + SETTLE_SECONDS, 0
    account: dict[str, Any] = {}
    while quiet < LOOKS and time.monotonic() < deadline:
        account = account_of(run)
        quiet = 0 if account.get("open_create") or account.get("check") else quiet + 1
        time.sleep(0.5)
    pages = run.client("dynamodb").get_paginator("scan").paginate(TableName=run.outputs["table"], ConsistentRead=True)
    jobs = [plain(item) for page in pages for item in page["Items"] if item["sk"] == {"S": "JOB"}]
    tasks = [str(job["task"]["id"]) for job in jobs if job.get("task") and job["status"] == "rendering"]
    return tasks, float(account.get("spent", 0) or 0)


def how_to_get(task: str, provider: Provider) -> str:
    """Return how the video of a task that goes on is brought here by hand."""
    where = "" if provider.base_url == REAL else f"DASHSCOPE_BASE_URL={provider.base_url} "
    return (
        f"Task {task} goes on at the service, and its video will be paid. It can be fetched for {TASK_HOURS} hours:\n"
        f"  {where}DASHSCOPE_API_KEY=… make fetch TASK={task}"
    )


def _rate(model: Model) -> str:
    price = model.video_fee(1.0, {})
    setting = f" ({model.effective({})[model.priced_by]})" if model.priced_by else ""
    return f"CNY {price:g} a second{setting}"


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1_048_576:.1f} MB" if size >= 100_000 else f"{size / 1024:.0f} kB"
