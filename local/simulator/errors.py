"""The service's own words: one error for the wire, one for a task that ends badly."""

from __future__ import annotations


class ApiError(Exception):
    """A call that is answered with an HTTP error and the service's code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


class InputError(Exception):
    """A picture or voice that the service cannot use; a failed task, or a refused portrait check."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
