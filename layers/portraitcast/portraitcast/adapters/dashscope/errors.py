"""What goes wrong with a call of the video service, by what to do about it.

::

    PortraitcastError
    └── ProviderError         what the service, or the way to it, said instead of an answer
        ├── JobRefusedError     the job is wrong; its owner must mend it
        ├── AccountError        the account or the stack is wrong; no job can pass until the operator mends it
        ├── ThrottledError      too many calls; waiting cures it
        ├── NotConnectedError   the request never left
        └── ProviderIllError    5xx, nonsense, or no answer in time

After the first four of a create nothing was paid. A create never raises the fifth: it answers `UnknownOutcome`. After
any of the five of an upload nothing was paid, since an upload costs nothing.
"""

from __future__ import annotations

import re
from typing import Final

from portraitcast.errors import PortraitcastError

CODE_MAX: Final = 100  # ours: characters of the provider's code that are kept
MESSAGE_MAX: Final = 500  # ours: characters of the provider's words that are kept

# Words about what a person handed in: a refusal with one of them is about this job.
_INPUT: Final = re.compile(
    r"image|picture|photo|portrait|audio|voice|sound|video|media|file|download|resource|face|human|person|bbox|pixel"
    r"|resolution|duration|ratio|style|template|_freq|_fps|_strength|paste_back",
    re.IGNORECASE,
)
_JUDGED: Final = re.compile(r"InvalidFile\.|DataInspectionFailed|IPInfringement")
_INPUT_CODE: Final = re.compile(r"InvalidFile\.|InvalidURL\.|DataInspection|IPInfringement|Upload\.|.*\.TooLarge$")


class ProviderError(PortraitcastError):
    """What the service, or the way to it, said instead of an answer; free of keys and of links' secrets.

    Attributes
    ----------
    code, message
        The provider's words where there are any, ours otherwise; at most `CODE_MAX` and `MESSAGE_MAX` characters.
    request_id
        The provider's, to ask its support with.
    http_status
        None where there was no answer.
    retry_after
        Seconds that the provider asked to wait, at most a day, or None.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        request_id: str | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.request_id = request_id
        self.http_status = http_status
        self.retry_after = retry_after


class JobRefusedError(ProviderError):
    """The job is wrong and its owner must mend it. Nothing was paid."""

    @property
    def worth_one_more_try(self) -> bool:
        """Say whether the fault may have been the download of the inputs, not the inputs."""
        return worth_one_more_try(self.code, self.message)

    @property
    def names_an_input(self) -> bool:
        """Say whether its words are about the job's files or settings.

        A refusal that names none of them (``InvalidParameter: Required parameter(s) missing``) may befall every job,
        as when the service has changed. Met by two jobs one after the other, it is the stack's trouble.
        """
        return bool(_INPUT_CODE.match(self.code) or _INPUT.search(self.message))

    @property
    def judges_content(self) -> bool:
        """Say whether the service looked at the files and judged what they show or say."""
        return bool(_JUDGED.match(self.code))


class AccountError(ProviderError):
    """The account or the stack is wrong: no job can pass until the operator mends it. Nothing was paid."""


class ThrottledError(ProviderError):
    """Too many calls; waiting cures it. Nothing was paid."""


class NotConnectedError(ProviderError):
    """The request never left: no connection was made. Nothing was paid."""


class ProviderIllError(ProviderError):
    """5xx, nonsense, or no answer in time, from a call that may be repeated. A create never raises it."""


def worth_one_more_try(code: str, message: str) -> bool:
    """Say whether a refusal or failure may have been the provider's download of the inputs, not the inputs."""
    return code in ("InvalidURL.Timeout", "InvalidURL.ConnectionRefused") or (
        code == "InvalidParameter.DataInspection" and "unable to download" in message.lower()
    )
