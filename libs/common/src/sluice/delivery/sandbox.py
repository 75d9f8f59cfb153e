"""The sandbox as the worker sees it: a provider that every project has, and the wire that fills its outbox."""

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
    """Keeps captures in Postgres; see :class:`sluice.transports.sandbox.SandboxWire`."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def exchange(self, request: CaptureRequest, *, deadline: float) -> CaptureResult:
        """Keep the capture; a repeat keeps nothing new."""
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
