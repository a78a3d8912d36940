"""A job's inputs in the service's temporary storage, for a service that can't reach our buckets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from portraitcast.adapters.dashscope import ProviderIllError
from portraitcast.domain.problems import ProblemError, file_unreadable
from portraitcast.errors import UnreadableObjectError

if TYPE_CHECKING:
    from portraitcast.adapters.buckets import Uploads
    from portraitcast.adapters.dashscope import DashScope
    from portraitcast.adapters.presign import LinkedObject


class TemporaryStorage:
    """Copies objects of our buckets into the service's temporary storage, one after the other.

    A file lives there for 48 h, for one account and one model (Model Studio, "Upload a local file to get a temporary
    URL"), and is meant for tests and development. Memory: one chunk of a file.

    Parameters
    ----------
    service
        The service's client, whose key the files belong to.
    uploads, assets
        The upload bucket, and the work bucket with what prepare has made.
    """

    def __init__(self, service: DashScope, uploads: Uploads, assets: Uploads) -> None:
        self._service = service
        self._uploads = uploads
        self._assets = assets

    def put(self, model: str, *objects: LinkedObject, seconds: float) -> list[str]:
        """Upload each object for a model to read; return their ``oss://`` links. Whatever goes wrong, nothing is paid.

        Parameters
        ----------
        model
            The name of the model that will read them, a portrait check's own too.
        seconds
            The most that all of it may take.

        Raises
        ------
        JobRefusedError
            A file is larger than the storage takes.
        AccountError, ThrottledError, NotConnectedError, ProviderIllError
            The service, or the way to it.
        ProblemError
            ``FileUnreadable``: our own bucket will never hand the file out.
        NotFoundError, TryLaterError
            Our own bucket, now.
        """
        until = time.monotonic() + seconds
        return [self._put(model, each, until) for each in objects]

    def _put(self, model: str, stored: LinkedObject, until: float) -> str:
        bucket = self._assets if stored.is_asset else self._uploads
        try:
            with bucket.download(stored.key, stored.version, stored.etag) as (file, _):
                size = file.seek(0, 2)
                file.seek(0)
                left = until - time.monotonic()
                if left <= 0:
                    raise ProviderIllError("NoAnswer", "the inputs could not be uploaded in time")
                return self._service.upload(model, file, stored.key, size, seconds=left)
        except UnreadableObjectError as error:
            raise ProblemError(file_unreadable(stored.key, str(error))) from error
