"""Keys that look like paths: letters are all that their slashes and dots are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import RESULTS, UPLOADS, portrait, voice

if TYPE_CHECKING:
    from world import World

FOLDERS = ["/", "//", "./", "../", "a/../", "../../results/", "a//", "/etc/"]


def keys(world: World, bucket: str) -> set[str]:
    return {entry["Key"] for entry in world.s3.list_objects_v2(Bucket=bucket).get("Contents", [])}


@pytest.mark.parametrize("folder", FOLDERS)
def test_video_and_report_lie_under_the_voices_own_key_and_nowhere_else(world: World, folder: str) -> None:
    world.drop_pair(f"{folder}line")
    world.run()

    outputs = {f"{folder}line.json"}
    if not folder.startswith("/"):  # Python's http.server, which stands for S3's links here, takes "//" for "/"
        assert world.status(f"{folder}line") == "done"
        outputs.add(f"{folder}line.mp4")
    assert keys(world, RESULTS) == outputs
    assert keys(world, UPLOADS) == {f"{folder}line.wav", f"{folder}line.png"}


def test_folders_that_a_path_would_make_one_are_different_folders(world: World) -> None:
    world.drop("anna.png", portrait())
    for folder in FOLDERS:
        world.drop(f"{folder}line.wav", voice())
    world.drop("line.wav", voice())
    world.run()

    assert {folder: world.error(f"{folder}line") for folder in FOLDERS} == dict.fromkeys(FOLDERS, "PortraitMissing")
    assert world.status("line") == "done"
