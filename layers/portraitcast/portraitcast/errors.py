"""The project's own errors. Adapters turn botocore's and requests' errors into these, once."""

from __future__ import annotations


class PortraitcastError(Exception):
    """Base of every error that this project raises."""


class ParameterError(PortraitcastError):
    """A parameter of the stack makes no sense: which one, its value, and what to write instead."""


class TryLaterError(PortraitcastError):
    """A passing fault of AWS or of the network: the same call may succeed later."""


class ConflictError(PortraitcastError):
    """Somebody else has changed an item or an object since it was read: read again and decide again."""


class UnreadableObjectError(PortraitcastError):
    """S3 will never hand this object out to us; the text says why, in words for the file's owner."""


class MessageError(PortraitcastError):
    """A message that nobody of ours has sent: it goes to the dead letters for a person to look at."""


class NotFoundError(PortraitcastError):
    """An object, or this version of it, isn't there."""
