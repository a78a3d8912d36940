"""status: polls one task once; says when to poll again."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from portraitcast.adapters.records import from_plain, to_plain
from portraitcast.bootstrap.status import from_environment
from portraitcast.domain.execution import Execution

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from portraitcast.workflows.poll import Poll

logger = Logger(service="portraitcast")  # the name that the package's own loggers have


@cache
def poll() -> Poll:
    """Put status together, once a process."""
    return from_environment()


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001  # Lambda's signature
    """Poll the execution's task and return the execution's state, brought up to now."""
    logger.append_keys(job=event.get("job"))
    state: dict[str, Any] = to_plain(poll().task(from_plain(Execution, event)))
    return state
