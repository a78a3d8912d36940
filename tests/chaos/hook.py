"""Laid beside the functions of a stack under test as ``sitecustomize``: counts their outside calls, and dies at one.

Python imports it before the handler. It is no part of the product: nothing of it is in template.yaml or in the layer.
Its folder is a plain directory on this machine (``chaos.json`` beside this file names it):

``constants.json``
    ``{"portraitcast.workflows.create_task": {"LEASE_MARGIN": 0.5}}``: the product's own patience, shorter.
``recording``
    While it is there, each outside call adds a line to ``calls.jsonl``.
``armed/<name>.json``
    ``{"function": "submit", "call": "emo.create", "nth": 1, "when": "after"}``: the process that makes this call (the
    n-th one, counted over all processes of the function) ends before or after it, without a word, as if killed. It
    leaves ``<name>.dead`` behind and dies once.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.client
import requests.adapters

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(json.loads(Path(__file__).with_name("chaos.json").read_text("utf-8"))["folder"])
ARMED = FOLDER / "armed"
FUNCTIONS = ("submit", "prepare", "status", "deliver")
FUNCTION = next((name for name in FUNCTIONS if name in os.environ["AWS_LAMBDA_FUNCTION_NAME"].lower()), "")


def aws_call(service: str, operation: str, params: dict[str, Any]) -> str:
    """Name a call of AWS by what it does to what: ``dynamodb.PutItem JOB``."""
    name = f"{service}.{operation}"
    match service:
        case "dynamodb" if operation == "TransactWriteItems":
            return f"{name} {'+'.join(sorted({_item(write) for write in params['TransactItems']}))}"
        case "dynamodb":
            return f"{name} {_item({operation: params})}"
        case "s3" if "Key" in params:
            return f"{name} {Path(params['Key']).suffix}"
        case "sqs":
            return f"{name} {next(iter(json.loads(params['MessageBody'])))}"
        case "sns":
            return f"{name} {'operators' if 'perator' in params['TopicArn'] else 'people'}"
        case _:
            return name


def _item(write: dict[str, Any]) -> str:
    """Name an item by the kind of its keys: FOLDER/OPEN."""
    (order,) = write.values()
    keys = order.get("Item") or order.get("Key")
    if keys is None:
        values = order["ExpressionAttributeValues"]
        return str(values.get(":p", values.get(":o"))["S"]).partition("#")[0]
    kinds = [keys[key]["S"].partition("#")[0] for key in ("pk", "sk")]
    if kinds[0] == "QUEUE" or kinds[0] == kinds[1]:
        return kinds[0]
    return "/".join(kinds)


def http_call(method: str, url: str) -> str:
    """Name a call of the video service."""
    path = urlsplit(url).path
    for part, name in (("face-detect", "check"), ("video-synthesis", "create"), ("/cancel", "cancel")):
        if part in path:
            return f"emo.{name}"
    if path.endswith(("/uploads", "/storage")):  # the latter is the simulator's own
        return "emo.policy" if method == "GET" else "emo.upload"
    if path.endswith("/tasks/"):
        return "emo.list"
    return "emo.query" if "/tasks/" in path else f"video.{method}"


def around(name: str, call: Callable[[], Any]) -> Any:
    """Make an outside call, unless this process is to die before it; die after it if asked to."""
    if (FOLDER / "recording").exists():
        line = json.dumps({"function": FUNCTION, "call": name}) + "\n"
        with (FOLDER / "calls.jsonl").open("ab", buffering=0) as calls:
            calls.write(line.encode())  # one write: lines of several processes don't mix
    deaths = [death for path in ARMED.glob("*.json") if (death := _death(path, name))]
    if any(when == "before" for _, when in deaths):
        _die(deaths[0][0])
    try:
        return call()
    finally:  # also after an answer that is an error
        if deaths:
            _die(deaths[0][0])


def _death(path: Path, name: str) -> tuple[Path, str] | None:
    try:
        point = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None  # disarmed a moment ago
    if point["function"] != FUNCTION or point["call"] != name:
        return None
    for count in range(1, point["nth"] + 1):
        try:
            path.with_suffix(f".{count}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return (path, point["when"]) if count == point["nth"] else None
    return None


def _die(path: Path) -> None:
    path.with_suffix(".dead").touch()
    os._exit(1)


def install() -> None:
    """Put `around` round every outside call, and set the constants."""
    make_api_call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]
    send = requests.adapters.HTTPAdapter.send

    def aws(self: Any, operation_name: str, api_params: dict[str, Any]) -> Any:
        name = aws_call(self.meta.service_model.service_name, operation_name, api_params)
        return around(name, lambda: make_api_call(self, operation_name, api_params))

    def http(self: Any, request: Any, **kwargs: Any) -> Any:
        return around(http_call(request.method, request.url), lambda: send(self, request, **kwargs))

    botocore.client.BaseClient._make_api_call = aws  # type: ignore[attr-defined]
    requests.adapters.HTTPAdapter.send = http  # type: ignore[method-assign, assignment]
    constants = FOLDER / "constants.json"
    if constants.exists():
        for module, values in json.loads(constants.read_text("utf-8")).items():
            for constant, value in values.items():
                getattr(importlib.import_module(module), constant)  # a renamed one must not pass unseen
                setattr(importlib.import_module(module), constant, value)


if __name__ == "sitecustomize":
    install()
