"""A folder on this disk for one piece of work."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX: Final = "prepare-"
DEAD_SECONDS: Final = 360  # longer than the function's timeout: whoever made it is no more


@contextmanager
def work_folder() -> Iterator[Path]:
    """Give a folder that is removed at the end; one whose process died in the middle is removed here, later."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        for other in Path(folder).parent.glob(f"{PREFIX}*"):
            try:
                dead = time.time() - other.stat().st_mtime > DEAD_SECONDS
            except FileNotFoundError:
                continue
            if dead and other != Path(folder):
                shutil.rmtree(other, ignore_errors=True)
        yield Path(folder)
