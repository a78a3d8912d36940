"""What the search's tests share: Hypothesis draws the same histories every time."""

from __future__ import annotations

import logging

import pytest

import hypothesis_profile  # noqa: F401 - importing it sets the profile


@pytest.fixture(autouse=True)
def quiet_log() -> None:
    """Say nothing below errors: a history makes hundreds of lines."""
    logging.getLogger("portraitcast").setLevel(logging.ERROR)
    logging.getLogger("portraitcast").propagate = False
