"""Tests of the media layer reach no network (neither a connection nor a look-up) and draw the same examples."""

from __future__ import annotations

import pytest

import hypothesis_profile  # noqa: F401 - importing it sets the profile


@pytest.fixture(autouse=True)
def no_network(socket_disabled: None) -> None:
    """Let pytest-socket refuse every socket and every name in this folder's tests."""
