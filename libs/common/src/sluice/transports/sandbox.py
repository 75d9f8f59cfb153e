"""The sandbox's wire: whoever owns the outbox implements it."""

from __future__ import annotations

from typing import Protocol

from sluice.providers.adapters.sandbox import CaptureRequest, CaptureResult


class SandboxStore(Protocol):
    """Keeps a capture. A repeat with the same reference answers the first id and keeps nothing new."""

    async def exchange(self, request: CaptureRequest, *, deadline: float) -> CaptureResult: ...
