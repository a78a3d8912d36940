"""Each function's settings: one typed object, read once from the environment that template.yaml gives it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Provider:
    """How to reach the video service and how often to look: seconds."""

    base_url: str
    api_key_secret: str
    min_wait: float
    max_wait: float

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Provider:
        """Read it; a missing variable is a fault of the deployment and raises KeyError with its name."""
        return cls(
            base_url=env["DASHSCOPE_BASE_URL"],
            api_key_secret=env["API_KEY_SECRET_ARN"],
            min_wait=float(env["MIN_WAIT_SECONDS"]),
            max_wait=float(env["MAX_WAIT_SECONDS"]),
        )


@dataclass(frozen=True, slots=True)
class Places:
    """Names and addresses of the stack's own resources."""

    table: str
    upload_bucket: str
    results_bucket: str
    uploads_queue: str
    topic: str
    operator_topic: str
    event_bus: str
    state_machine: str

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Places:
        """Read it; a missing variable is a fault of the deployment and raises KeyError with its name."""
        return cls(
            table=env["TABLE_NAME"],
            upload_bucket=env["UPLOAD_BUCKET"],
            results_bucket=env["RESULTS_BUCKET"],
            uploads_queue=env["UPLOADS_QUEUE_URL"],
            topic=env["TOPIC_ARN"],
            operator_topic=env["OPERATOR_TOPIC_ARN"],
            event_bus=env["EVENT_BUS_NAME"],
            state_machine=env["STATE_MACHINE_ARN"],
        )


@dataclass(frozen=True, slots=True)
class SubmitConfig:
    """What submit alone needs: seconds, tasks, CNY a Beijing day (0 is no ceiling)."""

    link_role: str
    max_tasks_in_flight: int
    daily_budget_cny: float
    pair_seconds: float
    settle_seconds: float
    look_seconds: float
    hold_seconds: float

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> SubmitConfig:
        """Read it; a missing variable is a fault of the deployment and raises KeyError with its name."""
        return cls(
            link_role=env["LINK_ROLE_ARN"],
            max_tasks_in_flight=int(env["MAX_TASKS_IN_FLIGHT"]),
            daily_budget_cny=float(env["DAILY_BUDGET_CNY"]),
            pair_seconds=float(env["PAIR_SECONDS"]),
            settle_seconds=float(env["SETTLE_SECONDS"]),
            look_seconds=float(env["LOOK_SECONDS"]),
            hold_seconds=float(env["HOLD_SECONDS"]),
        )
