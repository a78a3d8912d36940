"""Each function's settings: one typed object, read once from the environment that template.yaml gives it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from portraitcast.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _variable(name: str, read: Callable[[str], float | str] = str) -> Any:  # stands where a field has its default
    return field(metadata={"name": name, "read": read})


@dataclass(frozen=True, slots=True)
class _FromEnvironment:
    """Settings whose fields each name their variable."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read it; a missing variable is a fault of the deployment and raises KeyError with its name."""
        return cls(**{f.name: f.metadata["read"](env[f.metadata["name"]]) for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class Provider(_FromEnvironment):
    """How to reach the video service and how often to poll: seconds."""

    base_url: str = _variable("DASHSCOPE_BASE_URL")
    api_key_secret: str = _variable("API_KEY_SECRET_ARN")
    min_poll: float = _variable("MIN_POLL_SECONDS", float)
    max_poll: float = _variable("MAX_POLL_SECONDS", float)


@dataclass(frozen=True, slots=True)
class Resources(_FromEnvironment):
    """Names and addresses of the stack's resources that submit and deliver both use."""

    table: str = _variable("TABLE_NAME")
    results_bucket: str = _variable("RESULTS_BUCKET")
    uploads_queue: str = _variable("UPLOADS_QUEUE_URL")
    topic: str = _variable("TOPIC_ARN")
    operator_topic: str = _variable("OPERATOR_TOPIC_ARN")
    event_bus: str = _variable("EVENT_BUS_NAME")
    upload_prefix: str = _variable("UPLOAD_PREFIX")
    results_prefix: str = _variable("RESULTS_PREFIX")


@dataclass(frozen=True, slots=True)
class SubmitConfig(_FromEnvironment):
    """What submit alone needs: seconds, tasks, CNY a Beijing day (0 is no ceiling) and a job (0 asks never)."""

    upload_bucket: str = _variable("UPLOAD_BUCKET")
    work_bucket: str = _variable("WORK_BUCKET")
    media_queue: str = _variable("MEDIA_QUEUE_URL")
    answers_queue: str = _variable("ANSWERS_QUEUE_URL")
    state_machine: str = _variable("STATE_MACHINE_ARN")
    link_role: str = _variable("LINK_ROLE_ARN")
    default_model: str = _variable("DEFAULT_MODEL")
    model_deployments: str = _variable("MODEL_DEPLOYMENTS")
    uploads_inputs: bool = _variable("INPUT_TRANSFER", "upload".__eq__)  # into the service's temporary storage
    max_tasks_in_flight: int = _variable("MAX_TASKS_IN_FLIGHT", int)
    daily_budget_cny: float = _variable("DAILY_BUDGET_CNY", float)
    approve_above_cny: float = _variable("APPROVE_ABOVE_CNY", float)
    pair_seconds: float = _variable("PAIR_SECONDS", float)
    settle_seconds: float = _variable("SETTLE_SECONDS", float)
    reconcile_seconds: float = _variable("RECONCILE_SECONDS", float)
    breaker_seconds: float = _variable("BREAKER_SECONDS", float)


@dataclass(frozen=True, slots=True)
class DeliverConfig(_FromEnvironment):
    """What deliver alone needs."""

    extra_video_hosts: str = _variable("EXTRA_VIDEO_HOSTS")


def check_poll_seconds(least: float, most: float) -> None:
    """Raise `ParameterError` where MinPollSeconds is above MaxPollSeconds: CloudFormation can't compare them."""
    if least > most:
        raise ParameterError(
            f"The stack's parameter MinPollSeconds is {least:g} and MaxPollSeconds {most:g}: the least must not be "
            "above the most. Deploy again with a smaller MinPollSeconds or a larger MaxPollSeconds."
        )


def check_places(upload_bucket: str, upload_prefix: str, results_bucket: str, results_prefix: str) -> None:
    """Raise `ParameterError` where results would lie among the uploads: a report would be taken for settings."""
    if upload_bucket != results_bucket:
        return
    if upload_prefix.startswith(results_prefix) or results_prefix.startswith(upload_prefix):
        raise ParameterError(
            f"Uploads (UploadPrefix {upload_prefix!r}) and results (ResultsPrefix {results_prefix!r}) lie in one "
            "bucket and within each other. Deploy again with prefixes apart from each other, such as in/ and out/."
        )
