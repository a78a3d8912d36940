"""What a file really is, and its sides or seconds, read from its headers.

Files come from anybody, so nothing here decompresses a picture or decodes sound: no decompression bomb can go off.
Every loop moves forward and has a bound, and `UnreadableError` is the only error that hostile bytes can cause. Memory
is flat (at most 1 MiB is held) except for an MP3, which is read whole: its caller holds it to 15 MB first
(`portraitcast.media.checks`).
"""

from portraitcast.media.kinds import describe, sniff
from portraitcast.media.pictures import Picture, probe_picture
from portraitcast.media.reading import EmptyError, UnreadableError
from portraitcast.media.videos import Video, probe_video
from portraitcast.media.voices import Voice, probe_voice

__all__ = [
    "EmptyError",
    "Picture",
    "UnreadableError",
    "Video",
    "Voice",
    "describe",
    "probe_picture",
    "probe_video",
    "probe_voice",
    "sniff",
]
