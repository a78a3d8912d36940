"""Events as AWS tells and delivers them, for the local engine: S3's on EventBridge, and webhooks."""

# mypy: disable-error-code="no-untyped-call,no-untyped-def"
from __future__ import annotations

import contextvars
import json
import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("engine")

SENDS = 5  # AWS retries for 24 h, 185 times at the most
RETRY_SECONDS = 0.2  # AWS waits longer each time
PASSING = frozenset({401, 407, 409, 429})  # EventBridge, "API destinations": tried again, as all from 500 are

_version: contextvars.ContextVar[str | None] = contextvars.ContextVar("version", default=None)


def tell_versions(s3: Any, eventbridge: Any) -> None:
    """Put the object's version into S3's events on EventBridge, which MiniStack leaves out.

    What AWS does: Amazon S3, "EventBridge event message structure"; without versioning there is none.
    """
    fire, dispatch = s3._fire_s3_event, eventbridge._dispatch_event

    def fire_with_version(*args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("version_id", args[7] if len(args) > 7 else None)
        token = _version.set(given)
        try:
            return fire(*args, **kwargs)
        finally:
            _version.reset(token)

    def dispatch_with_version(event: dict[str, Any], *rest: Any) -> Any:
        if event.get("Source") == "aws.s3" and _version.get():
            detail = json.loads(event["Detail"])
            detail["object"]["version-id"] = _version.get()
            event = {**event, "Detail": json.dumps(detail)}
        return dispatch(event, *rest)

    s3._fire_s3_event, eventbridge._dispatch_event = fire_with_version, dispatch_with_version


def deploy_webhooks(handlers: dict[str, dict[str, Any]], eventbridge: Any) -> None:
    """Let CloudFormation make connections and API destinations, which MiniStack has by API only."""

    def names(kind: str, answer: tuple[int, Any, bytes | str]) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(answer[2])
        if answer[0] >= 400:
            raise ValueError(f"AWS::Events::{kind}: {said.get('message') or said.get('Message')}")
        return said

    def creator(kind: str, create: Callable[[dict[str, Any]], Any], arn: str) -> Callable[..., Any]:
        def run(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
            name = properties.get("Name") or f"{stack_name}-{logical_id}"[:64]
            said = names(kind, create({**properties, "Name": name}))
            return name, {"Arn": said[arn]}

        return run

    def deleter(delete: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
        def run(name: str, _properties: Any) -> None:
            delete({"Name": name})

        return run

    handlers["AWS::Events::Connection"] = {
        "create": creator("Connection", eventbridge._create_connection, "ConnectionArn"),
        "delete": deleter(eventbridge._delete_connection),
    }
    handlers["AWS::Events::ApiDestination"] = {
        "create": creator("ApiDestination", eventbridge._create_api_destination, "ApiDestinationArn"),
        "delete": deleter(eventbridge._delete_api_destination),
    }


def send_webhooks(eventbridge: Any) -> None:
    """Call a webhook only for a target with a role, as AWS does, and again where its answer says that it may pass.

    MiniStack tries once, and asks for no role.
    """
    dispatch, send = eventbridge._dispatch_to_api_destination, eventbridge._api_destination_send_sync

    def dispatch_with_role(spec: Any, payload: str, target: dict[str, Any]) -> None:
        if target.get("RoleArn"):
            dispatch(spec, payload, target)
        else:
            log.warning("a rule may not call %s: its target has no RoleArn", spec)

    def send_again(request: dict[str, Any], headers: dict[str, str]) -> int:
        status = 0
        for turn in range(SENDS):
            time.sleep(RETRY_SECONDS * turn)
            try:
                status = send(request, headers)
            except OSError:
                continue
            if status < 500 and status not in PASSING:
                break
        return status

    eventbridge._dispatch_to_api_destination, eventbridge._api_destination_send_sync = dispatch_with_role, send_again
