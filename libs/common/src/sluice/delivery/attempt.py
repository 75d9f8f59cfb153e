"""The provider call of one claimed attempt."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import structlog

from sluice.bus.messages import Assignment
from sluice.delivery.job import Job
from sluice.delivery.settings import WorkerPolicy
from sluice.delivery.tokens import TokenCache
from sluice.model import ids
from sluice.model.address import parse_address
from sluice.model.message import Email, content_adapter
from sluice.model.outcome import Divided, Outcome, ProviderFault, Scope
from sluice.providers import registry
from sluice.providers.account import Account, UnusableAccountError, open_account
from sluice.providers.adapters.sandbox import SANDBOX, SANDBOX_PROVIDER_ID, SandboxCredentials
from sluice.providers.contract import OutboundMessage
from sluice.providers.sms_link import Links
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.runtime.errors import SluiceError
from sluice.store import messages
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Db
from sluice.store.deliveries import Claimed
from sluice.store.providers import ProviderRow
from sluice.transports.provider_call import OnProgress, Transports, ignore_progress

log = structlog.get_logger()

_LEASE_MARGIN = 1.0  # seconds before the end of the lease from which no call begins
_SANDBOX_ACCOUNT = Account(SANDBOX_PROVIDER_ID, 0, SANDBOX, SandboxCredentials())


class UnusableProviderError(SluiceError):
    """The assigned provider cannot be used now; the text is the reason."""


class AttemptCaller:
    """Calls providers with the content of claimed attempts."""

    def __init__(
        self,
        *,
        db: Db,
        config: ConfigCache,
        cipher: CredentialCipher,
        transports: Transports,
        policy: WorkerPolicy,
        links: Links,
    ) -> None:
        self._db = db
        self._config = config
        self._cipher = cipher
        self._calls = TokenCache(transports)
        self._policy = policy
        self._links = links
        self._accounts: dict[UUID, Account] = {}
        self._callback_urls: dict[UUID, str] = {}

    def account(self, assignment: Assignment) -> Account:
        """The account of the assigned provider, decrypted once per version of its row.

        Raises:
            UnusableProviderError: the provider cannot be used now.
        """
        row = self._config.providers.get(assignment.provider_id)
        reason = why_unusable(assignment, row)
        if reason is not None:
            raise UnusableProviderError(reason)
        if row is None:  # usable without a row: the sandbox
            return _SANDBOX_ACCOUNT
        account = self._accounts.get(row.id)
        if account is None or account.version != row.version:
            account = self._accounts[row.id] = self._open(row)
        return account

    def _open(self, row: ProviderRow) -> Account:
        try:
            return open_account(row, self._cipher, self._links)
        except UnusableAccountError as error:
            metrics.series(metrics.UNREADABLE_CREDENTIALS, row.package).inc()
            log.error("provider_unusable", provider=str(row.id), error=str(error))
            raise UnusableProviderError("the provider's credentials cannot be used") from None

    def _callback_url(self, provider_id: UUID) -> str | None:
        """The address for the provider's receipts; None without a public URL."""
        base = self._policy.public_url
        if base is None:
            return None
        url = self._callback_urls.get(provider_id)
        if url is None:
            url = self._callback_urls[provider_id] = (
                f"{base.rstrip('/')}/v1/receipts/{ids.encode_id('prv', provider_id)}"
            )
        return url

    async def call(
        self, job: Job, claimed: Claimed, account: Account, on_progress: OnProgress = ignore_progress
    ) -> Outcome | Divided:
        """Call the provider once.

        Raises:
            ValueError: the stored content is not readable.
        """
        outbound = await self._outbound_message(job, claimed, account)
        reason = self._why_too_late(job)
        if reason is not None:
            return ProviderFault(f"not called: {reason}", Scope.MESSAGE)
        assert failpoints.hit("call.before")
        deadline = self._policy.urgent_call_timeout if job.urgent else self._policy.call_timeout
        outcome = await self._calls.call(account, outbound, deadline=deadline, on_progress=on_progress)
        assert failpoints.hit("call.answered")
        return outcome

    def _why_too_late(self, job: Job) -> str | None:
        """The claim has checked the same times, but may be long ago: the process was paused, or the answer was lost."""
        if utc_now() >= job.task.expires_at:
            return "the message has expired"
        if time.monotonic() > job.claimed_at + self._policy.attempt_lease - _LEASE_MARGIN:
            return "the worker was paused until the lease had almost expired"  # no call begins at its end
        return None

    async def _outbound_message(self, job: Job, claimed: Claimed, account: Account) -> OutboundMessage:
        content = content_adapter.validate_json(claimed.content)
        attachments: Mapping[str, bytes] = {}
        if isinstance(content, Email) and content.attachments:
            digests = [attachment.sha256 for attachment in content.attachments]
            attachments = await messages.load_attachments(self._db, job.task.project_id, digests)
        if isinstance(content, Email) and claimed.envelope is not None and not account.package.separate_envelope:
            content = _narrow(content, claimed.envelope)
        return OutboundMessage(
            content=content,
            recipient=claimed.recipient,
            reference=job.reference,
            message_id=ids.encode_id("msg", claimed.message_id),
            created_at=claimed.created_at,
            attempted_at=utc_now(),
            attachments=attachments,
            callback_url=self._callback_url(account.provider_id),
            envelope=claimed.envelope,
        )


def _narrow(mail: Email, envelope: Collection[str]) -> Email:
    """The mail with the recipients of ``envelope`` only; without one in ``to``, all of them stand there."""

    def among(addresses: Sequence[str]) -> tuple[str, ...]:
        return tuple(address for address in addresses if parse_address(address).bare in envelope)

    to, cc, bcc = among(mail.to), among(mail.cc), among(mail.bcc)
    return mail.model_copy(update={"to": to, "cc": cc, "bcc": bcc} if to else {"to": cc + bcc, "cc": (), "bcc": ()})


def why_unusable(assignment: Assignment, row: ProviderRow | None) -> str | None:
    """The reason why the assigned provider, which has this row, cannot be used now; the sandbox has no row."""
    if row is None and assignment.provider_id == SANDBOX_PROVIDER_ID:
        return None if assignment.task.sandbox else "the sandbox accepts messages of test keys only"
    if row is None or row.deleted or not row.enabled or row.project_id != assignment.task.project_id:
        return "the provider was removed or disabled"
    return None if row.package in registry.installed() else f"{row.package} is not installed"
