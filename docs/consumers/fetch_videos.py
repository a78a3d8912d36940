"""Fetch each finished video once: python fetch_videos.py QUEUE_URL FOLDER."""

import json
import sys
from pathlib import Path

import boto3

queue, folder = sys.argv[1], Path(sys.argv[2])
sqs, s3 = boto3.client("sqs"), boto3.client("s3")

while True:
    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=20)
    for message in answer.get("Messages", []):
        report = json.loads(message["Body"])
        video, file = report["video"], folder / f"{report['job']}-{report['revision']}.mp4"
        if not file.exists():  # events come at least once; job and revision name a change
            part = file.with_suffix(".part")
            s3.download_file(video["bucket"], video["key"], str(part))
            part.rename(file)
            print(report["reference"] or report["name"], file.name, flush=True)  # your work
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
