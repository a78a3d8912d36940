"""One file under both Unicode forms of its name, as a Mac's sync leaves it.

Equal bytes are one file, one job, one report.
"""

from __future__ import annotations

import itertools
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from world import RESULTS, keys, portrait, voice

if TYPE_CHECKING:
    from world import World

CALM = {"parameters": {"style_level": "calm"}}
FILES: dict[str, Any] = {"wav": voice(), "png": portrait(), "json": CALM}
EACH = pytest.mark.parametrize("suffix", FILES)


def form(which: Any, suffix: str) -> str:
    return unicodedata.normalize(which, f"ämter/café.{suffix}")


def drop_all(world: World, which: str) -> None:
    """Upload voice, portrait and settings in one Unicode form of their name."""
    for suffix, body in FILES.items():
        world.drop(form(which, suffix), body)


def outputs() -> set[str]:
    return {unicodedata.normalize("NFC", key) for key in keys(RESULTS)}


def one_video_and_report(world: World) -> None:
    assert len(world.tasks()) == 1
    assert len(keys(RESULTS)) == 2
    assert outputs() == {"ämter/café.mp4", "ämter/café.json"}
    (report,) = [key for key in keys(RESULTS) if key.endswith(".json")]
    assert world.status(report.removesuffix(".json")) == "done"


@EACH
@pytest.mark.parametrize("first", ["NFC", "NFD"])
def test_a_twin_reopens_no_finished_job(world: World, suffix: str, first: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[first]
    drop_all(world, first)
    world.run()
    one_video_and_report(world)
    world.new_events()
    world.drop(form(other, suffix), FILES[suffix])
    world.run()
    one_video_and_report(world)
    assert (world.new_events(), world.new_operator_notices()) == ([], [])


@EACH
def test_a_twin_of_a_rendering_job(world: World, suffix: str) -> None:
    world.sim.set(manual=True)
    drop_all(world, "NFD")
    world.run(8)
    assert world.status(form("NFD", "")[:-1]) == "rendering"
    world.sim.wait_for(lambda s: s["tasks"][0]["audio_sha256"] is not None)
    world.drop(form("NFC", suffix), FILES[suffix])
    world.run(5)
    world.sim.set(manual=False)
    world.run()
    one_video_and_report(world)


@pytest.mark.parametrize("order", list(itertools.permutations(FILES)), ids=" ".join)
def test_all_in_both_forms_at_once(world: World, order: tuple[str, ...]) -> None:
    for suffix in order:
        for which in ("NFC", "NFD") if suffix != "png" else ("NFD", "NFC"):
            world.drop(form(which, suffix), FILES[suffix])
    world.run()
    one_video_and_report(world)
    assert world.tasks()[0]["style_level"] == "calm"


@EACH
def test_deleting_one_twin_changes_nothing(world: World, suffix: str) -> None:
    world.post({"pause": True})
    drop_all(world, "NFC")
    world.drop(form("NFD", suffix), FILES[suffix])
    world.run(30)
    world.delete(form("NFC", suffix))
    world.run(30)
    world.post({"pause": False})
    world.run()
    one_video_and_report(world)


def test_the_only_image_in_both_forms(world: World) -> None:
    world.drop(unicodedata.normalize("NFC", "acme/éva.png"), portrait())
    world.drop(unicodedata.normalize("NFD", "acme/éva.png"), portrait())
    world.drop("acme/line.wav", voice())
    world.run()
    report = world.its_report("acme/line")
    assert (report["status"], report["inputs"]["portrait"]["chosen_by"]) == ("done", "only_image")


@pytest.mark.parametrize(
    ("suffix", "other", "error"),
    [
        ("wav", voice(pitch=0.2), "VoiceAmbiguous"),
        ("png", portrait(90), "PortraitAmbiguous"),
        ("json", {"parameters": {"style_level": "active"}}, "JobAmbiguous"),
    ],
    ids=["voice", "portrait", "settings"],
)
def test_other_bytes_are_no_twin(world: World, suffix: str, other: Any, error: str) -> None:
    """Nobody can tell which is meant, so it is asked."""
    drop_all(world, "NFC")
    world.drop(form("NFD", suffix), other)
    world.run()
    assert (world.error(form("NFC", "")[:-1]), world.tasks()) == (error, [])


def test_only_images_of_other_bytes_are_asked_about(world: World) -> None:
    both = [unicodedata.normalize(which, "acme/éva.png") for which in ("NFC", "NFD")]
    world.drop(both[0], portrait())
    world.drop(both[1], portrait(90))
    world.drop("acme/line.wav", voice())
    world.run()
    assert (world.error("acme/line"), world.tasks()) == ("PortraitAmbiguous", [])
    assert world.its_report("acme/line")["candidates"] == {"keys": sorted(both), "count": 2}
