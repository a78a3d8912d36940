"""The page to look at: jobs with portrait, state, report and video, as the stack's two buckets hold them.

Part of the run on one machine only. `serve` shows the jobs of a stack that runs, `still` one job in a file. The browser
gets files of the two buckets and nothing else: no credentials, no paths of this machine, and each file only as the
picture or video that it is. Names come from people, so the page writes them as text, never as HTML.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from assets import picture_asset
from loopback import LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    Report = dict[str, Any]

HTML: Final = (Path(__file__).parent / "page.html").read_text("utf-8")
SCHEMA: Final = "portraitcast.report/1"
MOST: Final = 200  # ours: jobs shown, the newest; a browser is still quick with that many
REPORT_BYTES: Final = 256 * 1024  # a report is an event's detail too (Amazon EventBridge, "PutEvents": 256 KB)
UPLOAD_BYTES: Final = 64 * 1024 * 1024  # ours: more than any file that a job takes (pictures 50 MB)
KEY_BYTES: Final = 1024  # Amazon S3, "Naming Amazon S3 objects"
LOOK_SECONDS: Final = 0.5  # ours: however many browsers ask, the buckets are looked at no more often
REST: Final = 4  # ours: looks at a full bucket take a fifth of the time at most; the rest is the stack's
CHUNK: Final = 64 * 1024
SHA256: Final = re.compile("[0-9a-f]{64}")
FOR_EVER: Final = "private, max-age=86400, immutable"  # the link names the version, so the content never changes
PICTURES: Final = {  # the beginning of a file → its type
    rb"\x89PNG\r\n\x1a\n": "image/png",
    rb"\xff\xd8\xff": "image/jpeg",
    rb"BM": "image/bmp",
    rb"RIFF....WEBP": "image/webp",
    rb"GIF8[79]a": "image/gif",
    rb"....ftypavi[fs]": "image/avif",
}


# ---------------------------------------------------------------- What the page shows


def policy(files: str) -> str:
    """Return the Content-Security-Policy: the page's own script and style, and pictures and videos from `files`."""
    hashes = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(f"<{tag}>(.*?)</{tag}>", HTML, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; img-src {files} data:; "
        f"media-src {files}; connect-src 'self'; base-uri 'none'; form-action 'none'"
    )


def picture_type(start: bytes) -> str | None:
    """Return the type of a picture by its first 12 bytes, None if it is none that a browser may be given."""
    return next((kind for mark, kind in PICTURES.items() if re.match(mark, start, re.DOTALL)), None)


def still(report: Report, portrait: str, video: str) -> str:
    """Return the page as one file that shows one finished job.

    Parameters
    ----------
    portrait, video
        Names of the two files that lie beside the page.
    """
    links = {name: f"./{quote(os.fsencode(file))}" for name, file in (("portrait", portrait), ("video", video))}
    job = json.dumps({"total": 1, "jobs": [{"report": report, **links}]}).replace("<", "\\u003c")
    allowed = policy("'self' file:")  # for a page that is a file itself, browsers don't agree on 'self'
    meta = f'<meta http-equiv="Content-Security-Policy" content="{allowed}">'
    page = HTML.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{meta}', 1)
    return page.replace('id="still"></script>', f'id="still">{job}</script>', 1)


def shown(report: Report) -> dict[str, Any]:
    """Return a report with links to its portrait and its video, None where there is none in the buckets."""
    portrait, video = report["inputs"]["portrait"] or {}, report["video"]
    query = {name: portrait.get(name) or "" for name in ("key", "version", "sha256")}
    return {
        "report": report,
        "portrait": f"/portrait?{urlencode(query)}" if portrait.get("key") else None,
        "video": f"/video?{urlencode({'key': video['key'], 'sha256': video['sha256']})}" if video else None,
    }


def read(content: bytes) -> dict[str, Any] | None:
    """Return what the page shows of a report; None for any other JSON that lies in the results bucket."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")  # Python reads NaN, browsers don't

    try:
        report = json.loads(content, parse_constant=refuse)
        known = report["schema"] == SCHEMA and isinstance(report["name"], str)
        (report["inputs"].get("voice") or {}).get("version")  # what jobs are told apart by must be there to be read
        return shown(report) if known else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


class Jobs:
    """The newest jobs, read from the results bucket.

    A look lists the bucket and reads the reports that changed since the last one.
    """

    def __init__(self, s3: Any, upload_bucket: str, results_bucket: str) -> None:
        self._s3, self._results = s3, results_bucket
        self._place = {
            "upload_bucket": upload_bucket,
            "results_bucket": results_bucket,
            "endpoint_url": s3.meta.endpoint_url,
        }
        self._lock = threading.Lock()
        self._read: dict[str, tuple[str, dict[str, Any] | None]] = {}
        self._since: dict[tuple[str, str], str] = {}
        self._body, self._good_until = b"", 0.0

    def body(self) -> bytes:
        """Return the jobs as JSON, newest first: ``total``, ``jobs`` of `shown`, and where to drop files."""
        with self._lock:
            started = time.monotonic()
            if started >= self._good_until:
                total, jobs = self._look()
                self._body = json.dumps({**self._place, "total": total, "jobs": jobs}).encode()
                ended = time.monotonic()
                self._good_until = max(started + LOOK_SECONDS, ended + REST * (ended - started))
            return self._body

    def _look(self) -> tuple[int, list[dict[str, Any]]]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._results)
        found = [item for page in pages for item in page.get("Contents", []) if item["Key"].endswith(".json")]
        newest = sorted(found, key=lambda item: item["LastModified"], reverse=True)[:MOST]
        self._read = {item["Key"]: (item["ETag"], self._entry(item)) for item in newest}
        jobs = [job for _, job in self._read.values() if job]
        # A job keeps its place while it goes through its states; new bytes of its voice make it the newest again.
        self._since = {self._identity(job): self._since.get(self._identity(job), self._as_of(job)) for job in jobs}
        jobs.sort(key=lambda job: (self._since[self._identity(job)], str(job["report"]["name"])), reverse=True)
        return len(found), jobs

    def _entry(self, item: dict[str, Any]) -> dict[str, Any] | None:
        etag, entry = self._read.get(item["Key"], (None, None))
        if etag == item["ETag"]:
            return entry
        if item["Size"] > REPORT_BYTES:
            return None
        try:
            return read(self._s3.get_object(Bucket=self._results, Key=item["Key"])["Body"].read())
        except (self._s3.exceptions.NoSuchKey, self._s3.exceptions.InvalidObjectState):
            return None  # deleted since it was listed, or in an archive class

    @staticmethod
    def _identity(job: dict[str, Any]) -> tuple[str, str]:
        voice = job["report"]["inputs"].get("voice") or {}
        return str(job["report"].get("job")), str(voice.get("version"))

    @staticmethod
    def _as_of(job: dict[str, Any]) -> str:
        return str(job["report"].get("as_of"))


# ---------------------------------------------------------------- The server


class Server(LoopbackServer):
    """The page's server, with what its handlers need; on a free port where the wished one is taken."""

    def __init__(self, s3: Any, upload_bucket: str, results_bucket: str, work_bucket: str, port: int = 0) -> None:
        try:
            super().__init__(port, Handler)
        except OSError:
            super().__init__(0, Handler)
        self.s3, self.upload_bucket, self.results_bucket = s3, upload_bucket, results_bucket
        self.work_bucket = work_bucket
        self.jobs = Jobs(s3, upload_bucket, results_bucket)
        self.policy = policy("'self'") + "; frame-ancestors 'none'"


class Handler(BaseHTTPRequestHandler):
    """Answers ``/``, ``/jobs``, ``/portrait?key=…``, ``/video?key=…``, and takes files at ``/upload?key=…``."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds; a browser asks again for the rest of a video that it has paused

    def do_GET(self) -> None:
        """Give the page, the jobs, or a file."""
        routes = {"/": self._page, "/jobs": self._jobs, "/portrait": self._portrait, "/video": self._video}
        self._route(routes)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def do_PUT(self) -> None:
        """Take a file for the upload bucket."""
        self._route({"/upload": self._upload})

    def version_string(self) -> str:
        """Name the server, without its Python."""
        return "portraitcast"

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal is for the run."""

    def _route(self, routes: dict[str, Any]) -> None:
        host, port = self.headers.get("Host", ""), self.server.server_port
        if host not in {f"127.0.0.1:{port}", f"localhost:{port}"}:
            # else any web site could read this page under a name of its own that leads to 127.0.0.1
            self._say(403, "This page answers at 127.0.0.1 and localhost only.")
            return
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, errors="strict", max_num_fields=5))
            route = routes.get(parts.path)
        except ValueError:
            self._say(400, "This address can't be read.")
            return
        if not route:
            self._say(404, "There is nothing here.")
            return
        try:
            route(query)
        except ClientError as error:
            status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
            ours = status not in {400, 404, 416} or code == "NoSuchBucket"
            self._say(502 if ours else status, f"The stack said: {code}")
        except BotoCoreError:
            self._say(502, "The stack doesn't answer.")

    def _page(self, _: dict[str, str]) -> None:
        self._answer(200, "text/html; charset=utf-8", HTML.encode(), {"Cache-Control": "no-cache"})

    def _jobs(self, _: dict[str, str]) -> None:
        body = self.server.jobs.body()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"Cache-Control": "no-cache", "ETag": etag}
        if self.headers.get("If-None-Match") == etag:
            self._start(304, headers)
        else:
            self._answer(200, "application/json", body, headers)

    def _portrait(self, query: dict[str, str]) -> None:
        """Send a portrait, or, of a kind that browsers don't know, what prepare has made of it."""
        key, version = query.get("key"), {"VersionId": query["version"]} if query.get("version") else {}
        if key and self._send_picture(self.server.s3.get_object(Bucket=self.server.upload_bucket, Key=key, **version)):
            return
        sha256 = query.get("sha256", "")
        asset = picture_asset(self.server.s3, self.server.work_bucket, sha256) if SHA256.fullmatch(sha256) else None
        if not asset or not self._send_picture(self.server.s3.get_object(Bucket=self.server.work_bucket, Key=asset)):
            self._say(404, "This is no picture.")

    def _send_picture(self, found: dict[str, Any]) -> bool:
        """Send an object that is a picture for a browser; False, and nothing sent, for any other."""
        with contextlib.closing(found["Body"]) as body:
            start = body.read(12)
            kind = picture_type(start)
            if kind:
                headers = {"Content-Length": str(found["ContentLength"]), "Cache-Control": FOR_EVER}
                self._start(200, {"Content-Type": kind, **headers})
                self._send(start, body)
        return kind is not None

    def _video(self, query: dict[str, str]) -> None:
        key = query.get("key", "")
        if not key.endswith(".mp4"):
            self._say(404, "This is no video.")
            return
        wanted = self._range()
        found = self.server.s3.get_object(Bucket=self.server.results_bucket, Key=key, **wanted)
        if wanted and self.headers.get("If-Range", found["ETag"]) != found["ETag"]:
            found["Body"].close()
            wanted, found = {}, self.server.s3.get_object(Bucket=self.server.results_bucket, Key=key)
        with contextlib.closing(found["Body"]) as body:
            headers = {
                "Content-Type": "video/mp4",
                "Content-Length": str(found["ContentLength"]),
                "Accept-Ranges": "bytes",
                "ETag": found["ETag"],
                "Cache-Control": FOR_EVER,
            }
            if wanted:
                headers["Content-Range"] = found["ContentRange"]
            self._start(206 if wanted else 200, headers)
            self._send(b"", body)

    def _range(self) -> dict[str, str]:
        """Return the one range that is asked for, as S3 takes it; what isn't one is ignored (RFC 9110, 14.2)."""
        wanted = self.headers.get("Range", "").strip()
        return {"Range": wanted} if re.fullmatch(r"bytes=(\d+-\d*|-\d+)", wanted, re.ASCII) else {}

    def _upload(self, query: dict[str, str]) -> None:
        self.close_connection = True  # whatever of a refused file is still on its way
        key, length = query.get("key", ""), self.headers.get("Content-Length", "")
        if self.headers.get("Origin") != f"http://{self.headers['Host']}":
            self._say(403, "Files are taken from this page only.")
        elif not 0 < len(key.encode()) <= KEY_BYTES:
            self._say(400, f"A name has 1 to {KEY_BYTES} bytes, with its folder.")
        elif not re.fullmatch(r"\d{1,18}", length, re.ASCII):
            self._say(411, "The length of the file is missing.")
        elif int(length) > UPLOAD_BYTES:
            self._say(413, f"The file is larger than {UPLOAD_BYTES // 1024**2} MB.")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):  # else the browser hung up
                self.server.s3.put_object(Bucket=self.server.upload_bucket, Key=key, Body=body)
                self._answer(201, "text/plain; charset=utf-8", b"")

    def _say(self, status: int, sentence: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", f"{sentence}\n".encode(), {"Cache-Control": "no-store"})

    def _answer(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._start(status, {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, start: bytes, rest: Any) -> None:
        """Send a file of which `start` has been read already."""
        if self.command == "HEAD":
            return
        self.wfile.write(start)
        try:
            for chunk in rest.iter_chunks(CHUNK):
                self.wfile.write(chunk)
        except BotoCoreError:
            self.close_connection = True  # too late for another answer; the length tells the browser


@contextlib.contextmanager
def serve(s3: Any, upload_bucket: str, results_bucket: str, work_bucket: str, port: int = 0) -> Iterator[str]:
    """Serve the page of a stack; yield its address.

    Parameters
    ----------
    s3
        A boto3 client that may list and read the results bucket, read the upload bucket, put into it, and list
        and read the work bucket.
    port
        The one to listen on, if nobody else does.
    """
    with Server(s3, upload_bucket, results_bucket, work_bucket, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="page", daemon=True)
        thread.start()
        try:
            yield f"{server.origin}/"
        finally:
            server.shutdown()
            server.cut()
            thread.join()
