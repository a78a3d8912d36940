"""prepare: decodes what people have, and makes of it what the service takes; cuts voices, joins and labels videos."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from botocore.config import Config

from finishing import Finishing
from preparing import Preparing, Upload
from storage import Answers, Storage

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger(service="portraitcast")
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
AWS = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4})
# Below another host than AWS's, as in a container of SAM CLI beside a local engine, there are no names for buckets.
S3 = AWS.merge(Config(s3={"addressing_style": "path"})) if os.environ.get("AWS_ENDPOINT_URL") else AWS


@cache
def storage() -> Storage:
    """Both buckets, once a process."""
    return Storage(boto3.client("s3", config=S3), os.environ["WORK_BUCKET"], os.environ["UPLOAD_PREFIX"])


@cache
def preparing() -> Preparing:
    """Put the queue's verb together, once a process."""
    answers = Answers(boto3.client("sqs", config=AWS), os.environ["ANSWERS_QUEUE_URL"])
    return Preparing(storage(), answers, os.environ["UPLOAD_BUCKET"], float(os.environ["MAX_VOICE_SECONDS"]))


@cache
def finishing() -> Finishing:
    """Put the state machine's verbs together, once a process."""
    return Finishing(storage(), os.environ["UPLOAD_BUCKET"])


def take(record: SQSRecord) -> None:
    """Handle one message of the media queue."""
    upload = Upload.from_message(record.json_body)
    receives = int(record.attributes.approximate_receive_count)
    answer = preparing().handle(upload, receives)
    said = answer.get("problem", {}).get("code") or ("gone" if "gone" in answer else "prepared")
    logger.info("upload read", extra={"key": upload.key, "version": upload.version, "kind": upload.kind, "said": said})


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a batch of the media queue, or one order of the state machine: ``cut``, ``join`` or ``finish``."""
    if "Records" in event:
        return dict(process_partial_response(event, record_handler=take, processor=processor, context=context))
    return finishing().handle(event)
