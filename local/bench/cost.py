"""What AWS takes for a job, itemised, beside EMO's own fee: counted in the local engine, list prices of us-east-1."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from bench.document import Mark, Section, Table
from bench.polling import LEAST, MOST, VARIES, ours
from bench.stack import PORTRAIT, QUICK, Recording, hum, stack, videos
from bench.starts import FUNCTIONS
from package import read_template, resources
from portraitcast.domain.models import DEFAULT, MODELS
from run import ROOT

if TYPE_CHECKING:
    from collections import Counter

VOICE_SECONDS, WORK_SECONDS = 20.0, 300.0
CNY_PER_USD = 7.1  # ours, to compare; of 2025
VCPU_MB = 1769  # Lambda: a function has a whole vCPU at 1,769 MB
SERVICE_SECONDS = 0.3  # ours: what a call of the service takes longer than the simulator's, from another continent
LOG_BYTES = 500  # ours: of Lambda's own lines, an invocation
VOICE_BYTES = 320_000  # 20 s of MP3 at 128 kbit/s
SHARE = 0.01  # of EMO's fee

# USD of the list price, per one; and where it stands.
PRICES = {
    "transitions": (0.025e-3, "https://aws.amazon.com/step-functions/pricing/"),
    "Lambda GB-s (arm64)": (0.0000133334, "https://aws.amazon.com/lambda/pricing/"),
    "Lambda requests": (0.20e-6, "https://aws.amazon.com/lambda/pricing/"),
    "DynamoDB write units": (0.625e-6, "https://aws.amazon.com/dynamodb/pricing/on-demand/"),
    "DynamoDB read units": (0.125e-6, "https://aws.amazon.com/dynamodb/pricing/on-demand/"),
    "S3 PUT": (0.005e-3, "https://aws.amazon.com/s3/pricing/"),
    "S3 GET, HEAD": (0.0004e-3, "https://aws.amazon.com/s3/pricing/"),
    "SQS requests": (0.40e-6, "https://aws.amazon.com/sqs/pricing/"),
    "EventBridge events": (1.00e-6, "https://aws.amazon.com/eventbridge/pricing/"),
    "SNS publishes": (0.50e-6, "https://aws.amazon.com/sns/pricing/"),
    "secret reads": (0.05e-4, "https://aws.amazon.com/secrets-manager/pricing/"),
    "KMS requests": (0.03e-4, "https://aws.amazon.com/kms/pricing/"),
    "X-Ray traces": (5.00e-6, "https://aws.amazon.com/xray/pricing/"),
    "logs, GB": (0.50, "https://aws.amazon.com/cloudwatch/pricing/"),
    "links fetched, GB out": (0.09, "https://aws.amazon.com/ec2/pricing/on-demand/#Data_Transfer"),
}


@dataclass(frozen=True)
class Job:
    """One lonely job as the engine saw it: every function cold, its portrait's check paid, one poll or a few.

    Attributes
    ----------
    recording
        What the functions did.
    states
        How often its execution entered each state.
    log_bytes
        What the functions logged.
    """

    recording: Recording
    states: Counter[str]
    log_bytes: int


def lonely_job() -> Job:
    """Drop one pair into a fresh stack and record it to its end."""
    with stack({**QUICK, "PairSeconds": "1"}, task_seconds=2.0) as running:
        running.drop("bench/line.png", PORTRAIT.read_bytes())
        running.drop("bench/line.wav", hum(VOICE_SECONDS))
        running.wait(lambda r: bool(videos(r)), "the video")
        recording = running.quiet(3.0)
        logged = sum(len(running.run.logs(name).encode()) for name in FUNCTIONS)
        (states,) = running.transitions()
    return Job(recording, states, logged)


def polls() -> float:
    """Return the mean count of polls at a task of 5 minutes, give or take a tenth, whose pace is known."""
    return mean(ours(WORK_SECONDS * (1 + VARIES * (n - 50) / 50), WORK_SECONDS).polls for n in range(101))


def memory_mb() -> dict[str, int]:
    """Return each function's memory as template.yaml gives it, MB."""
    template = read_template(ROOT / "template.yaml")
    usual = template["Globals"]["Function"]["MemorySize"]
    functions = resources(template, "Function")
    return {name: functions[logical].get("MemorySize", usual) for name, logical in FUNCTIONS.items()}


def lambda_seconds(recording: Recording, function: str, memory: float) -> list[float]:
    """Return what each invocation would take on Lambda, s: its CPU time on its share of a vCPU, and its waits.

    `memory` is the function's, MB.
    """
    found = []
    for i in recording.invocations:
        if i.function == function:
            within = [c for c in recording.calls if c.function == function and i.began <= c.began <= i.ended]
            service = sum(c.call.startswith(("emo.", "video.")) for c in within)
            waits = max(0.0, i.ended - i.began - i.cpu)
            found.append(waits + i.cpu * max(1.0, VCPU_MB / memory) + SERVICE_SECONDS * service)
    return found


def counted(job: Job, poll_count: float) -> dict[str, float]:
    """Return how much of each of `PRICES` the job takes with so many polls instead of the recorded ones."""
    recording = job.recording
    calls = [c.call for c in recording.calls]
    recorded_polls = job.states["Poll"]
    more = poll_count - recorded_polls
    transitions = sum(job.states.values()) + 1 + 3 * more  # the start counts; a poll is Wait, Poll, HasItEnded
    memory = memory_mb()
    seconds = {name: lambda_seconds(recording, name, memory[name]) for name in FUNCTIONS}
    gb_seconds = sum(sum(seconds[name]) * memory[name] / 1024 for name in FUNCTIONS)
    invocations = sum(map(len, seconds.values())) + more
    writes = [c for c in recording.calls if c.call in {"dynamodb.PutItem", "dynamodb.TransactWriteItems"}]
    messages = 2 + calls.count("sqs.SendMessage")  # of S3's events, two
    publishes = calls.count("sns.Publish")
    secrets = calls.count("secretsmanager.GetSecretValue") + more  # one a poll, though it is kept for a minute
    return {
        "transitions": transitions,
        "Lambda GB-s (arm64)": gb_seconds + more * min(seconds["status"]) * memory["status"] / 1024,
        "Lambda requests": invocations,
        # The sparse index takes a unit of its own for each write of a job.
        "DynamoDB write units": sum(c.units[1] for c in recording.calls) + len(writes),
        "DynamoDB read units": sum(c.units[0] for c in recording.calls),
        "S3 PUT": 2 + sum(call.startswith("s3.Put") for call in calls),
        "S3 GET, HEAD": 3 + sum(call.startswith(("s3.Get", "s3.Head")) for call in calls),  # and the provider's
        "SQS requests": 3 * messages,  # sent, received, deleted
        "EventBridge events": calls.count("events.PutEvents"),
        "SNS publishes": publishes,
        "secret reads": secrets,
        "KMS requests": publishes + secrets,
        "X-Ray traces": len(seconds["submit"]) + 1,
        "logs, GB": (job.log_bytes * (1 + more / max(1, len(recording.invocations))) + LOG_BYTES * invocations) / 1e9,
        "links fetched, GB out": (2 * PORTRAIT.stat().st_size + VOICE_BYTES) / 1e9,  # the portrait's check and the task
    }


def bill(amounts: dict[str, float]) -> dict[str, float]:
    """Return what each item costs, USD."""
    return {item: amount * PRICES[item][0] for item, amount in amounts.items()}


def measure() -> Section:
    """Run this part."""
    poll_count = polls()
    amounts = counted(lonely_job(), poll_count)
    costs = bill(amounts)
    model = MODELS[DEFAULT]
    total, fee = sum(costs.values()), model.video_fee(VOICE_SECONDS, {"ratio": "1:1"}) + model.check_cny
    share = total * CNY_PER_USD / fee
    rows = [
        (item, f"{amounts[item]:.3g}", f"{PRICES[item][0]:.3g}", f"{cost * 1e3:.4f}", f"{cost / total:.0%}")
        for item, cost in sorted(costs.items(), key=lambda pair: -pair[1])
    ]
    rows.append(("all", "", "", f"{total * 1e3:.4f}", "100%"))
    sources = sorted({source for _, source in PRICES.values()})
    return Section(
        "Cost of a job",
        f"A voice of {VOICE_SECONDS:g} s that takes {WORK_SECONDS / 60:g} min. Calls, units, invocations, CPU time, "
        "transitions and log lines were counted at one lonely job in the local engine (every function cold, the "
        "portrait's check paid, a task of 2 s); the polls of a task of 5 min ± 10 % come from `next_poll` "
        f"with MinPollSeconds {LEAST:g} and MaxPollSeconds {MOST:g} and are put in the place of the recorded ones. "
        f"Lambda's seconds: CPU time on each function's share of a vCPU, waits as they were, and {SERVICE_SECONDS:g} s "
        "more for each call of the service.",
        [
            Table(
                "List prices of us-east-1, without free tiers.",
                ("item", "times", "USD each", "USD ÷ 1,000", "of all"),
                rows,
            )
        ],
        [
            Mark(
                "AWS beside EMO's fee",
                f"≤ {SHARE:.0%} of CNY {fee:.3f}",
                f"{share:.2%} (USD {total:.5f} = CNY {total * CNY_PER_USD:.4f}, {poll_count:.1f} polls)",
                share <= SHARE,
                "Transitions are the largest item: fewer polls would lower it, at the price of seeing the end later.",
            )
        ],
        [
            f"At CNY {CNY_PER_USD:g} a dollar. Prices: {', '.join(f'<{source}>' for source in sources)}.",
            (
                "Not of a job but of a stack, a month: the secret (USD 0.40), alarms (0.10 each), custom "
                "metrics (0.30 each "
                "while they are written), the three queues' polling (about USD 0.78), the sweeps (8,640 invocations: "
                "USD 0.02)."
            ),
        ],
    )
