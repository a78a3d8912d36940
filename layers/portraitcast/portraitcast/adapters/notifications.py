"""Events on the stack's bus, and notices by Amazon SNS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from portraitcast.adapters.aws import aws_errors
from portraitcast.errors import TryLaterError

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sns import SNSClient

    from portraitcast.domain.report import Report

SOURCE: Final = "portraitcast"
DETAIL_TYPE: Final = "Job State Changed"


class Notifications:
    """Sends a job's changes to systems and people, and notices to operators."""

    def __init__(self, events: EventBridgeClient, sns: SNSClient, *, bus: str, topic: str, operator_topic: str) -> None:
        self._events = events
        self._sns = sns
        self._bus = bus
        self._topic = topic
        self._operator_topic = operator_topic

    def send_event(self, report: Report) -> None:
        """Put a report on the bus as one event."""
        body = json.dumps(report, ensure_ascii=False)
        entry = {"EventBusName": self._bus, "Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": body}
        with aws_errors():
            answer = self._events.put_events(Entries=[entry])  # type: ignore[list-item]  # a plain dict by design
        if answer["FailedEntryCount"]:
            raise TryLaterError(f"EventBridge did not take an event: {answer['Entries'][0].get('ErrorCode')}")

    def send_notice(self, report: Report, *, subject: str, folder: str) -> None:
        """Publish a report to whoever has subscribed; `subject` has fewer than 100 characters.

        Subscriptions filter on its attributes: ``status``, ``folder``, and ``reference`` where the job has one.
        """
        attributes = {"status": str(report["status"]), "folder": folder}
        if report["reference"] is not None:
            attributes["reference"] = str(report["reference"])
        with aws_errors():
            self._sns.publish(
                TopicArn=self._topic,
                Subject=subject,
                Message=json.dumps(report, ensure_ascii=False, indent=2),
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )

    def notify_operators(self, title: str, text: str) -> None:
        """Send operators a notice: `title` under 100 characters, `text` in plain sentences."""
        with aws_errors():
            self._sns.publish(TopicArn=self._operator_topic, Subject=f"Portraitcast: {title}"[:99], Message=text)
