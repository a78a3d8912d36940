"""Every limit that a file or a job must hold to, with its source.

EMO's limits are those of Alibaba Cloud Model Studio's pages on EMO (API details of `emo-detect-v1` and `emo-v1`); ours
say so. All are inclusive: a value equal to the limit passes.
"""

from __future__ import annotations

from typing import Final

MIB: Final = 1_048_576  # "1 MB" in this project, bytes

PORTRAIT_MIN_SIDE: Final = 400  # px, shorter side (EMO, image requirements)
PORTRAIT_MAX_SIDE: Final = 7000  # px, longer side (EMO, image requirements)
PORTRAIT_MAX_BYTES: Final = 50 * MIB  # ours: the provider names none, a function's time does

VOICE_MAX_BYTES: Final = 15 * MIB  # EMO, audio requirements
VOICE_MAX_SECONDS: Final = 60.0  # EMO, audio requirements

SETTINGS_MAX_BYTES: Final = 64 * 1024  # ours: a settings JSON is some hundred bytes
LINK_MAX_CHARS: Final = 2048  # ours: a link in a settings JSON; the longest that is safe everywhere on its way
KEY_MAX_BYTES: Final = 1024  # Amazon S3: UTF-8 bytes of an object key
LIST_MAX: Final = 20  # ours: entries of a list in a report; the full count stands beside it
