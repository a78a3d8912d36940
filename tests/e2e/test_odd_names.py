"""Names of every kind: the outputs keep the voice's own bytes, and pairs find each other whatever their names hold."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from makers import face, new_folder, sha256, voice

if TYPE_CHECKING:
    from conftest import Stack

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "だぢづ ガラス é") for form in ("NFC", "NFD"))
assert COMPOSED != DECOMPOSED

# voice and portrait of one pair, under a folder
PAIRS = {
    "spaces": (" a  line .wav", " a  line .png"),
    "plus": ("a+b.wav", "a+b.png"),
    "percent": ("100%20off%.wav", "100%20off%.png"),
    "quotes": ('it\'s "quoted" “so”.wav', 'it\'s "quoted" “so”.png'),
    "url signs": ("a&b=c?d#e.wav", "a&b=c?d#e.png"),
    "composed": (f"{COMPOSED}.wav", f"{COMPOSED}.png"),
    "decomposed": (f"{DECOMPOSED}.wav", f"{DECOMPOSED}.png"),
    "decomposed voice, composed portrait": (f"x{DECOMPOSED}.wav", f"x{COMPOSED}.png"),
    "composed voice, decomposed portrait": (f"x{COMPOSED}.wav", f"x{DECOMPOSED}.png"),
    "emoji": ("🎉👩‍🎤.wav", "🎉👩‍🎤.png"),
    "upper-case extensions": ("LINE.WAV", "LINE.PNG"),
    "extensions of two cases": ("line.wav", "line.Png"),
    "dots": ("v1.2.final.wav", "v1.2.final.png"),
}


@dataclass(frozen=True)
class Pair:
    """A pair as it was dropped."""

    folder: str
    voice_key: str
    portrait: bytes

    @property
    def stem(self) -> str:
        return self.voice_key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return unicodedata.normalize("NFC", self.stem)


@pytest.fixture(scope="module")
def pairs(stack: Stack) -> dict[str, Pair]:
    """Drop all pairs at once, each with a face of its own."""
    dropped = {}
    for seed, (kind, (voice_name, portrait_name)) in enumerate(PAIRS.items(), start=100):
        pair = Pair(folder := new_folder(), folder + voice_name, face(seed))
        stack.drop(pair.voice_key, voice())
        stack.drop(folder + portrait_name, pair.portrait)
        dropped[kind] = pair
    return dropped


@pytest.mark.parametrize("kind", PAIRS)
def test_video_and_report_of_a_name_keep_the_bytes_of_the_voices(
    stack: Stack, pairs: dict[str, Pair], kind: str
) -> None:
    pair = pairs[kind]

    done = stack.wait_report(pair.name, "done")

    assert sorted(stack.results(pair.folder)) == [f"{pair.stem}.json", f"{pair.stem}.mp4"]
    assert done["inputs"]["voice"]["key"] == pair.voice_key
    assert done["video"]["key"] == f"{pair.stem}.mp4"
    assert [task["image_sha256"] for task in stack.tasks(pair.folder)] == [sha256(pair.portrait)]
    notice = stack.notices.wait_for(done)
    assert notice["attributes"] == {"status": "done", "folder": pair.folder[:-1]}
    assert notice["subject"].isprintable()
