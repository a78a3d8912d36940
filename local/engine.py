"""The local AWS engine: MiniStack with the few corrections that the stack needs to run as on AWS.

Run by the engine's own Python (``.venv/engine``) as a child of local/run.py. Each correction names what AWS does. They
reach into MiniStack's internals, so another version stops here, loudly, and not in the middle of a run.
"""

# mypy: disable-error-code="no-untyped-call,no-untyped-def"
from __future__ import annotations

import importlib.metadata
import ipaddress
import json
import os
import sys
import threading
from typing import Any

from engine_events import deploy_webhooks, send_webhooks, tell_versions
from engine_logs import keep_saved_queries, take_logged_metrics
from engine_queues import ask_queue_policies, move_messages
from engine_recursion import (
    count_invocations,
    keep_trace_with_messages,
    obey_recursive_loop,
    stop_loops_through_queues,
)
from engine_roles import name_roles_of_sessions, refuse_new_principals

VERSION = "1.5.33"  # the version that the corrections below were written and tested against
LENT = "sam-local"  # name of the sessions in which functions' roles are lent to containers
INVOCATIONS_AT_ONCE = 8  # ours: interpreters that two cores start and run without starving each other


def check_version() -> None:
    """Exit with a sentence unless the installed MiniStack is the one that is corrected here."""
    installed = importlib.metadata.version("ministack")
    if installed != VERSION:
        sys.exit(
            f"local/engine.py corrects MiniStack {VERSION}, but {installed} is installed: 'make clean', and again."
        )


def bound_invocations(lambda_service: Any) -> None:
    """Bound the interpreters that run at once.

    AWS starts environments on machines of its own; MiniStack starts one here for every concurrent invocation, without
    limit, and a hundred cold starts on two cores all time out. The others wait.
    """
    slots = threading.BoundedSemaphore(INVOCATIONS_AT_ONCE)
    unbounded = lambda_service._execute_function_provided_warm

    def bounded(func: Any, event: Any, request_id: str) -> Any:
        with slots:
            return unbounded(func, event, request_id)

    lambda_service._execute_function_provided_warm = bounded


def name_throttles(step_functions: Any) -> None:
    """Give Step Functions a throttled invocation as ``Lambda.TooManyRequestsException``, a name that Retry matches."""
    unnamed = step_functions._call_lambda

    def named(func_ref: Any, event: Any) -> Any:
        try:
            return unnamed(func_ref, event)
        except step_functions._ExecutionError as error:
            if error.error == "Lambda.Unknown" and "TooManyRequestsException" in str(error.cause):
                raise step_functions._ExecutionError("Lambda.TooManyRequestsException", error.cause) from None
            raise

    step_functions._call_lambda = named


def read_concurrency_as_number(handlers: dict[str, dict[str, Any]]) -> None:
    """Read ``ScalingConfig.MaximumConcurrency`` as a number.

    CloudFormation hands a parameter's value on as a string; comparing that string stops MiniStack's poller for every
    queue.
    """
    mapping = handlers["AWS::Lambda::EventSourceMapping"]

    def numeric(inner: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            for properties in args:
                scaling = properties.get("ScalingConfig") if isinstance(properties, dict) else None
                if scaling and "MaximumConcurrency" in scaling:
                    scaling["MaximumConcurrency"] = int(scaling["MaximumConcurrency"])
            return inner(*args, **kwargs)

        return run

    for operation in ("create", "update"):
        mapping[operation] = numeric(mapping[operation])


def refer_to_secrets_by_arn(handlers: dict[str, dict[str, Any]], secrets: Any) -> None:
    """Make ``!Ref`` of a secret its ARN, as on AWS; MiniStack gives the name, which no policy's Resource matches."""
    secret = handlers["AWS::SecretsManager::Secret"]
    create, update, delete = secret["create"], secret["update"], secret["delete"]

    def name_of(arn: str) -> str:
        name: str = next(name for name, record in secrets._secrets.items() if record["ARN"] == arn)
        return name

    def create_by_arn(*args: Any) -> Any:
        _, attributes = create(*args)
        return attributes["Arn"], attributes

    def update_by_arn(arn: str, *args: Any, **kwargs: Any) -> Any:
        _, attributes = update(name_of(arn), *args, **kwargs)
        return attributes["Arn"], attributes

    def delete_by_arn(arn: str, properties: Any) -> None:
        delete(name_of(arn), properties)

    secret.update(create=create_by_arn, update=update_by_arn, delete=delete_by_arn)


def count_loopback_as_tls(evaluator: Any) -> None:
    """Answer ``aws:SecureTransport`` with true.

    The engine listens at addresses of this machine's own only, so plain HTTP leaves no machine; otherwise the stack's
    own TLS-only policies refuse every call that a function makes.
    """
    resolve = evaluator._resolve_condition_key

    def resolve_secure(key: str, context: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else resolve(key, context)

    evaluator._resolve_condition_key = resolve_secure


def keep_service_roles(evaluator: Any) -> None:
    """Refuse a role that trusts a service to everybody who isn't one, as AWS does; MiniStack gives it to any caller.

    The account's root gets it in a session named `LENT`: in place of the Lambda service, for SAM CLI's containers
    (local/env_file.py), which so have the rights of the deployed function and no others.
    """
    trusts = evaluator.evaluate_trust_policy

    def trusts_as_named(document: Any, caller: str, context: Any) -> bool:
        session = (context.service_context or {}).get("sts:rolesessionname")
        lent = session == LENT and caller.endswith(":root")
        return bool(trusts(document if lent else without_services(document), caller, context))

    evaluator.evaluate_trust_policy = trusts_as_named


def without_services(document: Any) -> dict[str, Any]:
    """Return a trust policy without the services that it names."""
    trust = json.loads(document) if isinstance(document, str) else dict(document)
    statements = trust.get("Statement", [])
    kept = []
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal")
        if isinstance(principal, dict):
            principal = {kind: names for kind, names in principal.items() if kind != "Service"}
        if principal:
            kept.append({**statement, "Principal": principal})
    return {**trust, "Statement": kept}


def check_address(host: str) -> None:
    """Exit with a sentence unless `host` is one address of this machine's: the engine's root needs no secret."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or address.is_unspecified or not address.is_private:
        sys.exit(f"BIND_HOST must be 127.0.0.1 or the address of a network inside this machine, not {host!r}")


def main() -> None:
    """Correct MiniStack and serve until told to end."""
    check_version()
    check_address(os.environ.get("BIND_HOST", ""))

    # Imported here: importing reads the environment, and only the engine's Python has the package.
    from ministack import app  # noqa: PLC0415
    from ministack.core import iam_evaluator  # noqa: PLC0415
    from ministack.services import (  # noqa: PLC0415
        cloudwatch,
        cloudwatch_logs,
        eventbridge,
        iam,
        lambda_svc,
        s3,
        secretsmanager,
        sqs,
        stepfunctions,
    )
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    bound_invocations(lambda_svc)
    name_throttles(stepfunctions)
    read_concurrency_as_number(provisioners._RESOURCE_HANDLERS)
    refer_to_secrets_by_arn(provisioners._RESOURCE_HANDLERS, secretsmanager)
    count_loopback_as_tls(iam_evaluator)
    keep_service_roles(iam_evaluator)
    name_roles_of_sessions(iam_evaluator, iam)
    refuse_new_principals(provisioners._RESOURCE_HANDLERS)

    count_invocations(lambda_svc)
    keep_trace_with_messages(sqs)
    stop_loops_through_queues(lambda_svc, sqs)
    obey_recursive_loop(provisioners._RESOURCE_HANDLERS, lambda_svc)
    ask_queue_policies(eventbridge, sqs)
    move_messages(sqs)
    tell_versions(s3, eventbridge)
    deploy_webhooks(provisioners._RESOURCE_HANDLERS, eventbridge)
    send_webhooks(eventbridge)
    keep_saved_queries(provisioners._RESOURCE_HANDLERS, cloudwatch_logs)
    take_logged_metrics(lambda_svc, cloudwatch)
    app.main()


if __name__ == "__main__":
    main()
