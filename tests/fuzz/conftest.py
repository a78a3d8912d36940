"""Fuzz tests draw the same examples every time."""

import hypothesis_profile  # noqa: F401 - importing it sets the profile
