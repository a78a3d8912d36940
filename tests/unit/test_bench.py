"""Whether the benchmark's figures are computed right; what they come out as is no test."""

from __future__ import annotations

import io
import json
from collections import Counter

import pytest

from bench import cost, delivery, document, overhead, polling, recorder, scale, stack, starts, storm
from portraitcast.adapters.probe import probe_video
from unit.media_samples import mp4

MARK = document.Mark("polls", "≤ 2", "3", met=False, why="They are many.")


# ---------------------------------------------------------------- The page


def section(title: str, *marks: document.Mark) -> str:
    table = document.Table("Figures.", ("what", "s"), [("one", "1.0")])
    return document.Section(title, "As it was.", [table], marks).text("Here, now.")


def test_a_section_shows_its_figures_its_marks_and_why_one_is_missed() -> None:
    text = section("Polls", MARK)
    assert "## Polls" in text
    assert "| one | 1.0 |" in text
    assert "| polls | ≤ 2 | 3 | **no** |" in text
    assert "They are many." in text
    assert "*Here, now.*" in text


def test_a_part_replaces_its_own_section_and_leaves_the_others_in_their_order() -> None:
    parts = ("one", "two")
    page = document.with_section("", "two", parts, section("Second"))
    page = document.with_section(page, "one", parts, section("First"))
    page = document.with_section(page, "two", parts, section("Second, again"))
    assert page.index("## First") < page.index("## Second, again")
    assert page.count("## Second") == 1
    assert page == document.with_section(page, "two", parts, section("Second, again"))


# ---------------------------------------------------------------- When to poll next


@pytest.mark.parametrize(("work", "polls", "late"), [(15, 1, 0), (15.5, 2, 14.5), (300, 20, 0)])
def test_a_fixed_interval_polls_every_15_s(work: float, polls: int, late: float) -> None:
    assert polling.fixed(work, 1) == polling.Polled(polls, late, 1)


@pytest.mark.parametrize(("work", "polls", "late"), [(1, 1, 0), (3, 3, 1), (20, 8, 0), (21, 9, 4), (26, 10, 4)])
def test_the_sdk_polls_by_its_steps_then_every_5_s(work: float, polls: int, late: float) -> None:
    assert polling.sdk(work, 1) == polling.Polled(polls, late, 1)


def test_our_polls_see_the_end_in_time() -> None:
    polled = polling.ours(300, 300)
    assert 0 <= polled.late < polling.LEAST
    assert 1 < polled.polls < 20


def test_a_change_of_the_provider_changes_the_work_and_not_what_is_expected() -> None:
    usual, slower = polling.tasks((60, 120), 1.0, 200), polling.tasks((60, 120), 5.0, 200)
    assert all(60 * 0.9 <= work <= 120 * 1.1 for work, _ in usual)
    assert all(5 * 60 * 0.9 <= work <= 5 * 120 * 1.1 for work, _ in slower)
    assert all(50 < expected < 140 for _, expected in usual + slower)


def test_a_task_behind_others_is_polled_to_its_end() -> None:
    assert polling.behind(0, 300) == (polling.ours(300, 300).polls, polling.ours(300, 300).late)
    polls, late = polling.behind(2, 300)
    assert polls > polling.ours(300, 300).polls
    assert late < polling.LEAST


# ---------------------------------------------------------------- Overhead


def test_a_gap_is_the_time_from_a_tasks_end_to_the_next_ones_create() -> None:
    tasks = [
        {"started_at": 20.0, "submitted_at": 12.5, "ended_at": 30.0},
        {"started_at": 1.0, "submitted_at": 0.5, "ended_at": 10.0},
    ]
    assert overhead.gaps(tasks, "submitted_at") == [2.5]
    assert overhead.gaps(tasks, "started_at") == [10.0]


def recorded(calls: list[tuple[str, str]]) -> stack.Recording:
    return stack.Recording([stack.Call(*call, 0.0, 0.1, (1, 2)) for call in calls], [])


def jobs(*counts: dict[tuple[str, str], int]) -> overhead.Jobs:
    poll = stack.Invocation("status", cold=False, began=0, ended=1, cpu=0)
    recordings = [stack.Recording([], [poll, poll]) for _ in counts]
    return overhead.Jobs([], [], [], [Counter(count) for count in counts], recordings, [])


def test_a_call_beyond_the_table_is_seen() -> None:
    allowed = overhead.CALLS["submit", "dynamodb.GetItem"]
    one_more = {("submit", "dynamodb.GetItem"): allowed + 1, ("deliver", "s3.ListObjectsV2"): 1}
    assert overhead.beyond_table(jobs(one_more, one_more)) == one_more
    assert not overhead.beyond_table(jobs(one_more, {("submit", "dynamodb.GetItem"): allowed}))


def test_status_may_ask_once_a_poll() -> None:
    assert not overhead.beyond_table(jobs({("status", "emo.query"): 2}))
    assert overhead.beyond_table(jobs({("status", "emo.query"): 3}))


def test_what_the_recorder_writes_is_read_back() -> None:
    call = {"function": "submit", "call": "s3.PutObject .mp4", "began": 2.0, "ended": 3.0, "units": [0, 0]}
    invocation = {"function": "submit", "cold": True, "began": 1.0, "ended": 4.0, "cpu": 0.5}
    recording = stack.read([json.dumps(call), json.dumps(invocation)])
    assert stack.videos(recording) == [stack.Call("submit", "s3.PutObject .mp4", 2.0, 3.0, (0, 0))]
    assert recording.invocations == [stack.Invocation("submit", cold=True, began=1.0, ended=4.0, cpu=0.5)]
    assert recording.since(1.5).count() == {("submit", "s3.PutObject .mp4"): 1}
    assert not recording.since(1.5).invocations


@pytest.mark.parametrize(
    ("operation", "params", "answer", "units"),
    [
        ("PutItem", {"Item": {"pk": {"S": "x" * 1022}}}, {}, (0, 1)),
        ("PutItem", {"Item": {"pk": {"S": "x" * 1023}}}, {}, (0, 2)),
        (
            "TransactWriteItems",
            {"TransactItems": [{"Put": {"Item": {"pk": {"S": "x" * 2000}}}}, {"Delete": {}}]},
            {},
            (0, 6),
        ),
        ("UpdateItem", {}, {}, (0, 1)),
        ("GetItem", {}, {}, (1, 0)),
        ("Query", {}, {"Items": [{"pk": {"S": "x" * 5000}}, {"pk": {"S": "x" * 4000}}]}, (3, 0)),
    ],
)
def test_units_are_counted_as_dynamodb_does(
    operation: str, params: dict[str, object], answer: dict[str, object], units: tuple[int, int]
) -> None:
    assert recorder.units(operation, params, answer) == units


# ---------------------------------------------------------------- Starts


def test_import_times_are_summed_by_package() -> None:
    words = """import time: self [us] | cumulative | imported package
import time:      1000 |       1000 |   boto3.session
import time:       500 |       1500 | boto3
import time:       250 |        250 | json"""
    assert starts.import_seconds(words) == pytest.approx({"boto3": 0.0015, "json": 0.00025})


# ---------------------------------------------------------------- Cost


def test_lambdas_seconds_stretch_the_cpu_time_and_keep_the_waits() -> None:
    recording = stack.Recording(
        [stack.Call("status", "emo.query", 1.1, 1.2, (0, 0)), stack.Call("submit", "emo.create", 1.1, 1.2, (0, 0))],
        [stack.Invocation("status", cold=False, began=1.0, ended=2.0, cpu=0.4)],
    )
    (seconds,) = cost.lambda_seconds(recording, "status", 512)
    assert seconds == pytest.approx(0.6 + 0.4 * 1769 / 512 + cost.SERVICE_SECONDS)


def test_a_poll_more_is_3_transitions_and_an_invocation() -> None:
    recording = recorded([("deliver", "sns.Publish")])
    recording.invocations.append(stack.Invocation("status", cold=False, began=0, ended=1, cpu=0))
    job = cost.Job(recording, Counter(Wait=1, Poll=1, HasItEnded=1, Deliver=1, IsItPublished=1, Done=1), 1000)
    few, many = cost.counted(job, 1), cost.counted(job, 11)
    assert few["transitions"] == 7
    assert many["transitions"] - few["transitions"] == 30
    assert many["Lambda requests"] - few["Lambda requests"] == 10
    assert many["Lambda GB-s (arm64)"] - few["Lambda GB-s (arm64)"] == pytest.approx(10 * 0.5 * 1.0)
    assert few["DynamoDB write units"] == 2


def test_a_bill_is_amount_times_list_price_of_every_item() -> None:
    bill = cost.bill(dict.fromkeys(cost.PRICES, 1e6))
    assert bill["transitions"] == pytest.approx(25)
    assert bill["SQS requests"] == pytest.approx(0.4)
    assert bill.keys() == cost.PRICES.keys()


# ---------------------------------------------------------------- Delivery and storms


def test_a_padded_video_has_the_asked_size_and_is_still_a_whole_video() -> None:
    video = mp4()
    large = delivery.padded(video, 1_000_000)
    assert len(large) == 1_000_000
    small, probed = probe_video(io.BytesIO(video)), probe_video(io.BytesIO(large))
    assert (probed.seconds, probed.width, probed.bytes) == (small.seconds, small.width, 1_000_000)


def test_deliverys_marks_are_those_of_the_worst_size() -> None:
    found = {}
    for size in delivery.SIZES:
        slow = 2.0 if size == delivery.SIZES[0] else 0.5
        found[size, delivery.OURS] = [(slow, {"grew_mib": 3.0, "seconds": 0.1}), (slow, {"grew_mib": 17.0})]
        found[size, delivery.BY_HAND] = [(1.0, {}), (1.0, {})]
        found[size, delivery.FROM_STREAM] = [(1.0, {}), (1.0, {})]
    memory, time = delivery.section(found, cli=True).marks
    assert (memory.met, memory.measured) == (False, "≤ 17.0 MiB")
    assert (time.met, time.measured) == (False, "≤ 2.00")


def test_a_storms_marks_are_those_of_the_worst_storm() -> None:
    storms = [storm.Passed(10, 30, 0.99, 50, 8, 10), storm.Passed(100, 300, 0.97, 60, 8, 101)]
    marks = {mark.what: mark.met for mark in storm.section(storms, {100: (2, 1, 0.1, 0.2), 10_000: (2, 4, 2, 9)}).marks}
    assert list(marks.values()) == [False, True, False, True, True]


# ---------------------------------------------------------------- Scale


def test_a_query_is_charged_for_what_it_looks_at() -> None:
    """Also where it gives only keys or a count back; half where it needn't be consistent."""
    values = {"ExpressionAttributeValues": {":p": {"S": "QUEUE#x"}}}
    taken = scale.Taken()
    answer = {"Items": [{"sk": {"S": "x"}}] * 100, "ScannedCount": 100}
    taken.note("Query", values | {"ConsistentRead": True, "ProjectionExpression": "sk"}, answer, 150)
    assert (taken.calls, taken.reads, taken.writes) == (1, 4, 0)
    taken.note("Query", values | {"Select": "COUNT"}, {"ScannedCount": 10_000}, 150)
    assert (taken.reads, taken.partitions) == (4 + 183.5, {"QUEUE#x": 187.5})
    taken.note("GetItem", {}, {}, 150)
    taken.note("UpdateItem", {}, {}, 150)
    assert (taken.calls, taken.reads, taken.writes) == (4, 188.5, 1)


def test_what_grows_is_no_longer_flat() -> None:
    few, many = scale.Taken(10, 20, 3, {"a": 5}), scale.Taken(14, 40, 4, {"a": 301})
    marks = scale.section({100: {"x": few}, 10_000: {"x": few}, 100_000: {"x": many}}).marks
    assert [mark.met for mark in marks] == [False] * 4
    assert all(mark.met for mark in scale.section({size: {"x": few} for size in scale.SIZES}).marks)
