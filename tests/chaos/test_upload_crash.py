"""Death at any call of an upload: the job's files go up again, and its video is paid once."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hurt import Point, portrait_of, voice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hurt import Hurt

CALLS = ("emo.policy", "emo.upload")
FILES = 3  # the check's portrait, the create's portrait, the voice
POINTS = [
    Point("submit", call, nth, when) for call in CALLS for nth in range(1, FILES + 1) for when in ("before", "after")
]
SAMPLE = 3  # of `make test`

pytestmark = pytest.mark.parametrize("hurt", [{"InputTransfer": "upload"}], indirect=True)


@pytest.fixture(autouse=True)
def short_times(hurt: Hurt) -> Iterator[None]:
    with hurt.short_times():
        yield


def live(hurt: Hurt, folder: str) -> None:
    """Drop a pair, and wait until its job has ended and nothing is left to do."""
    hurt.drop(f"{folder}line.wav", voice(1))
    hurt.drop(f"{folder}line.png", portrait_of(folder))
    hurt.wait(lambda: hurt.told.ended(folder) == 1 and hurt.is_quiet(), "the job's end", sweeps=True)


def is_paid_once(hurt: Hurt, folder: str, before: int) -> bool:
    """Say whether the job is done by the one task that was made since."""
    tasks = hurt.simulator.state()["tasks"][before:]
    report = hurt.report(f"{folder}line")
    assert hurt.dead_letters() == []
    return [task["id"] for task in tasks] == [report["task"]["id"]] and report["status"] == "done"


def hurt_at(hurt: Hurt, folder: str, points: list[Point], say: Callable[[str], None]) -> None:
    for number, point in enumerate(points):
        its_folder, before = f"{folder.rstrip('/')}-{number}/", len(hurt.simulator.state()["tasks"])
        died = hurt.arm(point)
        live(hurt, its_folder)
        say(f"{point}: {'died' if died() else 'not reached'}")
        assert died()
        assert is_paid_once(hurt, its_folder, before), str(point)
        hurt.disarm()


def test_a_death_while_uploading(hurt: Hurt, folder: str, say: Callable[[str], None]) -> None:
    chance = random.Random(15)  # noqa: S311  # not secrecy
    hurt_at(hurt, folder, chance.sample(POINTS, SAMPLE), say)


@pytest.mark.full
def test_a_death_at_every_call_of_an_upload(hurt: Hurt, folder: str, say: Callable[[str], None]) -> None:
    hurt_at(hurt, folder, POINTS, say)
