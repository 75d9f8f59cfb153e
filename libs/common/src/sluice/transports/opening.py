"""All transports of a process, opened and closed together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sluice.providers.contract import TransportKind
from sluice.transports.http import open_http
from sluice.transports.provider_call import Transport, Transports
from sluice.transports.sandbox import Capture, SandboxTransport
from sluice.transports.settings import DEFAULT_LIMITS, TransportSettings
from sluice.transports.smtp import open_smtp


@asynccontextmanager
async def open_transports(
    *,
    capture: Capture | None = None,
    connections_per_origin: int = 100,
    limits: TransportSettings = DEFAULT_LIMITS,
) -> AsyncIterator[Transports]:
    """The transports that ``call_provider`` takes, by kind.

    Without ``capture`` a message for the sandbox ends as Unknown, and the error is logged. ``connections_per_origin``:
    0 for no bound.
    """
    async with AsyncExitStack() as stack:
        http = open_http(
            outgoing=limits.outgoing(), connections_per_origin=connections_per_origin, timeout=limits.http_timeout
        )
        transports: dict[TransportKind, Transport[Any, Any]] = {
            TransportKind.HTTP: await stack.enter_async_context(http),
            TransportKind.SMTP: await stack.enter_async_context(open_smtp(limits)),
        }
        if capture is not None:
            transports[TransportKind.SANDBOX] = SandboxTransport(capture)
        yield transports
