"""Mends that are taken out are found: a short history for each, which ends well with the product as it is.

The histories are what the search's own come to when they are shortened and told with names. `make search MUTANT=7` has
the search itself look for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from judge import QUIET_SECONDS, Judge
from mutants import MUTANTS, mutant
from small_world import SmallWorld, Strike

if TYPE_CHECKING:
    from collections.abc import Callable


def pair(world: SmallWorld, who: str, n: int = 1) -> None:
    world.put(f"acme/{who}.wav", f"voice {who} {n} 2.0")
    world.put(f"acme/{who}.png", f"face {who} {n}")


def a_clock_that_is_off(world: SmallWorld) -> None:
    """The service's clock is 130 s ahead; one task of ours is known; the next create is lost."""
    world.service.set({"clock_offset_seconds": 130.0})
    pair(world, "anna")
    world.run(60)
    world.service.faults.add({"endpoint": "create", "action": {"close": "after"}})
    pair(world, "bob")


def two_lost_creates(world: SmallWorld) -> None:
    """A lost create of links is left to a person; the next, which was never taken, is looked for in the same list."""
    link = "https://voices.example/" + quote("voice linked 1 2.0")
    world.put("acme/linked.json", f'{{"input": {{"audio_url": "{link}"}}}}')
    world.put("acme/linked.png", "face linked 1")
    world.service.faults.add({"endpoint": "create", "action": {"close": "after"}})
    world.run(5)
    pair(world, "bob")
    world.run(10)
    world.service.faults.add({"endpoint": "create", "action": {"close": "before"}})


def a_slow_deliver(world: SmallWorld) -> None:
    """Deliver stands still before its PUT; its execution is aborted, and a new voice is made meanwhile."""
    pair(world, "anna")
    world.strikes.append(Strike("stall", "deliver", "put_object", 1, 550.0))
    world.run(60)
    world.end(world.running()[0], "ABORTED")
    world.run(5)
    world.put("acme/anna.wav", "voice anna 2 2.0")


def disorder(world: SmallWorld) -> None:
    """A voice is deleted and dropped twice more; the event of the first of these comes last."""
    pair(world, "anna")
    world.run(60)
    world.delete("acme/anna.wav", late=1.0)
    world.put("acme/anna.wav", "voice anna 3 2.0", late=3.0)
    world.put("acme/anna.wav", "voice anna 4 2.0", late=2.0)


def a_voice_during_a_refused_create(world: SmallWorld) -> None:
    """A new voice comes while a create is out; that is refused, and submit dies before it can say so."""
    said = {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}
    world.service.faults.add({"endpoint": "create", "action": {"status": 400, "body": said}})
    world.strikes.append(Strike("stall", "submit", "service.create", 1, 20.0))
    pair(world, "anna")
    world.run(10)
    world.put("acme/anna.wav", "voice anna 2 2.0")
    world.run(5)
    world.strikes.append(Strike("die", "submit", "send_message", 1))


def a_late_settings_json(world: SmallWorld) -> None:
    """The event of a job's own settings comes a minute late."""
    world.put("acme/anna.json", '{"parameters": {"style_level": "calm"}}', late=70.0)
    pair(world, "anna")


HISTORIES = {
    7: (a_clock_that_is_off, "acme/bob is paid once more"),
    12: (two_lost_creates, "the video of acme/linked .* is delivered to acme/bob"),
    13: (a_slow_deliver, "is done with voice anna 1"),
    14: (disorder, "acme/anna is made of voice anna 3"),
    15: (a_voice_during_a_refused_create, "is about another voice"),
    18: (a_late_settings_json, "normal, which is not there"),
}


def judged(history: Callable[[SmallWorld], None], number: int | None) -> None:
    """Let a history happen, and an hour of quiet; raises what the judge finds."""
    with mutant(number):
        world = SmallWorld()
        judge = Judge(world)
        judge.trouble = True
        try:
            history(world)
            world.run(4000)
            world.run(QUIET_SECONDS)
            judge.check_end()
        finally:
            judge.close()
            world.close()


@pytest.mark.parametrize("number", MUTANTS)
def test_a_mend_that_is_missing_is_found(number: int) -> None:
    history, finding = HISTORIES[number]
    with pytest.raises(AssertionError, match=finding):
        judged(history, number)


@pytest.mark.parametrize("number", MUTANTS)
def test_with_the_mend_all_is_well(number: int) -> None:
    judged(HISTORIES[number][0], None)


def test_disorder_is_not_what_the_bucket_tells() -> None:
    """Mutant 14 leaves out 18's question too; that alone doesn't fail this history."""
    judged(disorder, 18)
