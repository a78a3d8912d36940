"""The simulator as an HTTP server: the API, its storage, the results' links, and the control address."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import select
import ssl
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl, quote, urlsplit

from loopback import HOST, LoopbackServer
from simulator import api
from simulator.account import Account, Settings
from simulator.errors import ApiError
from simulator.faults import spoil
from simulator.storage import MIB, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from simulator.render import Video

LARGEST_BODY: Final = 1_048_576  # ours; a create is a few kB
CHUNK: Final = 65_536
UPLOADS: Final = "/storage"


class Links:
    """Makes and checks the presigned links of results, shaped like those of the service's storage."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._secret = secrets.token_bytes(16)

    def make(self, origin: str, task_id: str) -> str:
        """Link to a task's video at one of this server's origins, alive from now on for ``link_seconds``."""
        expires = str(int(self._account.now() + self._account.settings.link_seconds))
        signature = quote(self._sign(task_id, expires), safe="")
        return f"{origin}/results/{task_id}.mp4?Expires={expires}&OSSAccessKeyId=LTAI-simulator&Signature={signature}"

    def trouble(self, task_id: str, query: dict[str, str]) -> str | None:
        """Say what is wrong with a link's query, None if nothing is."""
        expires = query.get("Expires", "")
        if not hmac.compare_digest(self._sign(task_id, expires).encode(), query.get("Signature", "").encode()):
            return "SignatureDoesNotMatch"
        return "AccessDenied" if self._account.now() > float(expires) else None

    def _sign(self, task_id: str, expires: str) -> str:
        digest = hmac.new(self._secret, f"{task_id} {expires}".encode(), hashlib.sha1).digest()
        return base64.b64encode(digest).decode()


class Server(LoopbackServer):
    """Takes hundreds of connections at once and lets go of all of them when it closes."""

    request_queue_size = 1024

    def __init__(
        self,
        port: int,
        account: Account,
        host: str = HOST,
        certificate: tuple[Path, Path] | None = None,
        also_named: str | None = None,
    ) -> None:
        super().__init__(port, Handler, host)
        self._also_named = also_named
        self._scheme = "http://"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake is made in the connection's own thread: one that never comes holds up nobody else.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self._scheme = "https://"
            self.origin = self.origin.replace("http://", self._scheme)
        self.account = account
        self.links = Links(account)
        self.api = api.Api(account, self.links.make, UPLOADS)
        self.own_names = {f"{name}:{self.server_port}" for name in (HOST, "localhost", host)}
        self.closing = threading.Event()

    def is_own_origin(self, origin: str) -> bool:
        """Say whether an ``Origin`` is this server's."""
        return origin.lower() in {self._scheme + name for name in self.own_names}

    def origin_for(self, host: str) -> str:
        """Return the origin for links in the answer to a request whose ``Host`` is given.

        Containers that know this machine by a name get links with that name, and nobody else does.
        """
        by_name = f"{self._also_named}:{self.server_port}"
        return self._scheme + by_name if self._also_named and host.lower() == by_name else self.origin

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show what went wrong, but not a handshake that a client gave up."""
        if not isinstance(sys.exception(), ssl.SSLError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop serving and cut what is still open."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        self.cut()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "emo-simulator"
    disable_nagle_algorithm = True
    wbufsize = CHUNK  # an answer leaves in one piece
    timeout = 75  # s without a request before a kept connection is closed

    def do_GET(self) -> None:
        """Answer a request of any method."""
        path = urlsplit(self.path).path
        settings = self.server.account.settings
        body = self._read(settings.upload_max_mb * MIB + LARGEST_BODY if path == UPLOADS else LARGEST_BODY)
        if body is None:
            return
        if path.startswith("/control/"):
            trouble = self._not_ours(body)
            if trouble:
                self._json(403, {"message": trouble})
            else:
                self._json(*control(self.server.account, self.command, path, body))
        elif path == UPLOADS:
            self._upload(body)
        elif path.startswith("/results/"):
            self._result(path)
        else:
            self._call(path, body)

    do_POST = do_DELETE = do_PUT = do_HEAD = do_GET  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep silent; ``/control/state`` tells."""

    def _not_ours(self, body: bytes) -> str | None:
        """Say why a call of the control address may come from elsewhere, or from a page in a browser; None if it can't.

        A page of another site can post to this address, and by a name of its own that leads here (DNS rebinding) read
        the answers too. A browser tells both: in ``Host``, ``Origin`` and ``Sec-Fetch-Site``.
        """
        if not self.server.is_own(self.client_address[0]):
            return "the control address asks for no key: it answers this machine alone"  # not its containers
        if self.headers.get("Host", "").lower() not in self.server.own_names:
            return f"the control address is reached as one of {sorted(self.server.own_names)}"
        origin = self.headers.get("Origin")
        if origin is not None and not self.server.is_own_origin(origin):
            return "the control address takes nothing from pages of other sites"
        if self.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            return "the control address takes nothing from pages of other sites"
        content_type = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if body and content_type != "application/json":
            return "the control address takes application/json"
        return None

    def _read(self, most: int) -> bytes | None:
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not length.isdecimal() or int(length) > most:
            self.close_connection = True
            self._json(*api.refusal(ApiError(400, "InvalidParameter", "A body of known, small length is expected.")))
            return None
        return self.rfile.read(int(length))

    def _query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))

    def _call(self, path: str, body: bytes) -> None:
        found = api.route(self.command, path)
        if found is None:
            self._json(*api.refusal(ApiError(404, "InvalidParameter.NotFound", "There is no such call.")))
            return
        endpoint, task_id = found
        account = self.server.account
        account.count(endpoint)
        origin = self.server.origin_for(self.headers.get("Host", ""))
        call = api.Call(endpoint, task_id, self.headers, self._query(), body, origin)
        text = body.decode("utf-8", "replace")
        action = account.faults.take("http", endpoint, task_id, text)

        def effect() -> Callable[[], None]:
            status, answer = self.server.api.answer(call)
            odd = account.faults.take("answer", endpoint, task_id, text)
            return partial(self._content, status, spoil(odd, answer)) if odd else partial(self._json, status, answer)

        self._misbehave(action, effect)

    def _upload(self, body: bytes) -> None:
        """Answer a form of the temporary storage: XML where it is refused, as Alibaba Cloud OSS does."""
        account = self.server.account
        account.count("upload")

        def store() -> tuple[int, str]:
            try:
                return self._store(body), ""
            except StorageError as error:
                return error.status, (
                    f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n  <Code>{error.code}</Code>\n'
                    f"  <Message>{error.message}</Message>\n  <RequestId>{secrets.token_hex(12).upper()}</RequestId>\n"
                    "</Error>\n"
                )

        def effect() -> Callable[[], None]:
            status, page = store()
            content = page.encode()
            return partial(self._send, status, {"Content-Type": "application/xml"}, [content], len(content))

        self._misbehave(account.faults.take("http", "upload", None, body[:4096].decode("utf-8", "replace")), effect)

    def _store(self, body: bytes) -> int:
        account = self.server.account
        if self.command != "POST":
            raise StorageError(405, "MethodNotAllowed", "The specified method is not allowed.")
        if self.headers.get("Authorization"):
            raise StorageError(400, "InvalidArgument", "A form brings its signature, and no other key.")
        with account.changed:
            status, _ = account.storage.take(self.headers.get("Content-Type", ""), body)
            account.changed.notify_all()
        return status

    def _misbehave(self, action: dict[str, Any] | None, effect: Callable[[], Callable[[], None]]) -> None:
        """Let a call take effect and send the answer that this gives, or do what a fault's action says instead."""
        action = action or {"delay": 0}
        if "delay" in action:
            self.server.closing.wait(action["delay"])
            effect()()
            return
        if action["effect"] or action.get("close") == "after":
            effect()
        if "status" in action:
            self._error(action)
            return
        self.close_connection = True
        if "hang" in action:
            # Readable means that the client has left: nobody sends a second request before the first's answer.
            left = select.poll()
            left.register(self.connection, select.POLLIN)
            while not self.server.closing.is_set() and not left.poll(100):
                pass

    def _error(self, action: dict[str, Any]) -> None:
        body = action.get("body", {"code": "SystemError", "message": "A fault on request.", "request_id": "fault"})
        given = dict(action.get("headers") or {})
        if isinstance(body, str):
            content, headers = body.encode(), {"Content-Type": "text/html; charset=utf-8"} | given
        else:
            content, headers = json.dumps(body).encode(), {"Content-Type": "application/json"} | given
        self._send(action["status"], headers, [content], len(content))

    def _json(self, status: int, answer: dict[str, Any]) -> None:
        try:
            content = json.dumps(answer, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # half a surrogate pair, which only an escape can carry
            content = json.dumps(answer).encode()
        self._content(status, content)

    def _content(self, status: int, content: bytes) -> None:
        self._send(status, {"Content-Type": "application/json; charset=utf-8"}, [content], len(content))

    def _send(self, status: int, headers: dict[str, str], parts: Iterator[bytes] | list[bytes], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            for part in parts:
                self.wfile.write(part)
                self.wfile.flush()

    # Results

    def _result(self, path: str) -> None:
        account = self.server.account
        task_id = path.removeprefix("/results/").removesuffix(".mp4")
        account.count("result")
        with account.changed:
            task = account.tasks.get(task_id)
        text = task.text if task else ""
        action = account.faults.take("http", "result", task_id, text)
        self._misbehave(action, lambda: partial(self._video, task_id, text))

    def _video(self, task_id: str, text: str) -> None:
        account = self.server.account
        trouble = "MethodNotAllowed" if self.command != "GET" else self.server.links.trouble(task_id, self._query())
        video = account.result(task_id)
        if trouble or video is None:
            status = 405 if trouble == "MethodNotAllowed" else 403 if trouble else 404
            page = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{trouble or "NoSuchKey"}</Code></Error>\n'
            self._send(status, {"Content-Type": "application/xml"}, [page.encode()], len(page))
            return
        fault = account.faults.take("results", "result", task_id, text)
        if fault is None:
            self._file(video)
        else:
            self._wrong_video(fault["results"], video)

    def _file(self, video: Video) -> None:
        content = video.path.read_bytes()
        self._send(200, {"Content-Type": "video/mp4"}, [content], len(content))

    def _wrong_video(self, wish: str | dict[str, Any], video: Video) -> None:
        kind, value = (wish, None) if isinstance(wish, str) else next(iter(wish.items()))
        content = video.path.read_bytes()
        headers = {"Content-Type": "video/mp4"}
        if kind == "html":
            page = b"<html><body>Service temporarily unavailable</body></html>"
            self._send(200, {"Content-Type": "text/html"}, [page], len(page))
        elif kind == "truncated":
            self.close_connection = True
            self._send(200, headers, [content[: len(content) // 2]], len(content))
        elif kind == "wrong_length":
            half = content[: len(content) // 2]
            self._send(200, headers, [half], len(half))
        elif kind == "redirect":
            self._send(302, {"Location": str(value)}, [], 0)
        elif kind == "too_large":
            size = int(value or 1 << 30)
            self.close_connection = True
            self._send(200, headers, (bytes(min(CHUNK, size - at)) for at in range(0, size, CHUNK)), size)
        elif kind == "drip":
            self.close_connection = True
            self._send(200, headers, self._drops(content, float(value or 1000)), len(content))
        elif kind == "video":
            asked: dict[str, Any] = {"seconds": 1.0, "width": 512, "height": 512} | dict(value or {})
            self._file(self.server.account.other_video(**asked))
        else:
            raise AssertionError(f"a rule with results {wish!r} should have been refused")

    def _drops(self, content: bytes, rate: float) -> Iterator[bytes]:
        """Cut a file into tenths of a second at so many bytes a second."""
        step = max(1, int(rate / 10))
        for at in range(0, len(content), step):
            if self.server.closing.wait(step / rate):
                return
            yield content[at : at + step]


def control(account: Account, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Answer a call of the control address; see the package's docstring."""
    try:
        wish = json.loads(body or b"{}")
        if not isinstance(wish, dict):
            raise ValueError("a JSON object is expected")  # noqa: TRY004, TRY301 - one way out for every bad wish
        answer = _control(account, method, path, wish)
    except (ValueError, TypeError) as error:
        return 400, {"message": str(error)}
    return (404, {"message": f"there is no {method} {path}"}) if answer is None else (200, answer)


def _control(account: Account, method: str, path: str, wish: dict[str, Any]) -> dict[str, Any] | None:
    match (method, *path.strip("/").split("/")[1:]):
        case ("GET", "state"):
            return account.state()
        case ("POST", "settings"):
            account.set(wish)
        case ("POST", "faults"):
            return {"id": account.faults.add(wish)}
        case ("DELETE", "faults"):
            account.faults.clear()
        case ("POST", "account"):
            account.set_trouble(str(wish.get("state")))
        case ("POST", "finish-all"):
            return {"finished": account.finish()}
        case ("POST", "tasks", task_id, "finish"):
            return {"finished": account.finish(task_id)}
        case ("POST", "reset"):
            account.reset()
        case _:
            return None
    return {}


class Simulator:
    """The simulator within a test: a context manager.

    Parameters
    ----------
    port : int
        0 takes a free one.
    host : str
        The address that it is bound to; links to videos and to its storage carry it.
    certificate : tuple[Path, Path] | None
        Files of a certificate for that address and of its private key: it speaks HTTPS then, as the service does.
    also_named : str | None
        What containers call that address, where only they know the name: who asks by it gets links with it, and links
        to it are fetched from that address.
    settings
        Any field of ``simulator.account.Settings``.

    Examples
    --------
    >>> with Simulator(task_seconds=0.5) as sim:
    ...     sim.fault({"status": 500}, endpoint="create")
    ...     sim.base_url
    """

    def __init__(
        self,
        port: int = 0,
        host: str = HOST,
        certificate: tuple[Path, Path] | None = None,
        also_named: str | None = None,
        **settings: Any,
    ) -> None:
        self.account = Account(Settings(**settings), {also_named: host} if also_named else {})
        self._server = Server(port, self.account, host, certificate, also_named)
        self.base_url = self._server.origin + api.BASE
        self.control_url = self._server.origin + "/control"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._thread.join()
        self.account.close()

    def state(self) -> dict[str, Any]:
        """Give what ``GET /control/state`` answers."""
        return self.account.state()

    def set(self, **settings: Any) -> None:
        """Change settings."""
        self.account.set(settings)

    def fault(
        self,
        action: dict[str, Any],
        *,
        endpoint: str = "any",
        times: int | None = 1,
        probability: float = 1.0,
        match: dict[str, Any] | None = None,
    ) -> int:
        """Add a fault rule and give its id."""
        return self.account.faults.add(
            {"endpoint": endpoint, "times": times, "probability": probability, "match": match, "action": action}
        )

    def clear_faults(self) -> None:
        """Drop every fault rule."""
        self.account.faults.clear()

    def trouble(self, state: str) -> None:
        """Put the account into a state; ``ok`` ends it."""
        self.account.set_trouble(state)

    def finish(self, task_id: str | None = None) -> list[str]:
        """Let one task end that ``manual`` holds back, or all."""
        return self.account.finish(task_id)

    def reset(self) -> None:
        """Return to how it started."""
        self.account.reset()

    def wait_for(self, happened: Callable[[dict[str, Any]], bool], seconds: float = 10) -> dict[str, Any]:
        """Wait until the state is as wished, and give it.

        Raises
        ------
        TimeoutError
            If it isn't within that many seconds.
        """
        deadline = time.monotonic() + seconds
        with self.account.changed:
            while not happened(state := self.account.state()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"not within {seconds} s; last state: {state}")
                self.account.changed.wait(left)
        return state
