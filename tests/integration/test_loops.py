"""Lambda's detection of recursive loops: submit sends itself messages by design, and must not be stopped for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from world import HOPS, portrait, voice

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

VOICES = int(os.environ.get("VOICES", "20"))  # `make storm` takes 1,000
STEPS = 200_000


def drop_crowd(world: World, voices: int) -> list[str]:
    """Drop so many voices and one portrait into a folder while nothing is created; return the jobs' names."""
    world.post({"pause": True})
    world.run(0)
    for n in range(voices):
        world.drop(f"crowd/{n:04}.wav", voice(0.4, pitch=0.05 + n / 2000))
    world.drop("crowd/anna.png", portrait())
    return [f"crowd/{n:04}" for n in range(voices)]


@pytest.mark.parametrize("recursive_loop", ["Allow", "Terminate"])
def test_a_crowd_with_one_portrait(make_world: Callable[..., World], recursive_loop: str) -> None:
    """All are queued in the end, also where the setting is lost: then the sweep takes up what Lambda stopped."""
    world = make_world(recursive_loop=recursive_loop)
    names = drop_crowd(world, VOICES)
    world.run(60, steps=STEPS)
    for _ in range(40):
        if all(world.job(name).status == "queued" for name in names):
            break
        world.run(300, steps=STEPS)
        world.post({"sweep": True})
        world.run(0, steps=STEPS)
    assert {world.job(name).status for name in names} == {"queued"}
    print(f"{VOICES} voices, {recursive_loop}: longest chain {world.longest_chain}, stopped {len(world.dead)}")
    assert recursive_loop == "Terminate" or world.dead == []


@pytest.mark.parametrize(("recursive_loop", "handled"), [("Terminate", HOPS), ("Allow", 40)])
def test_a_chain_of_ours_is_stopped(make_world: Callable[..., World], recursive_loop: str, handled: int) -> None:
    """Without `RecursiveLoop: Allow` a chain ends after 16 invocations, whatever its delays; with it, it goes on."""
    world = make_world(recursive_loop=recursive_loop)
    hops = []

    def send_again(_real: object, *_: object) -> None:
        hops.append(1)
        if len(hops) < 40:
            world.queue.send({"scan": "again"}, after=5)

    world.instead(world.submit, "handle", send_again)
    world.post({"scan": "again"})
    world.run()
    assert len(hops) == handled
    assert world.dead == ([] if handled == 40 else [{"scan": "again"}])
