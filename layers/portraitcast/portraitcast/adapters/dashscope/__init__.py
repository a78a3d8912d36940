"""The video service over HTTP: Alibaba Cloud Model Studio (DashScope)."""

from portraitcast.adapters.dashscope.client import DashScope
from portraitcast.adapters.dashscope.errors import (
    AccountError,
    JobRefusedError,
    NotConnectedError,
    ProviderError,
    ProviderIllError,
    ThrottledError,
    worth_one_more_try,
)
from portraitcast.adapters.dashscope.responses import (
    CheckPassed,
    CheckRefused,
    Created,
    ListedTask,
    ProviderTask,
    UnknownOutcome,
)

__all__ = [
    "AccountError",
    "CheckPassed",
    "CheckRefused",
    "Created",
    "DashScope",
    "JobRefusedError",
    "ListedTask",
    "NotConnectedError",
    "ProviderError",
    "ProviderIllError",
    "ProviderTask",
    "ThrottledError",
    "UnknownOutcome",
    "worth_one_more_try",
]
