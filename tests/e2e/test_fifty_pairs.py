"""Fifty pairs synced at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from makers import face, sha256, voice

if TYPE_CHECKING:
    from conftest import Stack

PAIRS = 50
GUARD_SECONDS = 300.0  # against hanging only, for all of them


def test_fifty_pairs_synced_at_once_become_fifty_videos_each_with_its_own_face(stack: Stack, folder: str) -> None:
    names = [f"{folder}line-{n:02}" for n in range(PAIRS)]
    portraits = [face(1000 + n) for n in range(PAIRS)]
    voices = [voice(0.5, seed=n) for n in range(PAIRS)]
    files = [
        item for n, name in enumerate(names) for item in ((f"{name}.png", portraits[n]), (f"{name}.wav", voices[n]))
    ]
    with ThreadPoolExecutor(8) as people:
        list(people.map(lambda file: stack.drop(*file), files))

    done = [stack.wait_report(name, "done", seconds=GUARD_SECONDS) for name in names]

    made = {task["audio_sha256"]: task["image_sha256"] for task in stack.tasks(folder)}
    assert made == {sha256(voices[n]): sha256(portraits[n]) for n in range(PAIRS)}
    assert len(stack.tasks(folder)) == PAIRS
    assert [report["inputs"]["portrait"]["sha256"] for report in done] == [sha256(each) for each in portraits]
    assert {report["inputs"]["portrait"]["chosen_by"] for report in done} == {"same_name"}
    assert len({report["video"]["sha256"] for report in done}) == PAIRS
    assert sorted(stack.results(folder)) == sorted(name + suffix for name in names for suffix in (".json", ".mp4"))
    counters = stack.simulator.state()["counters"]
    assert counters["max_open"] == 2
    assert counters["throttled"] == {}
