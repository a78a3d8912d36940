"""deliver: every end of a task, good or bad, and executions that ended where no Catch can see."""

from __future__ import annotations

import json
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics

from portraitcast.adapters.records import from_plain, to_plain
from portraitcast.bootstrap.deliver import from_environment
from portraitcast.domain.execution import Execution
from portraitcast.workflows.deliver import EndedExecution

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from portraitcast.workflows.deliver import Deliver

logger = Logger(service="portraitcast")  # the name that the package's own loggers have
metrics = Metrics()
warnings.filterwarnings("ignore", "No application metrics to publish")  # most invocations have nothing to measure


@cache
def deliver() -> Deliver:
    """Put deliver together, once a process."""
    return from_environment(metrics)


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001  # Lambda's signature
    """Deliver for the wait loop, or for the rule on executions that ended badly."""
    detail = event.get("detail")
    if event.get("source") == "aws.states" and isinstance(detail, dict):
        state = from_plain(Execution, json.loads(detail["input"]))
        logger.append_keys(job=state.job)
        done = deliver().ended(EndedExecution(detail["status"], detail["name"], detail["executionArn"], state))
    else:
        logger.append_keys(job=event.get("job"))
        done = deliver().task(from_plain(Execution, event))
    result: dict[str, Any] = to_plain(done)
    return result
