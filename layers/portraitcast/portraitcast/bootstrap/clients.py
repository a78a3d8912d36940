"""Clients of AWS and of the video service, made on first use, once a process."""

from __future__ import annotations

import json
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.exceptions import BotoCoreError, ClientError

from portraitcast.adapters.aws import client_config
from portraitcast.adapters.dashscope import DashScope
from portraitcast.domain.metrics import UNITS
from portraitcast.errors import TryLaterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools import Metrics

    from portraitcast.config import Provider
    from portraitcast.domain.metrics import Meter

# Most invocations measure nothing; Powertools' advice for functions of that kind.
warnings.filterwarnings("ignore", "No application metrics to publish")

KEY_CACHE_SECONDS: Final = 60  # a rotated key is in use a minute later, without redeploying
_NO_SUCH_SECRET: Final = frozenset({"ResourceNotFoundException", "InvalidRequestException"})  # the latter: deleted


class OldBotoError(RuntimeError):
    """The runtime's boto3 is too old for what is asked of S3: deploy to a newer runtime, or ship boto3."""


@cache
def client(service: Any) -> Any:  # boto3-stubs want a literal
    """Return the process's client of an AWS service."""
    return boto3.client(service, config=client_config())


def s3_client() -> Any:
    """Return the client of Amazon S3; raises `OldBotoError` if it can't write on a condition.

    Reports and videos are put with If-Match and If-None-Match, which boto3 knows since 1.35.70. AWS chooses the version
    that is in its runtime.
    """
    s3 = client("s3")
    if "IfMatch" not in s3.meta.service_model.operation_model("PutObject").input_shape.members:
        raise OldBotoError(
            f"boto3 {boto3.__version__} doesn't know conditional writes to Amazon S3; 1.35.70 or newer does"
        )
    return s3


def api_key(secret: str) -> Callable[[], str]:
    """Return what reads the API key: from Secrets Manager, remembered for a minute, never from the environment.

    It raises LookupError where there is no secret or no key in it, and `TryLaterError` where Secrets Manager can't be
    asked: the first is the operator's to mend, the second passes.
    """

    @cache
    def provider() -> SecretsProvider:
        return SecretsProvider(boto3_client=client("secretsmanager"))

    def read() -> str:
        try:
            value = provider().get(secret, max_age=KEY_CACHE_SECONDS)
        except GetParameterError as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] in _NO_SUCH_SECRET:
                raise LookupError("the secret with the API key isn't there") from error
            if isinstance(cause, ClientError | BotoCoreError):
                raise TryLaterError(f"the secret with the API key can't be read now: {type(cause).__name__}") from error
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


def service(provider: Provider) -> DashScope:
    """Return the client of the video service."""
    return DashScope(provider.base_url, api_key(provider.api_key_secret))


def meter(metrics: Metrics) -> Meter:
    """Return what hands values to Powertools' metrics, by the names of `metrics.UNITS`."""

    def measure(name: str, value: float) -> None:
        metrics.add_metric(name=name, unit=UNITS[name], value=value)

    return measure
