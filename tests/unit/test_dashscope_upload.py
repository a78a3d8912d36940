"""The service's temporary storage: a policy is fetched, a form is posted, and no failure of it has paid anything."""

from __future__ import annotations

import io
import json
import re
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.adapters.dashscope import (
    AccountError,
    JobRefusedError,
    NotConnectedError,
    ProviderError,
    ProviderIllError,
    ThrottledError,
)
from portraitcast.adapters.dashscope import client as dashscope_client
from portraitcast.domain.models import MODELS
from portraitcast.errors import NotFoundError, PortraitcastError, TryLaterError
from unit.dashscope_wire import BASE, FIXED, KEY, client, refusal, said

if TYPE_CHECKING:
    from email.message import Message

EMO = MODELS["emo-v1"]
FILE = b"RIFF\r\n--boundary\x00\xff" * 5000
POLICY = {
    "policy": "eyJleHBpcmF0aW9uIjoi",
    "signature": "g5K0OKrFHzVlPXo=",
    "upload_dir": "dashscope-instant/abc/2026-11-25/0e5f",
    "upload_host": "https://storage.example",
    "expire_in_seconds": 300,
    "max_file_size_mb": 100,
    "oss_access_key_id": "LTAI5t",
    "x_oss_object_acl": "private",
    "x_oss_forbid_overwrite": "true",
}
OVER = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n  <Code>AccessDenied</Code>\n'
    b"  <Message>Invalid according to Policy: Policy expired.</Message>\n  <RequestId>66F0</RequestId>\n</Error>"
)
STORED = said(200, b"")


def policy(**fields: Any) -> tuple[int, bytes, dict[str, str]]:
    data = {name: value for name, value in (POLICY | fields).items() if value is not None}
    return said(200, {"request_id": "r-1", "data": data})


def xml(code: str, message: str = "no") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def parts_of(request: requests.PreparedRequest, body: bytes) -> list[Message]:
    content_type = request.headers["Content-Type"].encode()
    parsed = message_from_bytes(b"Content-Type: " + content_type + b"\r\n\r\n" + body)
    parts = parsed.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if not isinstance(part, str)]


def named(part: Message) -> str:
    return str(part.get_param("name", header="content-disposition"))


def content(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def test_a_policy_and_a_form() -> None:
    service, wire = client(policy(), STORED)
    link = service.upload(EMO, io.BytesIO(FILE), "acme/Línea 01.MP3", len(FILE))
    fetched, posted = wire.sent
    assert (fetched.method, fetched.url) == ("GET", f"{BASE}/uploads?action=getPolicy&model=emo-v1")
    assert fetched.headers["Authorization"] == f"Bearer {KEY}"
    assert (posted.method, posted.url) == ("POST", "https://storage.example/")
    parts = parts_of(posted, wire.bodies[1])
    fields = {named(part): content(part) for part in parts}
    key = fields["key"].decode()
    assert re.fullmatch(r"dashscope-instant/abc/2026-11-25/0e5f/[0-9a-f]{32}\.mp3", key)
    assert link == f"oss://{key}"
    assert [named(part) for part in parts][-1] == "file"
    assert fields == {
        "OSSAccessKeyId": b"LTAI5t",
        "Signature": b"g5K0OKrFHzVlPXo=",
        "policy": b"eyJleHBpcmF0aW9uIjoi",
        "x-oss-object-acl": b"private",
        "x-oss-forbid-overwrite": b"true",
        "key": key.encode(),
        "success_action_status": b"200",
        "file": FILE,
    }
    assert posted.headers["Content-Length"] == str(len(wire.bodies[1]))


def test_no_key_and_no_name_go_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine storage.example login me password other")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    service, wire = client(policy(), STORED)
    service.upload(EMO, io.BytesIO(FILE), "acme/anna.png", len(FILE))
    posted = wire.sent[1]
    assert "Authorization" not in posted.headers
    assert KEY.encode() not in wire.bodies[1]
    assert b"anna" not in wire.bodies[1]
    assert "X-DashScope-Async" not in posted.headers


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.png", ".png"), ("a.b.WAV", ".wav"), ("a", ""), ("a.", ""), ("a.p\r\ng", ""), ('a."x', ""), ("a.p/ng", "")],
)
def test_only_a_plain_suffix_is_kept(name: str, suffix: str) -> None:
    service, _ = client(policy(), STORED)
    link = service.upload(EMO, io.BytesIO(b"x"), name, 1)
    assert re.fullmatch(r"oss://[a-z0-9/-]+/[0-9a-f]{32}" + re.escape(suffix), link)


def test_the_check_s_model_is_named_by_itself() -> None:
    service, wire = client(policy(), STORED)
    service.upload(EMO.check_model, io.BytesIO(b"x"), "a.png", 1)
    assert str(wire.sent[0].url).endswith("model=emo-detect-v1")


def test_an_empty_file_is_sent() -> None:
    service, wire = client(policy(), STORED)
    service.upload(EMO, io.BytesIO(b""), "a.wav", 0)
    assert content(parts_of(wire.sent[1], wire.bodies[1])[-1]) == b""


def test_two_uploads_never_share_a_name() -> None:
    service, _ = client(policy(), STORED, policy(), STORED)
    assert len({service.upload(EMO, io.BytesIO(b"x"), "a.png", 1) for _ in range(2)}) == 2


def test_a_file_is_sent_from_where_it_stands() -> None:
    file = io.BytesIO(b"head" + FILE)
    file.seek(4)
    service, wire = client(policy(), said(403, OVER), policy(), STORED)
    service.upload(EMO, file, "a.wav", len(FILE))
    assert content(parts_of(wire.sent[3], wire.bodies[3])[-1]) == FILE


# What goes wrong


def test_an_expired_policy_is_fetched_anew() -> None:
    fresh = policy(upload_dir="dashscope-instant/abc/2026-11-25/fresh")
    service, wire = client(policy(), said(403, OVER), fresh, STORED)
    link = service.upload(EMO, io.BytesIO(FILE), "a.wav", len(FILE))
    assert "/fresh/" in link
    assert [request.method for request in wire.sent] == ["GET", "POST", "GET", "POST"]
    assert content(parts_of(wire.sent[3], wire.bodies[3])[-1]) == FILE


def test_a_policy_that_is_always_expired_is_an_illness() -> None:
    service, wire = client(policy(), said(403, OVER), policy(), said(403, OVER))
    with pytest.raises(ProviderIllError, match="Policy expired") as caught:
        service.upload(EMO, io.BytesIO(FILE), "a.wav", len(FILE))
    assert (caught.value.http_status, caught.value.request_id) == (403, "66F0")
    assert len(wire.sent) == 4


class Stream(io.RawIOBase):
    """An HTTP answer: it can be read once."""

    def __init__(self, *chunks: Any) -> None:
        self._chunks = list(chunks)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> Any:  # noqa: ARG002 - a whole chunk at a time
        chunk = self._chunks.pop(0) if self._chunks else b""
        if isinstance(chunk, Exception):
            raise chunk
        return chunk


def test_a_stream_cannot_be_sent_twice() -> None:
    stream: Any = Stream(b"abc")
    service, wire = client(policy(), said(403, OVER))
    with pytest.raises(ProviderIllError, match="Policy expired"):
        service.upload(EMO, stream, "a.wav", 3)
    assert len(wire.sent) == 2


class Once(io.BytesIO):
    """A file that says that it can seek, and can't."""

    def __init__(self, *, tells: bool) -> None:
        super().__init__(b"abc")
        self._tells = tells

    def tell(self) -> int:
        if not self._tells:
            raise OSError("no")
        return super().tell()

    def seek(self, *_: object) -> int:
        raise OSError("no")


@pytest.mark.parametrize("tells", [True, False])
def test_a_file_that_cannot_go_back_is_sent_once(*, tells: bool) -> None:
    service, wire = client(policy(), said(403, OVER))
    with pytest.raises(ProviderIllError, match="Policy expired"):
        service.upload(EMO, Once(tells=tells), "a.wav", 3)
    assert len(wire.sent) == 2


@pytest.mark.parametrize("megabytes", [1, "1", 1.0])
def test_a_file_over_the_policy_s_size_is_not_sent(megabytes: Any) -> None:
    service, wire = client(policy(max_file_size_mb=megabytes))
    with pytest.raises(JobRefusedError, match="1048576 at most") as caught:
        service.upload(EMO, io.BytesIO(b""), "a.wav", 1_048_577)
    assert caught.value.code == "Upload.EntityTooLarge"
    assert caught.value.names_an_input
    assert len(wire.sent) == 1


@pytest.mark.parametrize("megabytes", [None, "many", -1, float("nan")])
def test_a_size_that_nobody_can_read_is_no_limit(megabytes: Any) -> None:
    service, _ = client(policy(max_file_size_mb=megabytes), STORED)
    assert service.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3).startswith("oss://")


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (refusal(401, "InvalidApiKey"), AccountError, "InvalidApiKey"),
        (refusal(404, "ModelNotFound"), AccountError, "ModelNotFound"),
        (refusal(400, "InvalidParameter", "no such action"), AccountError, "InvalidParameter"),  # it befalls every job
        (refusal(429, "Throttling.RateQuota"), ThrottledError, "Throttling.RateQuota"),
        (refusal(500, "InternalError"), ProviderIllError, "InternalError"),
        (said(404, b"<html>"), AccountError, "HTTP404"),
        (requests.ConnectTimeout("x"), NotConnectedError, "NotConnected"),
        (requests.ReadTimeout("x"), ProviderIllError, "NoAnswer"),
    ],
)
def test_no_policy_no_upload(answer: Any, kind: type[ProviderError], code: str) -> None:
    service, wire = client(answer)
    with pytest.raises(ProviderError) as caught:
        service.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert len(wire.sent) <= 1


@pytest.mark.parametrize(
    "fields",
    [
        {"upload_host": None},
        {"upload_host": "http://storage.example"},  # a face goes there: never without TLS
        {"upload_host": "ftp://storage.example"},
        {"upload_host": "https://me:secret@storage.example"},
        {"upload_host": "https://storage.example?x=1"},
        {"upload_host": "https://["},
        {"upload_host": 7},
        {"upload_dir": None},
        {"upload_dir": ""},
        {"upload_dir": "../a"},
        {"upload_dir": "a b"},
        {"upload_dir": 'a"\r\nX: y'},
        {"policy": None},
        {"policy": "a\r\nb"},
        {"policy": 'x"' + "y" * 10_000},
        {"signature": ["x"]},
        {"oss_access_key_id": ""},
        {"x_oss_object_acl": None},
        {"x_oss_forbid_overwrite": 1},
    ],
)
def test_a_policy_that_cannot_be_used_is_nonsense(fields: dict[str, Any]) -> None:
    service, wire = client(policy(**fields))
    with pytest.raises(ProviderIllError):
        service.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3)
    assert len(wire.sent) == 1


def test_a_local_service_may_store_without_tls() -> None:
    """As the bundled simulator does: whoever speaks to the service without TLS has no more to lose."""
    service, wire = client(policy(upload_host="http://127.0.0.1:8/up"), STORED, base="http://127.0.0.1:8/api/v1")
    service.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3)
    assert wire.sent[1].url == "http://127.0.0.1:8/up"


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (said(403, xml("SignatureDoesNotMatch")), AccountError, "Upload.SignatureDoesNotMatch"),
        (said(403, xml("AccessDenied", "Bucket ACL")), AccountError, "Upload.AccessDenied"),
        (said(404, xml("NoSuchBucket")), AccountError, "Upload.NoSuchBucket"),
        (said(400, xml("EntityTooLarge", "too large")), JobRefusedError, "Upload.EntityTooLarge"),
        (said(413, b""), JobRefusedError, "Upload.HTTP413"),
        (said(429, b""), ThrottledError, "Upload.HTTP429"),
        (said(409, xml("FileAlreadyExists")), ProviderIllError, "Upload.FileAlreadyExists"),
        (said(403, b"<html>a firewall</html>"), ProviderIllError, "Upload.HTTP403"),
        (said(302, b"", {"Location": "https://elsewhere"}), ProviderIllError, "Upload.HTTP302"),
        (said(500, xml("InternalError")), ProviderIllError, "Upload.InternalError"),
        (said(503, b"busy"), ProviderIllError, "Upload.HTTP503"),
        (requests.ConnectTimeout("x"), NotConnectedError, "NotConnected"),
        (requests.ConnectionError("cut"), ProviderIllError, "NoAnswer"),
    ],
)
def test_an_upload_that_fails_is_sorted(answer: Any, kind: type[ProviderError], code: str) -> None:
    service, wire = client(policy(), answer)
    with pytest.raises(ProviderError) as caught:
        service.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert len(wire.sent) <= 2


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (io.BytesIO(b"ab"), TryLaterError),
        (Stream(b"a", OSError("gone")), TryLaterError),
        (Stream(b"a", ValueError("closed")), TryLaterError),
        (Stream(b"a", "text"), TryLaterError),
        (Stream(b"a", NotFoundError("no such version")), NotFoundError),  # ours passes through
    ],
)
def test_a_file_that_cannot_be_read(file: Any, kind: type[Exception]) -> None:
    """A file that cannot be read is no fault of the service."""
    service, _ = client(policy(), STORED)
    with pytest.raises(kind):
        service.upload(EMO, file, "a.wav", 3)


def test_an_upload_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope_client, "UPLOAD_MAX_SECONDS", 0.0)
    service, wire = client(policy(), STORED)
    with pytest.raises(ProviderIllError, match="time was over"):
        service.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3)
    with pytest.raises(ProviderIllError, match="time was over"):
        service.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3, seconds=-1)
    assert wire.sent == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
DATA = st.fixed_dictionaries({}, optional={name: st.just(value) | JSON for name, value in POLICY.items()})


@FIXED
@given(
    st.fixed_dictionaries({}, optional={"data": DATA | JSON, "output": JSON, "code": JSON}),
    st.sampled_from([200, 201, 302, 400, 403, 404, 500]),
    st.binary(max_size=200),
)
def test_whatever_the_storage_answers(body: Any, status: int, stored: bytes) -> None:
    """Whatever is answered nothing but ours gets out."""
    service, wire = client(said(200, body), said(status, stored), said(200, body), said(status, stored))
    try:
        link = service.upload(EMO, io.BytesIO(b"abc"), "a.wav", 3)
    except PortraitcastError:
        return
    assert link.startswith("oss://")
    assert link.isascii()
    assert json.dumps(link)
    assert len(wire.sent) == 2
