"""The price first: what waits for somebody's approval, for what an approval counts, and what it costs meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import RESULTS, portrait, voice

from portraitcast.domain.price import estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

ESTIMATE = 0.036  # a video of 0.4 s is 0.032, its portrait's check 0.004


@pytest.fixture
def asked(make_world: Callable[..., World]) -> World:
    """A stack that asks above CNY 0.03, and a pair that costs more."""
    world = make_world(approve_above_cny=0.03)
    world.drop_pair("a")
    world.run(60)
    return world


def approve(world: World, *, cny: float = ESTIMATE, revision: int | None = None) -> None:
    report = world.its_report("a")
    world.post({"approve": report["job"], "revision": report["revision"] if revision is None else revision, "cny": cny})
    world.run()


def test_a_dear_job_waits(asked: World) -> None:
    report = asked.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("waiting", "ApprovalNeeded")
    assert (report["error"]["measured"], report["error"]["limit"]) == ("CNY 0.04", "CNY 0.03")
    assert '{"job": {"approved_cny": 0.04}}' in report["error"]["what_to_do"]
    assert report["cost_cny"] == {"estimate": ESTIMATE, "check": 0.0, "video": None, "total": 0.0, "ever": 0.0}
    assert report["settings"]["model"] == "emo-v1"
    assert (asked.tasks(), asked.requests("check")) == ([], 0)


def test_what_the_answer_says_is_enough(asked: World) -> None:
    """The sum that the report tells to write, in whole cents, is never below the estimate."""
    asked.drop("a.json", '{"job": {"approved_cny": 0.04}}')
    asked.run()
    report = asked.its_report("a")
    assert (report["status"], report["cost_cny"]["total"]) == ("done", ESTIMATE)


@pytest.mark.parametrize(("sum_", "status"), [(0.035, "waiting"), (ESTIMATE, "done"), (5, "done")])
def test_by_json(asked: World, sum_: float, status: str) -> None:
    asked.drop("a.json", {"job": {"approved_cny": sum_}})
    asked.run()
    assert asked.status("a") == status


def test_by_order(asked: World) -> None:
    approve(asked)
    assert (asked.status("a"), len(asked.tasks())) == ("done", 1)


def test_too_low_an_order(asked: World) -> None:
    approve(asked, cny=0.035)
    assert (asked.status("a"), asked.tasks()) == ("waiting", [])


def test_an_order_for_what_was_shown_before(asked: World) -> None:
    """Somebody saw one price; other bytes came before the order did."""
    seen = asked.its_report("a")["revision"]
    asked.drop("a.wav", voice(0.8))
    asked.run(60)
    approve(asked, cny=1.0, revision=seen)
    assert (asked.status("a"), asked.tasks()) == ("waiting", [])


def test_new_bytes_ask_again(asked: World) -> None:
    asked.post({"pause": True})
    approve(asked)
    assert asked.status("a") == "queued"
    asked.drop("a.wav", voice(pitch=0.05))
    asked.run(60)
    assert asked.error("a") == "ApprovalNeeded"
    asked.post({"pause": False})
    asked.run(60)
    assert asked.tasks() == []


def test_new_settings_ask_again(asked: World) -> None:
    asked.post({"pause": True})
    approve(asked)
    asked.drop("a.json", {"parameters": {"ratio": "3:4"}})
    asked.run(60)
    report = asked.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("waiting", "ApprovalNeeded")
    assert report["cost_cny"]["estimate"] == pytest.approx(2 * 0.032 + 0.004)


def test_the_same_bytes_need_no_second_order(asked: World) -> None:
    """An order counts for the content: the portrait is dropped again before the job was sent."""
    asked.post({"pause": True})
    approve(asked)
    asked.drop("a.png", portrait())
    asked.run(60)
    assert asked.status("a") == "queued"


def test_what_is_made_is_confirmed(make_world: Callable[..., World]) -> None:
    """The same bytes again after a success cost nothing, so nobody is asked."""
    world = make_world(approve_above_cny=0.03)
    world.drop("a.json", {"job": {"approved_cny": 1}})
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    world.delete("a.json")
    world.drop("a.wav", voice())
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)


def test_a_cheap_job_is_not_asked_for(make_world: Callable[..., World]) -> None:
    world = make_world(approve_above_cny=0.036)
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), world.its_report("a")["cost_cny"]["estimate"]) == ("done", ESTIMATE)


def test_others_go_on(asked: World) -> None:
    asked.drop("b.json", {"job": {"approved_cny": 1}})
    asked.drop_pair("b", pitch=0.05)
    asked.run()
    assert (asked.status("a"), asked.status("b")) == ("waiting", "done")


def test_no_estimate_without_all_files(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.drop("a.wav", voice())
    world.run(60)
    assert world.its_report("a")["cost_cny"]["estimate"] is None


def test_a_linked_voice_counts_with_the_longest(make_world: Callable[..., World]) -> None:
    world = make_world(approve_above_cny=4.0)
    world.drop("a.png", portrait())
    world.drop("a.json", {"input": {"audio_url": "https://voices.example/a.mp3"}})
    world.run(60)
    assert world.error("a") == "ApprovalNeeded"
    assert estimate(world.job("a").inputs) == pytest.approx(60 * 0.08 + 0.004)


def test_one_order_pays_for_one_video(asked: World) -> None:
    """The delivered video is deleted, and the same files are dropped again: that would be paid once more."""
    approve(asked)
    asked.s3.delete_object(Bucket=RESULTS, Key="a.mp4")
    asked.drop("a.wav", voice())
    asked.run()
    assert (asked.error("a"), len(asked.tasks())) == ("ApprovalNeeded", 1)
