"""What the search has found in the product, each as its shortest history."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from judge import QUIET_SECONDS, Judge
from small_world import SmallWorld

from portraitcast.domain.models import DEFAULT


def foreign_task(world: SmallWorld) -> None:
    """Other software of the account makes a task, with a key of its own."""
    world.service.create(
        api_key="sk-theirs",
        model=DEFAULT,
        image_url="https://theirs.example/face",
        audio_url="https://theirs.example/" + quote("voice theirs 1 9.0"),
        face_bbox=None,
        ext_bbox=None,
        parameters={},
    )


@pytest.mark.parametrize("foreign", [1, 2], ids=["taken up and not delivered", "two candidates"])
def test_a_foreign_task_teaches_no_key(foreign: int) -> None:
    """A foreign task that may have been a lost create's is remembered, and its key isn't ours.

    So the next lost create's own task is found by the list, and not paid again.
    """
    world = SmallWorld()
    judge = Judge(world)
    try:
        for _ in range(foreign):
            foreign_task(world)
        for lost in ("before", "after"):
            world.service.faults.add({"endpoint": "create", "action": {"close": lost}})
        for who in ("anna", "bob"):
            world.put(f"acme/{who}.wav", f"voice {who} 1 2.0")
            world.put(f"acme/{who}.png", f"face {who} 1")
        world.run(4000)
        world.run(QUIET_SECONDS)
        judge.check_end()
        assert len(world.service.tasks) == foreign + 1
    finally:
        judge.close()
        world.close()
