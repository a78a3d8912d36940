"""Keys that look like paths: letters are all that their slashes and dots are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import RESULTS, UPLOADS, keys, portrait, voice

if TYPE_CHECKING:
    from world import World

FOLDERS = ["/", "//", "./", "../", "a/../", "../../results/", "a//", "/etc/"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_outputs_lie_under_the_voices_key(world: World, folder: str) -> None:
    world.drop_pair(f"{folder}line")
    world.run()

    assert world.status(f"{folder}line") == "done"
    assert keys(RESULTS) == {f"{folder}line.json", f"{folder}line.mp4"}
    assert keys(UPLOADS) == {f"{folder}line.wav", f"{folder}line.png"}


def test_folders_that_a_path_would_make_one(world: World) -> None:
    world.drop("anna.png", portrait())
    for folder in FOLDERS:
        world.drop(f"{folder}line.wav", voice())
    world.drop("line.wav", voice())
    world.run()

    assert {folder: world.error(f"{folder}line") for folder in FOLDERS} == dict.fromkeys(FOLDERS, "PortraitMissing")
    assert world.status("line") == "done"
