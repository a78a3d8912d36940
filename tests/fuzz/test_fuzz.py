"""No bytes of strangers crash a parser, hold it up for a second or make it take much memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.bounds import judge
from fuzz.targets import TARGETS

INPUTS = 1000  # made of the corpus here, for each parser; `make fuzz` tries 200,000
DECODED = 150  # where each is decoded in a process of its own


def corpus(name: str) -> list[bytes]:
    """Return the inputs that fuzzing has kept: each takes a way through the parser that no other takes."""
    return [path.read_bytes() for path in sorted((Path(__file__).parent / "corpus" / name).iterdir())]


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_has_found_stays_within_bounds(name: str) -> None:
    for data in corpus(name):
        judge(TARGETS[name], data)


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_input_stays_within_bounds(name: str) -> None:
    target = TARGETS[name]
    pieces = st.sampled_from(target.words) | st.binary(max_size=8)
    # Headers decide, so most changes hit the first bytes: where, how many bytes go, what comes, how often.
    change = st.tuples(
        st.integers(0, 64) | st.integers(0, 4096), st.integers(0, 16), pieces, st.sampled_from((1, 1, 1, 200))
    )

    inputs = DECODED if target.decodes else INPUTS

    @settings(max_examples=max(inputs, settings().max_examples))
    @given(st.sampled_from(corpus(name)), st.lists(change, max_size=6), st.none() | st.integers(0, 4096))
    def within_bounds(seed: bytes, changes: list[tuple[int, int, bytes, int]], end: int | None) -> None:
        data = bytearray(seed)
        for at, gone, piece, times in changes:
            data[at : at + gone] = piece * times
        judge(target, bytes(data[:end]))

    within_bounds()
