"""Files that prepare reads: asked for once, asked for again where an answer is lost, and made anew once expired."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from world import UPLOADS, WORK, named, portrait, voice

from portraitcast.domain.uploads import ASSET_FRESH_SECONDS
from portraitcast.workflows.read_upload import ASK_AGAIN_SECONDS

if TYPE_CHECKING:
    from world import World

NAMED = {"input": {"image_url": "../faces/anna.png"}}


def gif() -> bytes:
    """Return a portrait that must be converted."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(portrait())) as picture:
        picture.convert("P").save(out, "GIF")
    return out.getvalue()


def test_files_are_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One portrait and several voices: however often jobs are evaluated, prepare reads each file once."""
    orders: list[str] = []
    have_prepared = world.have_prepared

    def note(message: dict[str, Any], **how: float) -> None:
        orders.append(message["prepare"]["key"])
        have_prepared(message, **how)  # type: ignore[arg-type]  # `after` alone

    monkeypatch.setattr(world, "have_prepared", note)
    world.drop("acme/anna.png", portrait())
    for n in range(3):
        world.drop(f"acme/{n}.wav", voice(pitch=0.1 + n / 10))
    world.run()
    assert [world.status(f"acme/{n}") for n in range(3)] == ["done"] * 3
    assert sorted(orders) == ["acme/0.wav", "acme/1.wav", "acme/2.wav", "acme/anna.png"]


@pytest.mark.parametrize("which", ["acme/line.json", "acme/settings.json"])
def test_a_portrait_from_before_the_stack(world: World, which: str) -> None:
    """No event has told of it; a JSON names it."""
    world.put("faces/anna.png", portrait())
    world.drop(which, NAMED)
    world.drop("acme/line.wav", voice())
    world.run()
    assert world.status("acme/line") == "done"


@pytest.mark.parametrize("key", ["acme/line.wav", "acme/line.png"])
def test_an_answer_that_was_lost(world: World, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """The sweep has it asked for again, and not before its time."""
    have_prepared = world.have_prepared
    lost: list[str] = []

    def lose_first(message: dict[str, Any], **how: float) -> None:
        if message["prepare"]["key"] == key and not lost:
            lost.append(key)
        else:
            have_prepared(message, **how)  # type: ignore[arg-type]  # `after` alone

    monkeypatch.setattr(world, "have_prepared", lose_first)
    world.drop("acme/line.wav", voice())
    world.drop("acme/line.png", portrait())
    world.run()
    report = world.its_report("acme/line")
    assert (report["status"], report["message"]) == ("waiting", "The file is being read.")
    for seconds, status in ((ASK_AGAIN_SECONDS / 2, "waiting"), (ASK_AGAIN_SECONDS / 2 + 1, "done")):
        world.advance(seconds)
        world.post({"sweep": True})
        world.run()
        assert world.status("acme/line") == status


def test_an_expired_asset_is_made_anew(world: World) -> None:
    """The work bucket forgets it after 30 days; a voice that is dropped later needs it all the same."""
    world.drop("acme/anna.gif", gif())
    world.drop("acme/1.wav", voice())
    world.run()
    first = world.table.upload(named("acme/anna.gif"))
    assert first is not None
    assert first.facts is not None
    assert first.facts.asset is not None
    world.s3.delete_object(Bucket=WORK, Key=first.facts.asset.key)
    world.advance(ASSET_FRESH_SECONDS)
    world.drop("acme/2.wav", voice(pitch=0.3))
    world.run()
    assert [world.status(f"acme/{n}") for n in (1, 2)] == ["done", "done"]
    again = world.table.upload(named("acme/anna.gif"))
    assert again is not None
    assert again.facts is not None
    assert again.facts.is_fresh(world.clock())
    assert again.facts.asset == first.facts.asset
    assert world.s3.head_object(Bucket=WORK, Key=first.facts.asset.key)["ContentLength"] == first.facts.asset.bytes


def test_a_version_that_was_gone_before_it_was_read(world: World) -> None:
    """What lies there by then is read in its place."""
    world.drop("acme/line.png", portrait())
    event = world.put("acme/line.wav", voice())
    (listed,) = world.s3.list_object_versions(Bucket=UPLOADS, Prefix="acme/line.wav")["Versions"]
    world.s3.delete_object(Bucket=UPLOADS, Key="acme/line.wav", VersionId=listed["VersionId"])
    world.put("acme/line.wav", voice(pitch=0.3))
    world.post(event)
    world.run()
    assert world.status("acme/line") == "done"
