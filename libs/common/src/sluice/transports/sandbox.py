"""The sandbox transport: hands a message to the function that keeps captures."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sluice.model import ids
from sluice.providers.adapters.sandbox import CaptureRequest, CaptureResult
from sluice.providers.magic_recipients import MagicRecipient
from sluice.runtime.clock import utc_now
from sluice.transports.provider_call import OnProgress, ignore_progress

_TIMEOUT = 10.0  # seconds for the capture


class Capture(Protocol):
    """``sluice.store.sandbox.capture`` with its database: keeps a message, and nothing new for the same reference."""

    def __call__(
        self,
        *,
        reference: str,
        message_id: UUID,
        recipient: str,
        content: str,
        receipts: Sequence[str],
        at: datetime,
        timeout: float,
    ) -> Awaitable[None]: ...


class SandboxTransport:
    """Captures instead of sending."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    async def exchange(
        self, request: CaptureRequest, *, deadline: float, on_progress: OnProgress = ignore_progress
    ) -> CaptureResult:
        """Keep the message; a retry keeps nothing new, and a magic recipient that refuses it keeps nothing."""
        if request.refusal is not None:
            return CaptureResult("", request.refusal)
        await self._capture(
            reference=request.reference,
            message_id=ids.decode_id("msg", request.message_id),
            recipient=request.recipient,
            content=request.content.model_dump_json(exclude_defaults=True),
            receipts=[kind.value for kind in request.receipts],
            at=utc_now(),
            timeout=min(deadline, _TIMEOUT),
        )
        return CaptureResult(
            request.reference, MagicRecipient.UNKNOWN if request.magic is MagicRecipient.UNKNOWN else None
        )
