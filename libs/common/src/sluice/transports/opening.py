"""All wires of a process, opened and closed together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp.abc import AbstractResolver

from sluice.providers.contract import TransportKind
from sluice.transports.http import open_http
from sluice.transports.provider_call import Transport, Transports
from sluice.transports.sandbox import SandboxStore
from sluice.transports.smtp import open_smtp


@asynccontextmanager
async def open_transports(
    *,
    sandbox: SandboxStore | None = None,
    connections_per_origin: int = 100,
    resolver: AbstractResolver | None = None,
    local_name: str | None = None,
) -> AsyncIterator[Transports]:
    """What ``call`` takes. Without ``sandbox`` a message for the sandbox ends as Unknown, and is logged."""
    async with AsyncExitStack() as stack:
        http = open_http(connections_per_origin=connections_per_origin, resolver=resolver)
        transports: dict[TransportKind, Transport[Any, Any]] = {
            TransportKind.HTTP: await stack.enter_async_context(http),
            TransportKind.SMTP: await stack.enter_async_context(open_smtp(local_name=local_name)),
        }
        if sandbox is not None:
            transports[TransportKind.SANDBOX] = sandbox
        yield transports
