"""What the servers on this machine share: they are at 127.0.0.1 unless told, and let go of all when they end."""

from __future__ import annotations

import contextlib
import socket
import sys
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

HOST: Final = "127.0.0.1"


class LoopbackServer(ThreadingHTTPServer):
    """A server on a port of this machine (0 takes a free one) that knows its open connections."""

    daemon_threads = True

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler], host: str = HOST) -> None:
        super().__init__((host, port), handler)
        self.origin = f"http://{host}:{self.server_port}"
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show what went wrong; a client that leaves in the middle is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def is_own(self, address: str) -> bool:
        """Say whether a client is on this machine: it comes from the address that it goes to, or from loopback."""
        return address in {HOST, self.server_address[0]}

    def cut(self) -> None:
        """End the connections that are still open."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # gone by itself
                connection.shutdown(socket.SHUT_RDWR)
