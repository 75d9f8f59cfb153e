"""Access tokens of accounts whose package has a token exchange: cached, refreshed before they expire, fetched once.

A message is sent only with a token at hand, so a failed exchange is a definite "not taken".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from sluice.model.outcome import AuthFailed, Divided, Outcome, ProviderFault
from sluice.providers.account import Account
from sluice.providers.contract import OutboundMessage, Token, TokenExchange
from sluice.providers.kit.credentials import secrets_of
from sluice.providers.kit.redaction import redact
from sluice.runtime.clock import utc_now
from sluice.transports.provider_call import (
    NoAnswerError,
    NotAllowedError,
    NotSentError,
    OnProgress,
    Transports,
    call_provider,
    ignore_progress,
)

log = structlog.get_logger()

# A token with less life left is replaced first. Google's own clients use the same figure.
REFRESH_BEFORE = timedelta(seconds=225)

TokenResult = Token | AuthFailed | ProviderFault


@dataclass(slots=True)
class _Entry:
    """One account's token, or the exchange that is fetching it."""

    version: int  # of the account
    exchange: asyncio.Task[TokenResult]

    def usable(self, version: int, now: datetime) -> bool:
        """Whether it is for these credentials, and in progress or far from its expiry."""
        if self.version != version:
            return False
        if not self.exchange.done():
            return True
        if self.exchange.cancelled() or self.exchange.exception() is not None:
            return False
        token = self.exchange.result()
        return isinstance(token, Token) and token.expires_at - now > REFRESH_BEFORE


class TokenCache:
    """Calls providers, with an access token where their package asks for one. One cache for a worker."""

    def __init__(self, transports: Transports) -> None:
        self._transports = transports
        self._entries: dict[UUID, _Entry] = {}

    async def call(
        self,
        account: Account,
        message: OutboundMessage,
        *,
        deadline: float,
        on_progress: OnProgress = ignore_progress,
    ) -> Outcome | Divided:
        """Send one message through one account; ``deadline``: seconds for everything, the exchange included.

        A token that the provider refuses is replaced once: it may have been revoked before it expired.
        """
        if account.package.token is None:
            return await self._send(account, message, deadline, on_progress)
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline
        for last_try in (False, True):
            entry = self._usable(account)
            cached = entry is not None
            if entry is None:
                entry = self._start_exchange(account, account.package.token, ends_at - loop.time())
            token = await _token_of(entry, ends_at - loop.time())
            if not isinstance(token, Token):
                return token
            with_token = replace(message, access_token=token.value)
            outcome = await self._send(account, with_token, ends_at - loop.time(), on_progress)
            if not isinstance(outcome, AuthFailed) or not cached or last_try:
                return outcome
            self._entries.pop(account.provider_id, None)
        raise AssertionError("unreachable")

    async def _send(
        self, account: Account, message: OutboundMessage, deadline: float, on_progress: OnProgress
    ) -> Outcome | Divided:
        return await call_provider(
            account.package,
            message,
            account.credentials,
            self._transports,
            deadline=max(deadline, 0.001),
            on_progress=on_progress,
        )

    def _usable(self, account: Account) -> _Entry | None:
        entry = self._entries.get(account.provider_id)
        return entry if entry is not None and entry.usable(account.version, utc_now()) else None

    def _start_exchange(self, account: Account, exchange: TokenExchange[Any, Any, Any], deadline: float) -> _Entry:
        fetching = asyncio.create_task(self._fetch(account, exchange, deadline), name="token-exchange")
        entry = self._entries[account.provider_id] = _Entry(account.version, fetching)
        return entry

    async def _fetch(self, account: Account, exchange: TokenExchange[Any, Any, Any], deadline: float) -> TokenResult:
        transport = self._transports[account.package.transport]
        try:
            request = exchange.build_token_request(account.credentials, utc_now())
            response = await transport.exchange(request, deadline=max(deadline, 0.001))
            result = exchange.read_token(response, utc_now())
        except NotAllowedError as error:
            return AuthFailed(f"token exchange: {error}")
        except (NotSentError, NoAnswerError) as error:
            return ProviderFault(f"token exchange: {error}")
        except Exception as error:  # a bug of the package; its text may quote the credentials
            log.error("token_exchange_failed", package=account.package.name, error=type(error).__name__)
            return ProviderFault(f"token exchange: {type(error).__name__}")
        if isinstance(result, Token):
            return result
        detail = redact(result.detail, secrets=secrets_of(account.credentials))
        return replace(result, detail=f"token exchange: {detail}")


async def _token_of(entry: _Entry, deadline: float) -> TokenResult:
    try:
        # Shielded: the exchange serves every call that waits for it, not only the one that began it.
        async with asyncio.timeout(deadline):
            return await asyncio.shield(entry.exchange)
    except TimeoutError:
        return ProviderFault("the token exchange took too long")
