"""The services that the routes of both APIs use."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.auth.access import Access
from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.auth.login_throttle import LoginThrottle
from gateway.auth.mailer import Mailer
from gateway.auth.passwords import Passwords
from gateway.auth.sessions import SessionAuthenticator
from gateway.ingest.ingest import MessageIngest
from gateway.receipts.endpoint import ReceiptEndpoint
from sluice.delivery.outbox import OutboxPublisher
from sluice.routing.selection import Health
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Pool


@dataclass(frozen=True, slots=True)
class Accounts:
    """What people need to log in. ``dashboard_url``: where the links in mails point to."""

    access: Access
    sessions: SessionAuthenticator
    passwords: Passwords
    throttle: LoginThrottle
    mailer: Mailer
    dashboard_url: str


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one gateway process, as ``app.state.services``. ``health``: the newest statuses, live."""

    pool: Pool
    config: ConfigCache
    authenticator: ApiKeyAuthenticator
    ingest: MessageIngest
    receipts: ReceiptEndpoint
    outbox: OutboxPublisher
    accounts: Accounts
    health: Health
