"""Files as people really have them: 40 of them, rebuilt after public reports, with their right answers (cases.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from portraitcast_media.prepare import prepare
from portraitcast_media.problems import RefusedError

if TYPE_CHECKING:
    from portraitcast_media.prepare import Prepared

HERE = Path(__file__).parent
CASES = json.loads((HERE / "cases.json").read_text("utf-8"))


def prepared(file: Path, work: Path) -> Prepared:
    return prepare(file, f"acme/{file.name}", "voice" if file.name.startswith("v") else "portrait", work)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_case(case: dict[str, Any], tmp_path: Path) -> None:
    """Seconds within 0.1 s, pixels as people see it, or the code of the refusal."""
    expect = case["expect"]
    try:
        facts = prepared(HERE / "cases" / case["file"], tmp_path).facts
    except RefusedError as error:
        problem = error.problem
        assert problem.code in {expect.get("refuse"), expect.get("or_refuse")}
        assert problem.limit
        assert problem.measured
        assert problem.what_to_do
        return
    if "seconds" in facts:
        assert facts["seconds"] == pytest.approx(expect.get("accept_seconds", expect.get("or_accept_seconds")), abs=0.1)
    else:
        assert [facts["width"], facts["height"]] == expect.get("accept_pixels", expect.get("or_accept_pixels"))


def test_85_seconds_are_too_long_for_60(tmp_path: Path) -> None:
    """A voice that its header calls 47.5 s long is refused by what decoding finds."""
    file = HERE / "cases" / "v11b_vbr_mp3_in_wav_85s.wav"
    with pytest.raises(RefusedError) as refused:
        prepare(file, file.name, "voice", tmp_path, max_seconds=60)
    assert refused.value.problem.code == "VoiceTooLong"
    assert refused.value.problem.limit == "60 s"
    assert refused.value.problem.measured == "85.0 s"


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    """The CMYK photo and the 565 bitmap show the same portrait."""
    pictures = []
    for number, name in enumerate(("p03_cmyk_adobe.jpg", "p24_565_bitfields.bmp")):
        work = tmp_path / str(number)
        work.mkdir()
        file = prepared(HERE / "cases" / name, work).file
        assert file
        pictures.append(Image.open(file).convert("RGB").resize((8, 8), Image.Resampling.BOX))
    pairs = zip(*(picture.tobytes() for picture in pictures), strict=True)
    assert max(abs(a - b) for a, b in pairs) < 16
