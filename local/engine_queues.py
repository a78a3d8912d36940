"""Queues as AWS guards and redrives them, for the local engine."""

# mypy: disable-error-code="no-untyped-call,no-untyped-def"
from __future__ import annotations

import contextvars
import json
import logging
import time
from typing import Any

log = logging.getLogger("engine")

_rule: contextvars.ContextVar[tuple[str, dict[str, Any]] | None] = contextvars.ContextVar("rule", default=None)


# ---------------------------------------------------------------- EventBridge into queues


def ask_queue_policies(eventbridge: Any, sqs: Any) -> None:
    """Deliver a rule's events only into queues whose policy lets ``events.amazonaws.com`` send.

    What AWS does ("Using resource-based policies for Amazon EventBridge"; "Using dead-letter queues to process
    undelivered events in EventBridge"): EventBridge has no role for a queue, so the queue's policy must allow it, also
    within one account. An event that is refused goes to the target's dead letters, if their policy allows that, else
    it is lost. MiniStack asks for SNS and S3, not for EventBridge.
    """
    invoke, send = eventbridge._invoke_target, eventbridge._dispatch_to_sqs

    def invoke_target(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> Any:
        token = _rule.set((rule.get("Arn", ""), target))
        try:
            return invoke(target, event, rule, view)
        finally:
            _rule.reset(token)

    def allowed(queue_arn: str, rule_arn: str) -> bool:
        account = rule_arn.split(":")[4] if rule_arn.count(":") > 4 else ""
        return bool(sqs.queue_policy_allows(queue_arn, "events.amazonaws.com", rule_arn, account))

    def send_if_allowed(spec: Any, payload: str, parameters: Any = None) -> None:
        rule_arn, target = _rule.get() or ("", {})
        if allowed(str(spec), rule_arn):
            send(spec, payload, parameters)
            return
        log.warning("rule %s may not send to %s: the queue's policy doesn't allow it", rule_arn, spec)
        dead_letters = (target.get("DeadLetterConfig") or {}).get("Arn", "")
        if not dead_letters or not allowed(dead_letters, rule_arn):
            return
        send(eventbridge.parse_arn(dead_letters), payload, None)
        words = {"RULE_ARN": rule_arn, "TARGET_ARN": str(spec), "ERROR_CODE": "NO_PERMISSIONS"}
        sqs._queue_by_arn(dead_letters)["messages"][-1]["message_attributes"] = {
            name: {"DataType": "String", "StringValue": value} for name, value in words.items()
        }

    eventbridge._invoke_target, eventbridge._dispatch_to_sqs = invoke_target, send_if_allowed


# ---------------------------------------------------------------- Redrive

KEPT_TASKS = 10  # ListMessageMoveTasks shows the last ten


def move_messages(sqs: Any) -> None:
    """Add StartMessageMoveTask, ListMessageMoveTasks and CancelMessageMoveTask, which MiniStack lacks.

    What AWS does (API reference, StartMessageMoveTask; SQS Developer Guide, "Troubleshooting issues in dead-letter
    queue redrive"): the source must be some queue's dead letters. Without a destination each message goes back to the
    queue that it came from; where one did not come from a queue (EventBridge, Lambda and people send to dead letters
    themselves), the task fails with ``CouldNotDetermineMessageSource`` and the rest stays. A moved message is a new
    one: new id, no receives, and no trace of its chain. Here a task has ended when its start is answered.
    """
    tasks: dict[str, list[dict[str, Any]]] = {}

    def refuse(code: str, words: str) -> None:
        raise sqs._Err(code, words)

    def start(data: dict[str, Any], _url: str) -> dict[str, Any]:
        source_arn, destination_arn = data.get("SourceArn", ""), data.get("DestinationArn")
        source, destination = sqs._queue_by_arn(source_arn), sqs._queue_by_arn(destination_arn or "")
        for name, arn, queue in (("Source", source_arn, source), ("Destination", destination_arn, destination)):
            if queue is None and (arn or name == "Source"):
                refuse(
                    "ResourceNotFoundException",
                    f"The resource that you specified for the {name}Arn parameter doesn't exist.",
                )
        rate = data.get("MaxNumberOfMessagesPerSecond")
        if rate is not None and not 1 <= int(rate) <= 500:
            refuse("InvalidParameterValue", "MaxNumberOfMessagesPerSecond must be between 1 and 500.")
        if not any(_dead_letters_of(queue) == source_arn for queue in sqs._queues.values()):
            refuse("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
        with sqs._queues_lock:
            task = _move(sqs, source, destination_arn)
        tasks[source_arn] = [task, *tasks.get(source_arn, [])][:KEPT_TASKS]
        sqs.esm_wake.set()
        return {"TaskHandle": task["handle"]}

    def listed(data: dict[str, Any], _url: str) -> dict[str, Any]:
        if sqs._queue_by_arn(data.get("SourceArn", "")) is None:
            refuse(
                "ResourceNotFoundException",
                "The resource that you specified for the SourceArn parameter doesn't exist.",
            )
        found = tasks.get(data["SourceArn"], [])[: int(data.get("MaxResults") or 1)]
        # a handle is shown while a task runs, and none does
        return {"Results": [{name: value for name, value in task.items() if name != "handle"} for task in found]}

    def cancel(_data: dict[str, Any], _url: str) -> dict[str, Any]:
        refuse("ResourceNotFoundException", "Task does not exist, or is not running.")
        return {}

    sqs._HANDLERS |= {"StartMessageMoveTask": start, "ListMessageMoveTasks": listed, "CancelMessageMoveTask": cancel}


def _dead_letters_of(queue: dict[str, Any]) -> str:
    policy = json.loads(queue["attributes"].get("RedrivePolicy") or "{}")
    return str(policy.get("deadLetterTargetArn", ""))


def _move(sqs: Any, source: dict[str, Any], destination_arn: str | None) -> dict[str, Any]:
    """Move what can be received now, oldest first, and return the task's record."""
    now, moved, failure = time.time(), 0, None
    waiting = [message for message in source["messages"] if message["visible_at"] <= now]
    for message in waiting:
        arn = destination_arn or message["sys"].get("DeadLetterQueueSourceArn")
        queue = sqs._queue_by_arn(arn or "")
        if queue is None:
            failure = "AWS.SimpleQueueService.NonExistentQueue" if arn else "CouldNotDetermineMessageSource"
            break
        attributes = {"SenderId": message["sys"].get("SenderId", ""), "SentTimestamp": str(int(now * 1000))}
        queue["messages"].append(
            message
            | {"id": sqs.new_uuid(), "sys": attributes, "receipt_handle": None, "receive_count": 0}
            | {"first_receive_at": None, "sent_at": now, "visible_at": now}
        )
        source["messages"].remove(message)
        moved += 1
    return {
        "handle": sqs.new_uuid(),
        "Status": "FAILED" if failure else "COMPLETED",
        "SourceArn": source["attributes"]["QueueArn"],
        "ApproximateNumberOfMessagesMoved": moved,
        "ApproximateNumberOfMessagesToMove": len(waiting),
        "StartedTimestamp": int(now * 1000),
        **({"DestinationArn": destination_arn} if destination_arn else {}),
        **({"FailureReason": failure} if failure else {}),
    }
