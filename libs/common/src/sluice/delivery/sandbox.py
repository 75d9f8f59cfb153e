"""The sandbox in a worker: the provider that every project has, and the transport that captures messages."""

from __future__ import annotations

from uuid import UUID

from sluice.model import ids
from sluice.providers.adapters.sandbox import CaptureRequest, CaptureResult
from sluice.runtime.clock import utc_now
from sluice.store import sandbox
from sluice.store.db import Db

SANDBOX_PROVIDER_ID = UUID("00000000-0000-7000-8000-000000000000")
"""The provider id of the sandbox, which has no row."""


class SandboxTransport:
    """Stores captured messages in PostgreSQL."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def exchange(self, request: CaptureRequest, *, deadline: float) -> CaptureResult:
        """Store the message; a repetition with the same reference changes nothing."""
        await sandbox.capture(
            self._db,
            reference=request.reference,
            message_id=ids.decode_id("msg", request.message_id),
            recipient=request.recipient,
            content=request.content.model_dump_json(exclude_defaults=True),
            at=utc_now(),
            timeout=deadline,
        )
        return CaptureResult(request.reference)
