"""The connection to Redis. No role needs it: what Redis shares between processes has a slower way without it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from sluice.runtime.errors import SluiceError

log = structlog.get_logger()

_TIMEOUT = 1.0  # seconds
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def create_client(url: str, *, password: str | None, timeout: float = _TIMEOUT) -> Redis:
    """A client that connects when it is used; ``timeout`` is in seconds.

    Raises:
        SluiceError: the URL cannot be used.
    """
    _check(url)
    try:
        return Redis.from_url(
            url,
            password=password,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # The client's own retries would make callers wait for seconds while Redis is away.
            retry=Retry(NoBackoff(), 0),
        )
    except (ValueError, TypeError) as error:
        raise SluiceError(f"SLUICE_REDIS_URL cannot be used: {error}") from None


@asynccontextmanager
async def open_redis(url: str, *, password: str | None = None) -> AsyncIterator[Redis]:
    """A client of Redis. A server that is away is no error: it is used when it is back.

    Raises:
        SluiceError: the URL, the password or a certificate is wrong.
    """
    async with create_client(url, password=password) as client:
        try:
            await client.ping()
        except (AuthenticationError, NoPermissionError) as error:
            raise SluiceError(f"Redis refuses the login in SLUICE_REDIS_URL: {error}") from None
        except TypeError as error:  # an unknown option
            raise SluiceError(f"SLUICE_REDIS_URL cannot be used: {error}") from None
        except (RedisError, OSError, TimeoutError) as error:
            if reason := _tls_fault(error):
                raise SluiceError(f"TLS with Redis failed: {reason}: see SLUICE_REDIS_URL") from None
            log.warning("redis_unavailable", error=type(error).__name__)
        yield client


def _check(url: str) -> None:
    for name, paths in parse_qs(urlsplit(url).query).items():
        for path in paths if name in _TLS_FILES else ():
            if not Path(path).is_file():
                raise SluiceError(f"{name} in SLUICE_REDIS_URL is {path}, which is no file")


def _tls_fault(error: BaseException | None) -> str | None:
    """The reason of a failed handshake; the client library keeps it as the context of its own error."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return error.reason or str(error)
        error = error.__cause__ or error.__context__
    return None
