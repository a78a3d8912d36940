"""``make pause`` and ``make resume``: stop and start the making of new videos by hand.

It goes to the ``make local`` that runs in this checkout, else to the stack on AWS (``STACK=name``, by default the one
that samconfig.toml deploys; naming one always means AWS), with the AWS credentials and region of the environment.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from run import ROOT, STACK, Engine

OUTPUTS = ROOT / ".local" / "outputs.json"


def uploads_queue() -> tuple[Any, str, str]:
    """Return a client for SQS, the address of the stack's uploads queue, and which stack that is, in words."""
    name = os.environ.get("STACK", "")
    if not name and OUTPUTS.exists():
        local = json.loads(OUTPUTS.read_text("utf-8"))
        engine = Engine(local["endpoint_url"], local["access_key_id"], local["secret_access_key"])
        return engine.client("sqs"), local["uploads_queue_url"], "the stack of `make local`"
    name = name or STACK
    stack = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    return boto3.client("sqs"), outputs["UploadsQueueUrl"], f"the stack {name} on AWS"


def main(word: str) -> int:
    """Send the command; return the exit code."""
    try:
        sqs, queue, where = uploads_queue()
        now = datetime.now(UTC).isoformat()  # of two orders the newer holds, whichever comes last
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"pause": word == "pause", "at": now}))
    except (BotoCoreError, ClientError) as error:
        print(f"make {word} failed: {error}", file=sys.stderr)
        return 1
    told = (
        "No new video is started; what is being made is finished."
        if word == "pause"
        else "New videos are started again."
    )
    print(f"Told {where}: {word}. {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
