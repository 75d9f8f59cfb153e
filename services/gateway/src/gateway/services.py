"""The services that the routes of both APIs use."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.auth.access import Access
from gateway.auth.access_tokens import AccessTokens
from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.auth.login_throttle import LoginThrottle
from gateway.auth.passwords import Passwords
from gateway.auth.project_access import ProjectAccess
from gateway.auth.sessions import SessionAuthenticator
from gateway.bulk.expander import BulkExpander
from gateway.domains.checker import DomainChecker
from gateway.events.feed import EventFeed
from gateway.ingest.ingest import MessageIngest
from gateway.messages.waiting import SettledMessages
from gateway.providers.tester import ProviderTester
from gateway.rate_limits.limits import RateLimits
from gateway.receipts.endpoint import ReceiptEndpoint
from gateway.status.monitor import StatusMonitor
from gateway.templates.rendering import TemplateRenderer
from gateway.unsubscribe.links import UnsubscribeLinks
from sluice.bus.publisher import Publisher
from sluice.delivery.mailer import Mailer
from sluice.delivery.outbox import OutboxPublisher
from sluice.providers.sms_link import Links
from sluice.routing.selection import Health
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Pool
from sluice.transports.outgoing import OutgoingAddresses


@dataclass(frozen=True, slots=True)
class Accounts:
    """What people need to log in. ``dashboard_url``: where the links in mails point to. ``sign_up_is_open``: people
    create accounts themselves.

    ``access`` authenticates the requests of ``/v1``, ``project_access`` those of the project API.
    """

    access: Access
    project_access: ProjectAccess
    access_tokens: AccessTokens
    sessions: SessionAuthenticator
    passwords: Passwords
    throttle: LoginThrottle
    mailer: Mailer
    dashboard_url: str
    sign_up_is_open: bool


@dataclass(frozen=True, slots=True)
class ProviderAccess:
    """What the routes of providers need. ``public_url``: where providers send their receipts; None: they send none."""

    links: Links
    tester: ProviderTester
    public_url: str | None


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one gateway process, as ``app.state.services``. ``health``: the newest statuses, live."""

    pool: Pool
    config: ConfigCache
    authenticator: ApiKeyAuthenticator
    ingest: MessageIngest
    receipts: ReceiptEndpoint
    outbox: OutboxPublisher
    templates: TemplateRenderer
    unsubscribe_links: UnsubscribeLinks
    accounts: Accounts
    providers: ProviderAccess
    domains: DomainChecker
    cipher: CredentialCipher
    outgoing: OutgoingAddresses
    bulk: BulkExpander
    events: EventFeed
    settled: SettledMessages
    rate_limits: RateLimits
    health: Health
    publisher: Publisher
    status: StatusMonitor
