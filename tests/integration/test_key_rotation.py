"""The API key: read from the secret, remembered for a minute, never longer."""

from __future__ import annotations

import datetime as real
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aws_lambda_powertools.utilities.parameters import base
from world import REGION

from portraitcast.bootstrap import clients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Clock(real.datetime):
    """Powertools' clock, which a test moves on."""

    ahead = real.timedelta()

    @classmethod
    def now(cls, tz: real.tzinfo | None = None) -> Clock:
        return super().now(tz) + cls.ahead


@pytest.fixture
def secret(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(base, "datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", real.timedelta())
    clients.client.cache_clear()
    client = boto3.client("secretsmanager", region_name=REGION)
    arn = client.create_secret(Name="key", SecretString="sk-first")["ARN"]
    yield lambda value: client.put_secret_value(SecretId=arn, SecretString=value), clients.api_key(arn)
    clients.client.cache_clear()


def test_a_new_key_is_used_a_minute_later(
    secret: tuple[Callable[[str], None], Callable[[], str]],
) -> None:
    put, read = secret
    assert read() == "sk-first"

    put("sk-second")
    Clock.ahead = real.timedelta(seconds=59)
    before = read()
    Clock.ahead = real.timedelta(seconds=61)

    assert (before, read()) == ("sk-first", "sk-second")
