"""Lambda's recursive-loop detection, for the local engine.

What AWS does (Lambda Developer Guide, "Use Lambda recursive loop detection to prevent infinite loops"): each request
carries a trace header whose ``Lineage`` counts how often the chain that led to it has invoked each function. The SDK
hands the header on with what a function sends; SQS keeps it with the message, and delays don't reset it. After about 16
invocations of a function in one chain the next one is stopped, unless the function says ``RecursiveLoop: Allow``.

MiniStack counts nested Invoke calls only, and only of runtimes of its own. Here the count travels through queues too,
and CloudFormation's ``RecursiveLoop`` is obeyed.

Where AWS's documents are silent: of messages that come in one batch only those over the limit are stopped, and the
others' invocation carries the highest count among them.
"""

# mypy: disable-error-code="no-untyped-call,no-untyped-def"
from __future__ import annotations

import contextvars
import json
import secrets
import time
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Chain = dict[str, int]  # a function's mark → how often the chain has invoked it so far

TRACE_HEADER = "x-amzn-trace-id"
_chain: contextvars.ContextVar[Chain | None] = contextvars.ContextVar("chain", default=None)
_sent_header: contextvars.ContextVar[str] = contextvars.ContextVar("sent_header", default="")


def mark(function: str) -> str:
    """Return what stands for a function in a Lineage: eight hex digits, of its name without a qualifier."""
    return f"{zlib.crc32(function.encode()):08x}"


def read_lineage(header: str) -> Chain:
    """Return the counts in a trace header (``…;Lineage=4f1a2b3c:2|0a0b0c0d:1``); what can't be read counts nothing."""
    chain: Chain = {}
    for field in unquote(header).split(";"):  # botocore escapes the bar
        name, _, value = field.strip().partition("=")
        if name == "Lineage":
            for part in value.split("|"):
                function, _, count = part.rpartition(":")
                if function and count.isdecimal():
                    chain[function] = int(count)
    return chain


def with_lineage(header: str, chain: Chain) -> str:
    """Return a trace header with these counts in place of its own."""
    fields = [field for field in header.split(";") if not field.strip().startswith("Lineage=")]
    return ";".join([*fields, "Lineage=" + "|".join(f"{function}:{count}" for function, count in chain.items())])


def highest(chains: Iterable[Chain]) -> Chain:
    """Return for each function the highest of its counts."""
    merged: Chain = {}
    for chain in chains:
        for function, count in chain.items():
            merged[function] = max(count, merged.get(function, 0))
    return merged


def _new_trace() -> str:
    return f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)};Parent={secrets.token_hex(8)};Sampled=0"


def _message_chain(message: dict[str, Any]) -> Chain:
    return read_lineage((message.get("sys") or {}).get("AWSTraceHeader", ""))


def keep_trace_with_messages(sqs: Any) -> None:
    """Keep the trace header of SendMessage with the message, as SQS does; MiniStack keeps only the attribute's."""
    handle, build = sqs.handle_request, sqs._build_send_sys_attrs

    async def handle_request(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
        token = _sent_header.set(headers.get(TRACE_HEADER, ""))
        try:
            return await handle(method, path, headers, body, query)
        finally:
            _sent_header.reset(token)

    def with_trace(now: float, given: Any) -> dict[str, Any]:
        attributes: dict[str, Any] = build(now, given)
        if _sent_header.get():
            attributes.setdefault("AWSTraceHeader", unquote(_sent_header.get()))
        return attributes

    sqs.handle_request, sqs._build_send_sys_attrs = handle_request, with_trace


def count_invocations(lambda_service: Any) -> None:
    """Give each invocation a trace header whose Lineage counts it, and count on from the header of an Invoke call."""
    trace, invoke = lambda_service._xray_trace_id_for_invocation, lambda_service._invoke

    def counted(config: dict[str, Any], inbound: str | None = None) -> str:
        chain = dict(_chain.get() or {})
        own = mark(config["FunctionName"])
        chain[own] = chain.get(own, 0) + 1
        return with_lineage(trace(config, inbound) or _new_trace(), chain)

    async def invoke_in_chain(name: str, event: Any, headers: dict[str, str], *args: Any, **kwargs: Any) -> Any:
        chain = read_lineage(headers.get(TRACE_HEADER, ""))
        depth = {lambda_service._INVOKE_DEPTH_HEADER: str(chain.get(mark(name), 0))}
        token = _chain.set(chain)
        try:
            return await invoke(name, event, {**headers, **depth}, *args, **kwargs)
        finally:
            _chain.reset(token)

    lambda_service._xray_trace_id_for_invocation, lambda_service._invoke = counted, invoke_in_chain


def stop_loops_through_queues(lambda_service: Any, sqs: Any) -> None:
    """Stop what a queue would invoke once too often.

    AWS refuses the invocation until the message has been received ``maxReceiveCount`` times, one visibility timeout
    apart, and then it goes to the dead letters: here at once, so that it can be seen. Without dead letters it comes
    back and is refused until it expires, as on AWS.
    """
    run = lambda_service._run_sqs_batch

    def run_in_chain(mapping: Any, record: Any, event: Any, batch: Any, queue_url: str, queue_name: str) -> None:
        name = (record.get("config") or record)["FunctionName"]
        function, chains = lambda_service._functions[name], {each["id"]: _message_chain(each) for each in batch}
        stopped = set()
        for identifier, chain in chains.items():
            if lambda_service._recursive_loop_drop(name, function, chain.get(mark(name), 0) + 1) is not None:
                stopped.add(identifier)
        if stopped:
            _to_dead_letters(sqs, queue_url, stopped)
        goes_on = [each for each in batch if each["id"] not in stopped]
        if not goes_on:
            return
        records = [each for each in event["Records"] if each["messageId"] not in stopped]
        token = _chain.set(highest(chains[each["id"]] for each in goes_on))
        try:
            run(mapping, record, {"Records": records}, goes_on, queue_url, queue_name)
        finally:
            _chain.reset(token)

    lambda_service._run_sqs_batch = run_in_chain


def _to_dead_letters(sqs: Any, queue_url: str, identifiers: set[str]) -> None:
    with sqs._queues_lock:
        queue = sqs._get_q(queue_url)
        policy = json.loads(queue["attributes"].get("RedrivePolicy") or "null")
        if not policy:
            return
        for message in queue["messages"]:
            if message["id"] in identifiers:
                message["receive_count"], message["visible_at"] = int(policy["maxReceiveCount"]), 0
        sqs._dlq_sweep(queue)


def obey_recursive_loop(handlers: dict[str, dict[str, Any]], lambda_service: Any) -> None:
    """Obey the template's ``RecursiveLoop`` of a function, which MiniStack's CloudFormation passes over."""
    function = handlers["AWS::Lambda::Function"]

    def obeying(inner: Callable[..., Any], position: int) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            physical_id, attributes = inner(*args, **kwargs)
            chosen = args[position].get("RecursiveLoop", "Terminate")
            if chosen not in {"Allow", "Terminate"}:
                raise ValueError(f"RecursiveLoop must be one of: Allow, Terminate; not {chosen}")
            lambda_service._functions[physical_id]["recursive_loop"] = chosen
            return physical_id, attributes

        return run

    function["create"] = obeying(function["create"], 1)  # (logical id, properties, stack)
    function["update"] = obeying(function["update"], 2)  # (physical id, old properties, new properties, …)
