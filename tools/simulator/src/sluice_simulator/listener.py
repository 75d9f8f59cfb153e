"""A listening socket together with its connections, so that both can be closed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

CLOSE_TURNS = 20  # turns of the loop that closing connections have to report it


class Listener:
    """Serves from ``open`` to ``close``. A session adds its transport to ``clients`` and removes it."""

    def __init__(self) -> None:
        self.clients: set[asyncio.Transport] = set()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def open(
        self,
        session: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listen; ``port`` 0 takes a free one. OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(session, host, port, ssl=tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and abort every connection."""
        if self._server is not None:
            self._server.close()
        for transport in list(self.clients):
            transport.abort()
        for _ in range(CLOSE_TURNS):
            if self.clients:
                await asyncio.sleep(0)
