"""status: one look at one task; says when to look again."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from portraitcast.config import Provider
from portraitcast.workflows.poll import look
from portraitcast.bootstrap import emo

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from portraitcast.adapters.dashscope.client import Emo

logger = Logger(service="portraitcast")  # the name that the package's own loggers have


@cache
def parts() -> tuple[Provider, Emo]:
    """Put status together, once a process: it needs the provider and nothing else."""
    provider = Provider.from_env()
    return provider, emo(provider)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001  # Lambda's signature
    """Look at the execution's task and return the execution's state, brought up to now."""
    logger.append_keys(job=event.get("job"))
    provider, service = parts()
    return look(event, service, least=provider.min_wait, most=provider.max_wait)
