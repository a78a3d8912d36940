"""Puts status together: it needs the provider and nothing else."""

from __future__ import annotations

import time

from portraitcast.bootstrap.clients import service
from portraitcast.config import Provider
from portraitcast.workflows.poll import Poll


def from_environment() -> Poll:
    """Assemble status from the environment that template.yaml gives it."""
    provider = Provider.from_env()
    return Poll(service(provider), least=provider.min_poll, most=provider.max_poll, clock=time.time)
