"""The three models as the service's pages describe them: what a request may hold, limits, prices, sizes of videos.

Written from the pages, not from the product, so that a mistake in one shows against the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB: Final = 1_048_576
CHECK_CNY: Final = 0.004  # each model's check, a picture
LONGEST_SIDE: Final = 1280  # px, ours: of videos that follow the picture; a larger one only costs this machine's time
AREAS: Final = {"480P": 640 * 480, "720P": 1280 * 720}  # px, of a video of wan2.2-s2v (named sizes of the model family)


@dataclass(frozen=True)
class Rule:
    """What a parameter may be: one of `choices`, true or false, or a number from `least` to `most`."""

    default: Any
    choices: tuple[str, ...] = ()
    boolean: bool = False
    whole: bool = False
    least: float = 0
    most: float = 0

    def allows(self, value: object) -> bool:
        """Say whether a value is one of the type and range that the page names."""
        if self.choices:
            return isinstance(value, str) and value in self.choices
        if self.boolean:
            return isinstance(value, bool)
        number = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return number and self.least <= value <= self.most  # type: ignore[operator]  # a number, as just seen


@dataclass(frozen=True)
class Model:
    """One model and its portrait check."""

    name: str
    check_name: str
    verdict: str  # the field of the check's output
    boxes: bool  # the check answers them, the create needs them
    check_rules: Mapping[str, Rule]
    rules: Mapping[str, Rule]
    min_side: int  # px, shorter side
    max_side: int  # px, longer side
    picture_bytes: int | None  # most bytes of a picture
    max_ratio: float | None  # longer through shorter side
    voice_bytes: int  # most bytes of a voice
    min_seconds: float  # of a voice; exclusive where `strict`
    max_seconds: float  # of a voice; exclusive where `strict`
    strict: bool

    @property
    def inputs(self) -> frozenset[str]:
        """Fields of a create's ``input``."""
        links = {"image_url", "audio_url"}
        return frozenset(links | {"face_bbox", "ext_bbox"} if self.boxes else links)

    def price(self, parameters: Mapping[str, Any], ratio: str) -> float:
        """Give the price of a second of video, CNY."""
        if self.name == "emo-v1":
            return {"1:1": 0.08, "3:4": 0.16}[ratio]
        if self.name == "liveportrait":
            return 0.02
        return {"480P": 0.5, "720P": 0.9}[parameters["resolution"]]


_MOVES: Final = ("normal", "calm", "active")

MODELS: Final = {
    model.name: model
    for model in (
        Model(
            name="emo-v1",
            check_name="emo-detect-v1",
            verdict="check_pass",
            boxes=True,
            check_rules={"ratio": Rule(None, choices=("1:1", "3:4"))},
            rules={"style_level": Rule("normal", choices=_MOVES)},
            min_side=400,
            max_side=7000,
            picture_bytes=None,
            max_ratio=None,
            voice_bytes=15 * MIB,
            min_seconds=0,
            max_seconds=60,
            strict=False,
        ),
        Model(
            name="liveportrait",
            check_name="liveportrait-detect",
            verdict="pass",
            boxes=False,
            check_rules={},
            rules={
                "template_id": Rule("normal", choices=_MOVES),
                "eye_move_freq": Rule(0.5, least=0, most=1),
                "video_fps": Rule(24, least=15, most=30, whole=True),
                "mouth_move_strength": Rule(1, least=0, most=1.5),
                "head_move_strength": Rule(0.7, least=0, most=1),
                "paste_back": Rule(default=True, boolean=True),
            },
            min_side=1,
            max_side=4096,
            picture_bytes=10 * MIB - 1,
            max_ratio=2,
            voice_bytes=15 * MIB - 1,
            min_seconds=1,
            max_seconds=180,
            strict=True,
        ),
        Model(
            name="wan2.2-s2v",
            check_name="wan2.2-s2v-detect",
            verdict="check_pass",
            boxes=False,
            check_rules={},
            rules={
                "resolution": Rule("480P", choices=("480P", "720P")),
                "style": Rule("speech", choices=("speech",)),
            },
            min_side=400,
            max_side=7000,
            picture_bytes=None,
            max_ratio=None,
            voice_bytes=15 * MIB,
            min_seconds=0,
            max_seconds=20,
            strict=True,
        ),
    )
}
CHECKS: Final = {model.check_name: model for model in MODELS.values()}


def video_size(model: Model, parameters: Mapping[str, Any], picture: tuple[int, int]) -> tuple[int, int]:
    """Give the width and height of a video that follows its picture, px: even, as the codec asks."""
    width, height = picture
    if model.name == "wan2.2-s2v":
        scale = (AREAS[parameters["resolution"]] / (width * height)) ** 0.5
    else:
        scale = min(1.0, LONGEST_SIDE / max(width, height))
    return _even(width * scale), _even(height * scale)


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)
