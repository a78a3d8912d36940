"""A job's report in the results bucket, as the commands on this machine read it."""

from __future__ import annotations

import json
from typing import Any


def read_report(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    """Return a report, None while there is none."""
    try:
        report: dict[str, Any] = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except s3.exceptions.NoSuchKey:
        return None
    return report
