"""Passwords: argon2id, off the event loop, in few threads, so that logins cannot take memory or CPU from messages."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.errors import Unavailable

T = TypeVar("T")

MIN_LENGTH, MAX_LENGTH = 12, 256  # characters

_THREADS = 2
_MAX_WAITING = 32
# 19 MiB and two passes, OWASP's choice for argon2id: some 60 ms.
_HASHER = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1)


class Passwords:
    """Hashes and checks passwords; :meth:`running` holds the threads."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._waiting = 0
        self._dummy = _dummy_hash()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Passwords]:
        """Serve until the block ends."""
        try:
            yield self
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """The hash of a password.

        Raises:
            Unavailable: too many passwords wait.
        """
        return await self._run(lambda: _HASHER.hash(password))

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether the password has this hash. None, the hash of no user, takes the same time and is never right.

        Raises:
            Unavailable: too many passwords wait.
        """
        right = await self._run(lambda: _verify(password[: MAX_LENGTH + 1], password_hash or self._dummy))
        return right and password_hash is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _MAX_WAITING:
            raise Unavailable("Too many logins at once. Retry later.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._waiting -= 1


@cache
def _dummy_hash() -> str:
    return _HASHER.hash(secrets.token_urlsafe(32))


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than those of today."""
    return _HASHER.check_needs_rehash(password_hash)


def _verify(password: str, password_hash: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
