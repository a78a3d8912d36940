"""Every limit of a media file, with its source. All are inclusive: a value equal to the limit passes."""

from __future__ import annotations

from typing import Final

MIB: Final = 1_048_576  # "1 MB" in this project, bytes

RECIPE: Final = 1  # in the name of every asset; raise it when the same upload must give other bytes

PORTRAIT_MAX_BYTES: Final = 50 * MIB  # ours: bounds the time of one file
PORTRAIT_MAX_PIXELS: Final = (
    100_000_000  # ours: 400 MB decoded; the largest phone pictures of today have 200, saved as 50
)
PORTRAIT_MIN_SIDE: Final = 300  # px, shorter side (ours: below, enlarging shows)
PORTRAIT_FIT_SIDE: Final = 400  # px, shorter side (EMO and wan2.2-s2v, image requirements)
PORTRAIT_MAX_SIDE: Final = 7000  # px, longer side (EMO and wan2.2-s2v, image requirements)
PORTRAIT_ASSET_SIDE: Final = 4096  # px, longer side (LivePortrait, image requirements)
PORTRAIT_ASSET_BYTES: Final = 10_000_000 - 1  # LivePortrait: less than 10 MB

VOICE_MAX_BYTES: Final = 500 * MIB  # ours: bounds the time and the disk of one file
VOICE_PLAIN_BYTES: Final = 15 * MIB  # all models, audio requirements
VOICE_WHOLE_SECONDS: Final = 180.0  # the longest that any model takes whole (LivePortrait); longer ones are cut
VOICE_MAX_SECONDS: Final = 600.0  # ours: default of MaxVoiceSeconds
VOICE_MAX_RATE: Final = 48_000  # Hz: speech has nothing above
VOICE_MIN_RATE: Final = 8_000  # Hz: the least that AAC and every reader of WAV know
VOICE_SILENT_DBFS: Final = -60.0  # peak below: nobody speaks
VOICE_SAME_SECONDS: Final = 0.1  # a container's length may differ by this from what decoding finds

PAUSE_MIN_SECONDS: Final = 0.25  # shorter ones are inside words
PAUSES_MAX: Final = 2_000  # more are left out, the shortest first

GRID_SECONDS: Final = 0.2  # cuts lie on it: 3 frames at 15 a second

CHILD_MEMORY: Final = 2_048 * MIB  # address space of a decoder; a 100-megapixel picture takes two thirds
CHILD_SECONDS: Final = 100.0  # wall clock a file
CHILD_JOIN_SECONDS: Final = 240.0  # wall clock of a join, a finish or a cut: below the function's 300 s
