"""``make redrive``: send dead letters back to where they came from.

    make redrive [Q=uploads|media|answers|deliver|rule] [STACK=name]

Each source has a dead-letter queue of its own. Messages of the queues `uploads`, `media` and `answers` go back into
them by SQS's own StartMessageMoveTask. Those of `deliver` (an invocation that failed to the end, as Lambda records
it) and of `rule` (an event that did not reach deliver) came from no queue, which SQS doesn't move: they are given to
deliver, as the rule would, and deleted once Lambda has taken them. What comes among the dead letters meanwhile stays
there.

Mend the cause first: what fails again is a dead letter again. The exit code is 0 when nothing was left behind.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from deployed import Deployed, NoStackError, find_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOVE_SECONDS = 600  # ours: AWS moves up to 500 messages a second; a longer task goes on by itself
LOOK_SECONDS = 1.0  # ours: between two looks at a task
HIDDEN_SECONDS = 60  # ours: handing one batch to Lambda takes seconds
ENDED = {"COMPLETED", "FAILED", "CANCELLED"}


@dataclass(frozen=True)
class Source:
    """Where dead letters come from.

    Attributes
    ----------
    dead_letters
        Logical id of their queue.
    queue
        Logical id of the queue that they go back to, None where they go to deliver.
    words
        Where they go, for people.
    """

    dead_letters: str
    queue: str | None
    words: str


SOURCES = {
    "uploads": Source("DeadLetterQueue", "UploadsQueue", "back to the uploads queue"),
    "media": Source("MediaDeadLetterQueue", "MediaQueue", "back to the media queue"),
    "answers": Source("AnswersDeadLetterQueue", "AnswersQueue", "back to the answers queue"),
    "deliver": Source("DeliverDeadLetterQueue", None, "given to deliver again"),
    "rule": Source("RuleDeadLetterQueue", None, "given to deliver"),
}


@dataclass(frozen=True)
class Redriven:
    """What became of a source's dead letters.

    Attributes
    ----------
    source
        Its name.
    found, moved
        How many there were, and how many of them went back. The rest still lies there.
    trouble
        Why some were left, "" where none was.
    """

    source: str
    found: int
    moved: int
    trouble: str = ""

    def line(self) -> str:
        """Return it for people."""
        if not self.found and not self.trouble:
            return f"{self.source:8} none"
        left = f"; {self.trouble}" if self.trouble else ""
        return f"{self.source:8} {self.moved} of {self.found} {SOURCES[self.source].words}{left}"


def redrive(stack: Deployed, source: str) -> Redriven:
    """Send a source's dead letters back; raises ``ClientError`` where AWS refuses."""
    its = SOURCES[source]
    dead_letters = stack.resources[its.dead_letters]
    if its.queue is None:
        return _give_to_deliver(stack, source, dead_letters)
    return _move(stack.client("sqs"), source, dead_letters, stack.resources[its.queue])


def _move(sqs: Any, source: str, dead_letters: str, queue: str) -> Redriven:
    """Have SQS move them. The destination is named, for what somebody put there by hand."""
    from_arn, to_arn = _arn(sqs, dead_letters), _arn(sqs, queue)
    if not _is_running(_newest(sqs, from_arn)):  # only one at a time; what runs is waited for
        sqs.start_message_move_task(SourceArn=from_arn, DestinationArn=to_arn)
    deadline = time.monotonic() + MOVE_SECONDS
    while _is_running(task := _newest(sqs, from_arn)):
        if time.monotonic() > deadline:
            break
        time.sleep(LOOK_SECONDS)
    moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
    found = max(moved, int(task.get("ApproximateNumberOfMessagesToMove") or 0))
    if _is_running(task):
        return Redriven(source, found, moved, "SQS goes on moving: look again later")
    if task.get("Status") != "COMPLETED":
        return Redriven(source, found, moved, f"{task.get('Status')}: {task.get('FailureReason', 'no reason given')}")
    return Redriven(source, found, moved)


def _newest(sqs: Any, arn: str) -> dict[str, Any]:
    results: list[dict[str, Any]] = sqs.list_message_move_tasks(SourceArn=arn, MaxResults=1).get("Results", [])
    return results[0] if results else {}


def _is_running(task: dict[str, Any]) -> bool:
    return bool(task) and task["Status"] not in ENDED


def _arn(sqs: Any, url: str) -> str:
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def _give_to_deliver(stack: Deployed, source: str, dead_letters: str) -> Redriven:
    """Give each to deliver, and delete it once Lambda has it: a message is never lost, and deliver may be told twice.

    Asynchronously, as the rule does: Lambda tries it three times, and then it is a dead letter of deliver.
    """
    sqs, functions = stack.client("sqs"), stack.client("lambda")
    began, found, moved, trouble = time.time(), 0, 0, ""
    while messages := _receive(sqs, dead_letters):
        for message in messages:
            if float(message["Attributes"]["SentTimestamp"]) / 1000 > began:
                trouble = trouble or "some came meanwhile and stay: look again in a minute"
                continue
            found += 1
            event = event_of(message["Body"])
            if event is None:
                trouble = f"{message['MessageId']} is no event of an execution: look at it, and delete it"
                continue
            function = stack.resources["DeliverFunction"]
            functions.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event).encode())
            sqs.delete_message(QueueUrl=dead_letters, ReceiptHandle=message["ReceiptHandle"])
            moved += 1
    return Redriven(source, found, moved, trouble)


def _receive(sqs: Any, queue: str) -> list[dict[str, Any]]:
    answer = sqs.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["SentTimestamp"], WaitTimeSeconds=1,
        VisibilityTimeout=HIDDEN_SECONDS,
    )  # fmt: skip
    return list(answer.get("Messages", []))


def event_of(body: str) -> dict[str, Any] | None:
    """Return the event of an execution's end in a dead letter: itself, or what Lambda's record holds; else None."""
    try:
        said = json.loads(body)
    except ValueError:
        return None
    event = said.get("requestPayload", said) if isinstance(said, dict) else None
    return event if isinstance(event, dict) and isinstance(event.get("detail"), dict) else None


def redrive_all(stack: Deployed, sources: Sequence[str], tell: Callable[[Redriven], None]) -> bool:
    """Send the dead letters of these sources back, telling of each; return whether none was left behind."""
    whole = True
    for source in sources:
        done = redrive(stack, source)
        tell(done)
        whole = whole and not done.trouble
    return whole


def main() -> int:
    """Redrive the queue that Q names, or all; return the exit code."""
    wanted = os.environ.get("Q", "")
    if wanted and wanted not in SOURCES:
        print(f"make redrive: Q={wanted}: there are {', '.join(SOURCES)}.", file=sys.stderr)
        return 2
    try:
        stack = find_stack(os.environ)
        print(f"Dead letters of {stack.words}:", flush=True)
        whole = redrive_all(stack, [wanted] if wanted else list(SOURCES), lambda done: print(done.line(), flush=True))
    except (NoStackError, BotoCoreError, ClientError) as error:
        print(f"make redrive failed: {error}", file=sys.stderr)
        return 1
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
