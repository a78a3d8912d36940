"""What prepare has made of a file, where people are shown it: a browser knows no HEIC and no TIFF."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "layers" / "portraitcast"))

from portraitcast.domain.models import DEFAULT, MODELS, Model, StackModels, model_named
from portraitcast.domain.uploads import PORTRAIT_SUFFIXES, VOICE_SUFFIXES  # from the path above

__all__ = [
    "DEFAULT",
    "MODELS",
    "PORTRAIT_SUFFIXES",
    "VOICE_SUFFIXES",
    "Model",
    "StackModels",
    "model_named",
    "picture_asset",
]


def picture_asset(s3: Any, work_bucket: str, sha256: str) -> str | None:
    """Return the key of the newest JPEG that was made of a picture, by its upload's SHA-256; None without one."""
    listed = s3.list_objects_v2(Bucket=work_bucket, Prefix=f"assets/{sha256}-", MaxKeys=10).get("Contents", [])
    jpegs = [entry["Key"] for entry in listed if entry["Key"].endswith(".jpg")]
    return max(jpegs, default=None)
