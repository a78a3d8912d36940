"""``make approve NAME=acme/line-01``: approve the price of a job that waits for it.

It goes to the ``make local`` that runs in this checkout, else to the stack on AWS (``STACK=name``), as ``make pause``
does. What is approved is what the job's report says now; files or settings that come later ask again.
"""

from __future__ import annotations

import json
import os
import sys
import time

from botocore.exceptions import BotoCoreError, ClientError

from deployed import NoStackError, find_stack
from reports import read_report

WAIT_SECONDS = 30.0  # for the report that follows: as long as somebody looks at a terminal


def approve(name: str) -> int:
    """Approve the job's price and say what became of it; return the exit code."""
    stack = find_stack(os.environ)
    place = (
        stack.client("s3"),
        stack.outputs["ResultsBucket"],
        f"{stack.parameters.get('ResultsPrefix', '')}{name}.json",
    )
    report = read_report(*place)
    if report is None:
        print(f"{stack.words} has no report of {name}: NAME is folder and name without extension.", file=sys.stderr)
        return 1
    if report["status"] != "waiting" or (report["error"] or {}).get("code") != "ApprovalNeeded":
        print(f"{name} waits for no approval; it is {report['status']}: {report['message']}", file=sys.stderr)
        return 1
    price = report["cost_cny"]["estimate"]
    message = {"approve": report["job"], "revision": report["revision"], "cny": price}
    stack.client("sqs").send_message(QueueUrl=stack.outputs["UploadsQueueUrl"], MessageBody=json.dumps(message))
    print(f"Told {stack.words}: {name} may cost CNY {price:g}.")
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        now = read_report(*place) or report
        if now["revision"] > report["revision"]:
            print(f"{name} is {now['status']}: {now['message']}")
            return 0
        time.sleep(0.5)
    print(f"No new report within {WAIT_SECONDS:g} s; the order stays in the queue. Look again at {name}.json.")
    return 1


def main() -> int:
    """Approve the job that NAME names; return the exit code."""
    name = os.environ.get("NAME", "")
    if not name:
        print("Name the job: make approve NAME=acme/line-01", file=sys.stderr)
        return 2
    try:
        return approve(name)
    except (NoStackError, BotoCoreError, ClientError) as error:
        print(f"make approve failed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
