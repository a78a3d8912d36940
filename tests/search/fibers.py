"""Functions that run beside each other, one at a time: each may stop at an outside call and go on later."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Died(BaseException):
    """The function's process is gone: nothing of ours may catch it."""


class Fiber:
    """One run of a function. It has a thread of its own, which only moves while somebody waits in `resume`."""

    def __init__(self, body: Callable[[], None], name: str, ends_at: float) -> None:
        self.name = name
        self.ends_at = ends_at  # when Lambda kills it
        self.calls: list[str] = []  # the outside calls that it made
        self.listed: dict[str, int] = {}  # prefixes, and how many changes of the bucket a listing of each has seen
        self.done = False
        self.killed = False
        self._body = body
        self._error: BaseException | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def resume(self) -> None:
        """Let it run until it ends or stops; raises what it ended with."""
        if not self._thread.ident:
            self._thread.start()
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def stop(self) -> None:
        """Give the turn back; called by the fiber itself. Goes on with `resume`."""
        self._back.release()
        self._go.acquire()
        if self.killed:
            raise Died

    def kill(self) -> None:
        """End it where it stands."""
        if not self.done:
            self.killed = True
            self.resume()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self.killed:
                self._body()
        except Died:
            pass
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits
            self._error = error
        self.done = True
        self._back.release()
