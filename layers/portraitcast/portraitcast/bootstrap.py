"""Puts the functions together from their settings: clients are made on first use, once a process."""

from __future__ import annotations

import json
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

from portraitcast.adapters.aws import client_config
from portraitcast.adapters.dashscope.client import Emo
from portraitcast.domain.metrics import UNITS
from portraitcast.workflows.publish import Teller

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools import Metrics

    from portraitcast.adapters.buckets import Results
    from portraitcast.config import Places, Provider
    from portraitcast.adapters.jobs_table import Table

# Most invocations measure nothing; Powertools' advice for functions of that kind.
warnings.filterwarnings("ignore", "No application metrics to publish")

KEY_CACHE_SECONDS = 60  # a rotated key is in use a minute later, without redeploying


@cache
def client(service: Any) -> Any:  # boto3-stubs want a literal
    """Return the process's client of an AWS service."""
    return boto3.client(service, config=client_config())


def api_key(secret: str) -> Callable[[], str]:
    """Return what reads the API key: from Secrets Manager, remembered for a minute, never from the environment."""

    @cache
    def provider() -> SecretsProvider:
        return SecretsProvider(boto3_client=client("secretsmanager"))

    def read() -> str:
        try:
            value = provider().get(secret, max_age=KEY_CACHE_SECONDS)
        except GetParameterError as error:
            raise LookupError("the secret with the API key can't be read") from error
        return _plain(value if isinstance(value, str) else "")

    return read


def _plain(value: str) -> str:
    """Take the key out of the JSON that the Secrets Manager console makes of a key/value secret."""
    if not value.lstrip().startswith("{"):
        return value.strip()
    try:
        fields = json.loads(value)
    except ValueError:
        return ""
    return str(next(iter(fields.values()), "")) if isinstance(fields, dict) else ""


def emo(provider: Provider) -> Emo:
    """Return the client of the video service."""
    return Emo(provider.base_url, api_key(provider.api_key_secret))


def teller(places: Places, table: Table, results: Results, metrics: Metrics) -> Teller:
    """Return what tells people, systems and operators; what it measures goes to `metrics`."""

    def meter(name: str, value: float) -> None:
        metrics.add_metric(name=name, unit=UNITS[name], value=value)

    return Teller(
        table,
        results,
        client("events"),
        client("sns"),
        bus=places.event_bus,
        topic=places.topic,
        operator_topic=places.operator_topic,
        meter=meter,
    )
