"""The first picture of a video as a JPEG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import av.error

from portraitcast_media.join import VideoError, open_video, video_of

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

_QUALITY: Final = 90


def write_poster(path: Path, out: Path) -> tuple[int, int]:
    """Write the first picture of a video, and return its sides in px.

    Raises
    ------
    VideoError
        There is none.
    """
    with open_video(path) as container:
        try:
            for frame in container.decode(video_of(container, path)):
                image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]  # PyAV leaves it untyped
                image.save(out, "JPEG", quality=_QUALITY, subsampling=0)
                return image.size
        except av.error.FFmpegError as error:
            raise VideoError(f"{path.name} is damaged") from error
    raise VideoError(f"there is no picture in {path.name}")
