"""Parts of a voice: laid end to end they are the voice, sample for sample."""

from __future__ import annotations

import wave
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_makers import encode, tone, wav_bytes

from portraitcast_media import cut as cutting
from portraitcast_media.cut import CutError, cut, part_key
from portraitcast_media.facts import sha256_of
from portraitcast_media.problems import RefusedError

if TYPE_CHECKING:
    from portraitcast_media.cut import Part


def samples_of(part: Part | Path) -> array[int]:
    file = part if isinstance(part, Path) else Path(part.file)
    with wave.open(str(file)) as wav:
        assert (wav.getnchannels(), wav.getsampwidth()) == (1, 2)
        return array("h", wav.readframes(wav.getnframes()))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_sample_for_sample(rate: int, tmp_path: Path) -> None:
    voice = tone(7.3, rate)
    file = tmp_path / "voice"
    file.write_bytes(wav_bytes(voice, rate))
    parts = cut(file, "a.wav", [2.2, 4.0, 6.8], tmp_path, max_seconds=60)
    assert sum((samples_of(part) for part in parts), array("h")) == voice
    assert [part.start for part in parts] == [0, 2.2, 4.0, 6.8]
    assert [part.seconds for part in parts] == [2.2, 1.8, 2.8, 0.5]
    for part in parts:
        assert part.sha256 == sha256_of(Path(part.file))
        assert part.bytes == Path(part.file).stat().st_size


@settings(derandomize=True, max_examples=30, deadline=None)
@given(steps=st.sets(st.integers(1, 49), max_size=12))
def test_any_cuts(steps: set[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is lost and nothing is there twice, wherever cuts lie."""
    work = tmp_path_factory.mktemp("cut")
    voice = tone(10, 8000)
    (work / "voice").write_bytes(wav_bytes(voice, 8000))
    parts = cut(work / "voice", "a.wav", [step * 0.2 for step in sorted(steps)], work, max_seconds=60)
    assert len(parts) == len(steps) + 1
    assert sum((samples_of(part) for part in parts), array("h")) == voice


@pytest.mark.parametrize(("container", "codec"), [("mp3", "libmp3lame"), ("ipod", "aac"), ("ogg", "libopus")])
def test_any_kind_of_voice(container: str, codec: str, tmp_path: Path) -> None:
    file = encode(tmp_path / "voice", codec, tone(5, 48000), 48000, 2, container=container)
    whole = cut(file, "a", [], tmp_path, max_seconds=60)
    (only,) = [samples_of(part) for part in whole]
    parts = cut(file, "a", [1.0, 3.0], tmp_path, max_seconds=60)
    assert sum((samples_of(part) for part in parts), array("h")) == only


@pytest.mark.parametrize("bounds", [[1.1], [2.0, 1.0], [1.0, 1.0], [5.0], [0.0], [-1.0]])
def test_cuts_that_make_no_parts(bounds: list[float], tmp_path: Path) -> None:
    (tmp_path / "voice").write_bytes(wav_bytes(tone(4, 8000), 8000))
    with pytest.raises(CutError):
        cut(tmp_path / "voice", "a.wav", bounds, tmp_path, max_seconds=60)


def test_a_part_has_at_most_fifteen_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lower rate for all parts where one of them would be bigger."""
    monkeypatch.setattr("portraitcast_media.voices.VOICE_PLAIN_BYTES", 100_000)
    monkeypatch.setattr(cutting, "lower_rate", cutting.lower_rate)
    (tmp_path / "voice").write_bytes(wav_bytes(tone(4, 48000), 48000))
    parts = cut(tmp_path / "voice", "a.wav", [2.0], tmp_path, max_seconds=60)
    for part in parts:
        assert part.bytes <= 100_000
        assert part.seconds == 2.0
        with wave.open(part.file) as wav:
            assert wav.getframerate() == 24_000


def test_a_voice_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "voice").write_bytes(b"<html>")
    with pytest.raises(RefusedError):
        cut(tmp_path / "voice", "a.wav", [], tmp_path, max_seconds=60)


def test_names_by_content_and_place() -> None:
    assert part_key("ab", 0, 20.2) == "parts/ab-1/00000000-00020200.wav"
    assert part_key("ab", 20.2, 600) == "parts/ab-1/00020200-00600000.wav"
