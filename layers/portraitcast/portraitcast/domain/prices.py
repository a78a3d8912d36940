"""What the provider charges, in CNY. Source: Alibaba Cloud Model Studio's price list for EMO (Beijing region)."""

from __future__ import annotations

from typing import Final

CHECK_CNY: Final = 0.004  # a picture; a failed check is probably billed too
VIDEO_CNY_PER_SECOND: Final = {"1:1": 0.08, "3:4": 0.16}  # of finished video; failed tasks are free


def video_fee(seconds: float, ratio: str) -> float:
    """Return the fee of a video of this length, CNY."""
    return round(seconds * VIDEO_CNY_PER_SECOND.get(ratio, max(VIDEO_CNY_PER_SECOND.values())), 6)
