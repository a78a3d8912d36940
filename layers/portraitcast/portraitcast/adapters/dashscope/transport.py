"""One HTTP exchange: sent once, bounded in time and size, and sorted into "never left" and "nobody knows"."""

from __future__ import annotations

import io
import threading
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from portraitcast.adapters.dashscope.errors import NotConnectedError, ProviderIllError
from portraitcast.errors import PortraitcastError, TryLaterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

ANSWER_MAX_BYTES: Final = 1024 * 1024  # ours: a page of 100 tasks is some 40 kB

_USER_AGENT: Final = "portraitcast/0.1.0"


class Body(Protocol):
    """A request's body that knows whether it has begun to leave, and can be told not to."""

    left: bool

    def read(self, size: int | None = -1, /) -> bytes:
        """Give the next bytes."""
        ...

    def recall(self) -> bool:
        """Keep the body from leaving; False when it has begun to."""
        ...


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came: status, the ``Retry-After`` header, and at most `ANSWER_MAX_BYTES` of content."""

    status: int
    retry_after: str | None
    content: bytes


class Transport:
    """Sends requests one at a time; keeps no connection.

    Parameters
    ----------
    session
        A session with a transport of its own, for tests. Without it every exchange has a new one.
    connect_timeout, read_timeout
        Seconds. A whole exchange, from the first look-up of a name to the last byte, takes no longer than both
        together.
    """

    def __init__(self, session: requests.Session | None, connect_timeout: float, read_timeout: float) -> None:
        self._session = session
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self.call_seconds = connect_timeout + read_timeout

    def exchange(
        self,
        method: str,
        url: str,
        *,
        key: str | None = None,
        body: Body | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> RawAnswer:
        """Send one request, once, and return its answer of any status.

        The whole exchange is bounded, not only each read of the socket, which a service that drips a byte at a time
        could stretch for ever: it runs in a thread of its own that is left behind when the time is over. It can do no
        harm then: the body, if it hasn't begun to leave, is recalled, and an answer is read to a maximum.

        Parameters
        ----------
        key
            The API key; None sends none.
        seconds
            The most that the exchange may take; None means `call_seconds`.

        Raises
        ------
        NotConnectedError
            The request never left.
        ProviderIllError
            It may have left, and there is no whole answer.
        """
        limit = self.call_seconds if seconds is None else seconds
        # A new connection for every exchange: one out of a pool may have been dropped by the other side unseen, and a
        # create that fails on it is one that nobody knows the outcome of.
        session = self._session or new_session()
        ask = partial(
            session.request,
            method,
            url,
            params=params,
            data=body,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # nothing to unpack, so nothing that unpacks to gigabytes
                "Connection": "close",
                "User-Agent": _USER_AGENT,
                **(headers or {}),
            },
            auth=_Auth(key),
            timeout=(min(self._connect_timeout, limit), min(self._read_timeout, limit)),
            allow_redirects=False,
            stream=True,
        )
        outcome: Future[RawAnswer] = Future()

        def run() -> None:
            try:
                outcome.set_result(_read(ask))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which sorts it
                outcome.set_exception(error)
            finally:
                if session is not self._session:
                    session.close()

        thread = threading.Thread(target=run, name="dashscope", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads or memory
            raise NotConnectedError("NotConnected", "no thread could be started for the call") from None
        thread.join(limit)
        if not outcome.done():
            if body is not None and body.recall():
                raise NotConnectedError("NotConnected", f"no connection to the service within {limit:.0f} s")
            raise ProviderIllError("NoAnswer", f"no whole answer of the service within {limit:.0f} s")
        error = outcome.exception()
        if error is None:
            return outcome.result()
        if isinstance(error, PortraitcastError) or not isinstance(error, Exception):
            raise error  # of the file that was read from, or a sign to the process to end
        # Whatever its kind: requests and what is below it raise more than they say. Only the kind is told, since the
        # text of such an error may hold addresses.
        if _never_left(error, body):
            raise NotConnectedError("NotConnected", f"no connection to the service ({_kind(error)})") from None
        raise ProviderIllError("NoAnswer", f"the service's answer was lost ({_kind(error)})") from None


class JsonBody(io.BytesIO):
    """A small body that knows whether it has begun to leave, and can be told not to.

    The connection is made and the headers are sent before the first read; a service that has got no more than headers
    has no request. So "never read" is the one sure sign of "never sent", whatever the network's error looks like: an
    SSL error, for one, may come from the handshake or from the answer.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._lock = threading.Lock()
        self._recalled = False
        self.left = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Give the next bytes, unless recalled."""
        with self._lock:
            if self._recalled:
                raise TimeoutError("the call's time was over before its body was sent")
            self.left = True
        return super().read(size)

    def recall(self) -> bool:
        """Keep the body from leaving; False when it has begun to."""
        with self._lock:
            self._recalled = not self.left
            return self._recalled


class FormBody:
    """A ``multipart/form-data`` body whose last field is a file, which is streamed and never held whole.

    Parameters
    ----------
    fields
        Names and values, in order, before the file.
    file
        Read from where it stands; `size` bytes are sent.
    name
        The file's name in the form: plain ASCII.

    Notes
    -----
    `TryLaterError` if the file can't be read or isn't as long as `size`; an error of ours that the file raises passes
    through.
    """

    def __init__(self, fields: Mapping[str, str], file: BinaryIO, name: str, size: int, boundary: str) -> None:
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
            for field, value in fields.items()
        )
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        self._head = io.BytesIO(head.encode())
        self._tail = io.BytesIO(f"\r\n--{boundary}--\r\n".encode())
        self._file = file
        self._left_in_file = size
        self._lock = threading.Lock()
        self._recalled = False
        self.left = False
        self.len = len(self._head.getvalue()) + size + len(self._tail.getvalue())  # requests looks for this name
        self.content_type = f"multipart/form-data; boundary={boundary}"

    def read(self, size: int | None = -1, /) -> bytes:
        """Give the next bytes of head, file and tail; all that are left where no size is given."""
        if size is None or size < 0:
            return b"".join(self)
        with self._lock:
            if self._recalled:
                raise TimeoutError("the call's time was over")
            self.left = True
        return self._head.read(size) or self._of_file(size) or self._tail.read(size)

    def recall(self) -> bool:
        """Stop sending; an upload that is cut leaves nothing behind, so that this is always so."""
        with self._lock:
            self._recalled = True
            return not self.left

    def __iter__(self) -> FormBody:
        return self

    def __next__(self) -> bytes:
        if chunk := self.read(64 * 1024):
            return chunk
        raise StopIteration

    def _of_file(self, most: int) -> bytes:
        if not self._left_in_file:
            return b""
        try:
            chunk = self._file.read(min(most, self._left_in_file))
        except PortraitcastError:
            raise
        except Exception:  # noqa: BLE001 - whatever kind of file it is, its trouble is none of the network's
            raise TryLaterError("the file to be uploaded could not be read") from None
        if not isinstance(chunk, bytes) or not chunk:
            raise TryLaterError("the file to be uploaded is shorter than it was said to be")
        self._left_in_file -= len(chunk)
        return chunk


class _Auth(AuthBase):
    """The API key as a header, or nothing. As requests' own `auth`, so that a .netrc can't put another in its place."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _TooLongError(OSError):
    """The answer is longer than any answer of the service."""


class _Session(requests.Session):
    """A session that doesn't look at redirects: requests reads the whole body of one even if told not to follow it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Find none."""


def new_session() -> requests.Session:
    """Return a session that sends nothing twice and neither follows nor reads redirects."""
    session = _Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=0))  # never sent again by a library
    return session


def _read(ask: Callable[[], requests.Response]) -> RawAnswer:
    with closing(ask()) as response:
        content = bytearray()
        for chunk in response.iter_content(16 * 1024):
            content += chunk
            if len(content) > ANSWER_MAX_BYTES:
                raise _TooLongError
        return RawAnswer(response.status_code, response.headers.get("Retry-After"), bytes(content))


def _never_left(error: Exception, body: Body | None) -> bool:
    if body is not None:
        return not body.left and not isinstance(error, requests.ReadTimeout)
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)):
        return True
    cause: Any = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(cause, urllib3.exceptions.NewConnectionError)


def _kind(error: Exception) -> str:
    return type(error).__name__.strip("_")
