"""Two functions at once: every way in which their outside calls may follow one another, up to a number of switches.

A scenario brings a stack to a moment and gives two functions that are about to run. An interleaving says how many calls
each makes before the other goes on. All are tried with at most so many preemptions; after each an hour of quiet passes,
and the judge looks at what has become of everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from judge import QUIET_SECONDS, Judge
from small_world import SmallWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fibers import Fiber

Pair = tuple["Callable[[], Fiber]", "Callable[[], Fiber]"]
Segments = tuple[tuple[int, int], ...]  # which of the two, and how many calls it makes

ALL: Final = 10_000  # calls: to its end


def pair(world: SmallWorld, who: str, n: int = 1) -> None:
    """Drop a voice and a portrait of one name."""
    world.put(f"acme/{who}.wav", f"voice {who} {n} 2.0")
    world.put(f"acme/{who}.png", f"face {who} {n}")


def queued(world: SmallWorld, *who: str) -> None:
    """Bring jobs into the queue, while nothing is sent."""
    world.post({"pause": True})
    world.run(1)
    for each in who:
        pair(world, each)
    world.run(10)
    world.eye.table.update_account(lambda account: account.pause(world.now, paused=False))


def rendering(world: SmallWorld, *who: str) -> None:
    """Bring jobs to the service, where their tasks run on."""
    world.service.set({"manual": True})
    for each in who:
        pair(world, each)
        world.run(10)


def ended(world: SmallWorld, *who: str) -> None:
    """Bring jobs to the service, and let their tasks end; nobody has asked yet."""
    rendering(world, *who)
    world.service.set({"manual": False, "task_seconds": 0.0})


def told(world: SmallWorld, message: dict[str, Any]) -> Callable[[], Fiber]:
    """Return submit with a message."""
    return lambda: world.submitting(message)


WAKE, SWEEP = {"wake": True}, {"sweep": True}


def ingest_ingest(world: SmallWorld) -> Pair:
    """A voice and its portrait arrive at once."""
    voice = world.put("acme/anna.wav", "voice anna 1 2.0", late=None)
    face = world.put("acme/anna.png", "face anna 1", late=None)
    return told(world, voice), told(world, face)


def shared_portrait_ingest(world: SmallWorld) -> Pair:
    """A voice and the only image of its folder arrive at once."""
    voice = world.put("acme/anna.wav", "voice anna 1 2.0", late=None)
    face = world.put("acme/zed.png", "face zed 1", late=None)
    return told(world, voice), told(world, face)


def settings_dispatch(world: SmallWorld) -> Pair:
    """A job's settings arrive while it is sent."""
    queued(world, "anna")
    event = world.put("acme/anna.json", '{"parameters": {"style_level": "calm"}}', late=None)
    return told(world, event), told(world, WAKE)


def voice_dispatch(world: SmallWorld) -> Pair:
    """A new voice arrives while the old one is sent."""
    queued(world, "anna")
    event = world.put("acme/anna.wav", "voice anna 2 2.0", late=None)
    return told(world, event), told(world, WAKE)


def delete_dispatch(world: SmallWorld) -> Pair:
    """The voice is deleted while it is sent."""
    queued(world, "anna")
    event = world.delete("acme/anna.wav", late=None)
    return told(world, event), told(world, WAKE)


def dispatch_dispatch(world: SmallWorld) -> Pair:
    """Two submits want to send."""
    queued(world, "anna", "bob")
    return told(world, WAKE), told(world, WAKE)


def sweep_dispatch(world: SmallWorld) -> Pair:
    """The schedule comes while a job is sent."""
    queued(world, "anna")
    world.now += 100
    return told(world, SWEEP), told(world, WAKE)


def refused_ingest(world: SmallWorld) -> Pair:
    """A new voice arrives while the create is out, which is then refused."""
    queued(world, "anna")
    said = {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}
    world.service.faults.add({"endpoint": "create", "action": {"status": 400, "body": said}})
    event = world.put("acme/anna.wav", "voice anna 2 2.0", late=None)
    return told(world, event), told(world, WAKE)


def lost_create(world: SmallWorld) -> Pair:
    """Two submits reconcile one lost create."""
    queued(world, "anna", "bob")
    world.service.faults.add({"endpoint": "create", "action": {"close": "after"}})
    world.go(world.submitting(WAKE))
    world.now += world.reconcile_seconds + 1
    return told(world, WAKE), told(world, WAKE)


def deliver_ingest(world: SmallWorld) -> Pair:
    """A new voice arrives while the old one's video is delivered."""
    ended(world, "anna")
    event = world.put("acme/anna.wav", "voice anna 2 2.0", late=None)
    return told(world, event), _delivering(world)


def deliver_deliver(world: SmallWorld) -> Pair:
    """Two executions deliver one task."""
    ended(world, "anna")
    return _delivering(world), _delivering(world)


def deliver_reconcile(world: SmallWorld) -> Pair:
    """A job is reconciled while it is delivered."""
    ended(world, "anna")
    (run,) = world.running()
    job = run.state["job"]
    return told(world, {"reconcile": job}), _delivering(world)


def deliver_dispatch(world: SmallWorld) -> Pair:
    """The next job wants the slot that a deliver gives back."""
    ended(world, "anna")
    pair(world, "bob")
    world.now += 5
    return told(world, WAKE), _delivering(world)


def abort_deliver(world: SmallWorld) -> Pair:
    """An execution is aborted while it delivers."""
    ended(world, "anna")
    (run,) = world.running()
    delivering = _delivering(world)

    def abort() -> Fiber:
        world.end(run, "ABORTED", told=False)
        return world.ending(run, "ABORTED")

    return abort, delivering


def abort_ingest(world: SmallWorld) -> Pair:
    """The same voice is dropped again while an abort is handled."""
    rendering(world, "anna")
    (run,) = world.running()
    world.end(run, "ABORTED", told=False)
    event = world.put("acme/anna.wav", "voice anna 1 2.0", late=None)
    return (lambda: world.ending(run, "ABORTED")), told(world, event)


def sweep_deliver(world: SmallWorld) -> Pair:
    """The schedule comes while a video is delivered."""
    ended(world, "anna")
    world.now += 100
    return told(world, SWEEP), _delivering(world)


def _delivering(world: SmallWorld) -> Callable[[], Fiber]:
    (run,) = world.running()
    return lambda: world.stepping(run, "deliver")


SCENARIOS: Final[tuple[Callable[[SmallWorld], Pair], ...]] = (
    *(ingest_ingest, shared_portrait_ingest, settings_dispatch, voice_dispatch, delete_dispatch, dispatch_dispatch),
    *(sweep_dispatch, refused_ingest, lost_create, deliver_ingest, deliver_deliver, deliver_reconcile),
    *(deliver_dispatch, abort_deliver, abort_ingest, sweep_deliver),
)


@dataclass
class Result:
    """What trying a scenario came to: interleavings, and the faults found with the first interleaving of each."""

    tried: int
    faults: dict[str, Segments]


def explore(scenario: Callable[[SmallWorld], Pair], preemptions: int, stride: int = 1) -> Result:
    """Try every interleaving of a scenario, or with a `stride` every so-manieth call to switch at."""
    result = Result(0, {})
    longest = max(try_one(scenario, ((0, ALL), (1, ALL)), result), try_one(scenario, ((1, ALL), (0, ALL)), result))
    for segments in _interleavings(longest, preemptions, stride):
        try_one(scenario, segments, result)
    return result


def _interleavings(calls: int, preemptions: int, stride: int) -> Iterator[Segments]:
    for first in (0, 1):
        for k in range(1, calls + 1, stride):
            yield (first, k), (1 - first, ALL), (first, ALL)
            if preemptions > 1:
                for j in range(1, calls + 1, stride):
                    yield (first, k), (1 - first, j), (first, ALL), (1 - first, ALL)


def try_one(scenario: Callable[[SmallWorld], Pair], segments: Segments, result: Result) -> int:
    """Try one interleaving; returns how many calls the longer function made."""
    world = SmallWorld(most=1)
    judge = Judge(world)
    try:
        fibers = [begin() for begin in scenario(world)]
        world.stop_at_calls = True
        spent = True
        for who, calls in segments:
            for _ in range(calls):
                if fibers[who].done:
                    break
                world.go(fibers[who])
            spent = spent and (calls == ALL or not fibers[who].done)
        world.stop_at_calls = False
        for fiber in fibers:
            while not fiber.done:
                world.go(fiber)
        if spent:  # else another interleaving is the same
            result.tried += 1
            world.service.set({"manual": False})
            judge.trouble = True
            world.run(QUIET_SECONDS)
            judge.check_end()
    except AssertionError as error:
        result.faults.setdefault(str(error), segments)
    finally:
        judge.close()
        world.close()
    return max(len(fiber.calls) for fiber in fibers)
