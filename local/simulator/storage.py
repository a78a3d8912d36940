"""The service's temporary storage: policies, the form upload, and ``oss://`` links that are good for one model."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from simulator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ACCESS_KEY_ID: Final = "LTAI-simulator"
SCHEME: Final = "oss://"
FORM_FIELDS: Final = (
    "OSSAccessKeyId", "Signature", "policy", "x-oss-object-acl", "x-oss-forbid-overwrite", "key",
    "success_action_status", "file",
)  # fmt: skip
MIB: Final = 1_048_576


class StorageError(Exception):
    """What the storage answers instead of taking a file: Alibaba Cloud OSS's HTTP status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Stored:
    """A file in the storage."""

    key: str
    model: str
    owner: str  # the account that uploaded it
    path: Path
    sha256: str
    bytes: int
    uploaded_at: float  # Unix time by the account's clock, s

    def state(self) -> dict[str, Any]:
        """Everything about the file but where it lies, for ``/control/state``."""
        return {name: value for name, value in vars(self).items() if name != "path"}


@dataclass(frozen=True)
class Grant:
    """Whom a policy's folder was given to."""

    model: str
    owner: str


class Storage:
    """Files of every account that uses this service; the caller guards it.

    Parameters
    ----------
    folder
        Where the files lie; of this user alone.
    now
        The account's clock, Unix time, s.
    """

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self.folder = folder
        self._now = now
        self._secret = secrets.token_bytes(16)
        self._grants: dict[str, Grant] = {}
        self.files: dict[str, Stored] = {}

    def policy(self, model: str, owner: str, host: str, *, seconds: float, max_mb: int) -> dict[str, Any]:
        """Give leave to upload one file for a model: the ``data`` of ``getPolicy``."""
        day = datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%d")
        folder = f"dashscope-instant/{hashlib.sha256(owner.encode()).hexdigest()[:16]}/{day}/{secrets.token_hex(8)}"
        self._grants[folder] = Grant(model, owner)
        rules = {
            "expiration": self._now() + seconds,
            "conditions": [["content-length-range", 0, max_mb * MIB], ["starts-with", "$key", folder]],
        }
        policy = base64.b64encode(json.dumps(rules).encode()).decode()
        return {
            "policy": policy,
            "signature": self._sign(policy),
            "upload_dir": folder,
            "upload_host": host,
            "expire_in_seconds": int(seconds),
            "max_file_size_mb": max_mb,
            "capacity_limit_mb": 1024,
            "oss_access_key_id": ACCESS_KEY_ID,
            "x_oss_object_acl": "private",
            "x_oss_forbid_overwrite": "true",
        }

    def take(self, content_type: str, body: bytes) -> tuple[int, Stored]:
        """Take a form; give the HTTP status and what was stored.

        Raises
        ------
        StorageError
            The form is not as the policy and the documents say.
        """
        fields = _form(content_type, body)
        if [*fields][-1] != "file":
            raise StorageError(400, "InvalidArgument", "The file must be the last form field.")
        if unknown := set(fields) - set(FORM_FIELDS):
            raise StorageError(400, "InvalidArgument", f"Unknown form fields: {', '.join(sorted(unknown))}.")
        text = {name: value.decode("utf-8", "replace") for name, value in fields.items() if name != "file"}
        folder, most = self._judge(text)
        key, data = text["key"], fields["file"]
        if len(data) > most:
            raise StorageError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
        if key in self.files:
            raise StorageError(409, "FileAlreadyExists", "The object already exists and can not be overwritten.")
        grant = self._grants[folder]
        path = self.folder / f"{len(self.files)}.upload"
        path.touch(0o600)
        path.write_bytes(data)
        self.files[key] = Stored(
            key, grant.model, grant.owner, path, hashlib.sha256(data).hexdigest(), len(data), self._now()
        )
        return (200 if text.get("success_action_status") == "200" else 204), self.files[key]

    def _judge(self, text: dict[str, str]) -> tuple[str, int]:
        """Hold a form's fields against its policy; give the folder and the most bytes that it grants."""
        if text.get("OSSAccessKeyId") != ACCESS_KEY_ID:
            raise StorageError(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist.")
        policy = text.get("policy", "")
        if not hmac.compare_digest(self._sign(policy).encode(), text.get("Signature", "").encode()):
            raise StorageError(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        rules = json.loads(base64.b64decode(policy))  # ours, as the signature says
        if self._now() > rules["expiration"]:
            raise StorageError(403, "AccessDenied", "Invalid according to Policy: Policy expired.")
        (_, _, most), (_, _, folder) = rules["conditions"]
        conditions = {
            "key": re.fullmatch(re.escape(folder) + r"/[^/]+", text.get("key", "")),
            "x-oss-object-acl": text.get("x-oss-object-acl") == "private",
            "x-oss-forbid-overwrite": text.get("x-oss-forbid-overwrite") == "true",
        }
        failed = [name for name, holds in conditions.items() if not holds]
        if failed:
            raise StorageError(
                403, "AccessDenied", f"Invalid according to Policy: Policy Condition failed: {', '.join(failed)}"
            )
        return folder, most

    def find(self, url: str, model: str, owner: str, *, seconds: float) -> Stored | None:
        """Give what an ``oss://`` link points to, None unless it is there, alive, and for this model and account."""
        stored = self.files.get(url.removeprefix(SCHEME))
        if stored is None or (stored.model, stored.owner) != (model, owner):
            return None
        return stored if self._now() - stored.uploaded_at <= seconds else None

    def _sign(self, policy: str) -> str:
        return base64.b64encode(hmac.new(self._secret, policy.encode(), hashlib.sha1).digest()).decode()


def _form(content_type: str, body: bytes) -> dict[str, bytes]:
    """Take a ``multipart/form-data`` body apart, in its order."""
    found = re.fullmatch(r'multipart/form-data; *boundary="?([^";]{1,70})"?', content_type)
    if not found:
        raise StorageError(400, "InvalidArgument", "multipart/form-data with a boundary is expected.")
    chunks = (b"\r\n" + body).split(b"\r\n--" + found[1].encode())
    if len(chunks) < 3 or not chunks[-1].startswith(b"--"):
        raise StorageError(400, "MalformedPOSTRequest", "The body of your POST request is not well-formed.")
    fields: dict[str, bytes] = {}
    for chunk in chunks[1:-1]:
        head, _, value = chunk.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'; *name="([^"]*)"', head)
        if not name:
            raise StorageError(400, "MalformedPOSTRequest", "A part of your POST request has no name.")
        fields[name[1].decode("utf-8", "replace")] = value
    return fields


def refused(name: str) -> ApiError:
    """Give the answer to a stored link that can't be used."""
    return ApiError(
        400, "InvalidURL", f"The {name} is invalid: the stored file is not there, or not for this model and account."
    )
