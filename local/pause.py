"""``make pause`` and ``make resume``: stop and start the making of new videos by hand.

It goes to the ``make local`` that runs in this checkout, else to the stack on AWS (``STACK=name``, by default the one
that samconfig.toml deploys; naming one always means AWS), with the AWS credentials and region of the environment.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime

from botocore.exceptions import BotoCoreError, ClientError

from deployed import NoStackError, find_stack


def main(word: str) -> int:
    """Send the command; return the exit code."""
    try:
        stack = find_stack(os.environ)
        now = datetime.now(UTC).isoformat()  # of two orders the newer holds, whichever comes last
        order = json.dumps({"pause": word == "pause", "at": now})
        stack.client("sqs").send_message(QueueUrl=stack.outputs["UploadsQueueUrl"], MessageBody=order)
    except (NoStackError, BotoCoreError, ClientError) as error:
        print(f"make {word} failed: {error}", file=sys.stderr)
        return 1
    told = (
        "No new video is started; what is being made is finished."
        if word == "pause"
        else "New videos are started again."
    )
    print(f"Told {stack.words}: {word}. {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
