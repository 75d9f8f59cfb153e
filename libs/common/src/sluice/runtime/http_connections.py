"""How many connections an HTTP server keeps, in all and of one address."""

from __future__ import annotations

import resource
from collections import OrderedDict
from typing import Protocol

_OWN_DESCRIPTORS = 256  # kept for files and for connections to the backing services
_SECOND_CHANCES = 128
# Connections whose refused bodies are read to the end at the same time. Each takes time of the event loop, and memory
# of the system for what waits in it: 700 new ones a second took the buffers of all other TCP connections.
_DISCARDING = 16
_DISCARDING_PER_ADDRESS = 4


class Connection(Protocol):
    """A connection that the server can close."""

    @property
    def in_hand(self) -> bool:
        """Whether the application has a complete request of it."""

    requests: int
    """How many complete requests it has sent."""

    def drop(self) -> None:
        """Close it at once."""


class ConnectionLimiter:
    """Admits connections. At a limit, one that has long been waiting for the rest of a request makes room.

    The oldest connection that has sent no request since it was last looked at is dropped (second chance), never one
    with a request in hand. Requests cost nothing here; a new connection at the limit looks at most at
    ``_SECOND_CHANCES`` others.
    """

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._addresses: dict[Connection, str] = {}
        self._seen: dict[str, OrderedDict[Connection, int]] = {}  # by address: the requests when last looked at
        self._all: OrderedDict[Connection, int] = OrderedDict()
        self._discarding: set[Connection] = set()

    def add(self, connection: Connection, address: str) -> bool:
        """Count a new connection; False when no other one can make room, so that it has to be closed."""
        seen = self._seen.get(address)
        if seen is not None and len(seen) >= self._per_address and not self._drop_one(seen):
            return False
        if len(self._all) >= self._total and not self._drop_one(self._all):
            return False
        self._addresses[connection] = address
        self._all[connection] = 0
        self._seen.setdefault(address, OrderedDict())[connection] = 0
        return True

    def remove(self, connection: Connection) -> None:
        """The connection is closed; without effect on one that is not counted."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            del self._all[connection]
            del self._seen[address][connection]
            if not self._seen[address]:
                del self._seen[address]
            self._discarding.discard(connection)

    def may_discard(self, connection: Connection) -> bool:
        """Whether the rest of a refused body may be read until the connection is removed: only of a few at once."""
        address = self._addresses.get(connection)
        of_address = sum(self._addresses[other] == address for other in self._discarding)
        if address is None or len(self._discarding) >= _DISCARDING or of_address >= _DISCARDING_PER_ADDRESS:
            return False
        self._discarding.add(connection)
        return True

    def _drop_one(self, seen: OrderedDict[Connection, int]) -> bool:
        for _ in range(min(len(seen), _SECOND_CHANCES)):
            connection, requests = next(iter(seen.items()))
            if not connection.in_hand and connection.requests == requests:
                self.remove(connection)
                connection.drop()
                return True
            seen[connection] = connection.requests
            seen.move_to_end(connection)
        return False


def descriptor_limit() -> int:
    """The connections for which this process has file descriptors, after raising its soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(hard - _OWN_DESCRIPTORS, hard // 2) if hard != resource.RLIM_INFINITY else 1_000_000
