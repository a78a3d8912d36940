"""What a job will cost, said before anything is paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portraitcast.domain.job import Inputs


def estimate(inputs: Inputs) -> float | None:
    """Return what a job's video costs at most, with the check of its portrait (CNY); None until all is known.

    A linked voice, which nobody has measured, counts with the longest that its model takes.
    """
    voice, settings = inputs.voice, inputs.settings
    if voice is None or settings is None or inputs.portrait is None:
        return None
    model = settings.definition
    check = 0.0 if settings.face_bbox and settings.ext_bbox else model.check_cny
    return round(model.video_fee(model.voice.at_most(voice.seconds), settings.parameters) + check, 6)
