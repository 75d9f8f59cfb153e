"""The provider call of one claimed attempt."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import structlog
from pydantic import ValidationError

from sluice.bus.messages import Assignment
from sluice.delivery.job import Job
from sluice.delivery.sandbox import SANDBOX_PROVIDER_ID
from sluice.delivery.settings import WorkerPolicy
from sluice.model import ids
from sluice.model.message import Email, content_adapter
from sluice.model.outcome import Outcome, ProviderFault
from sluice.providers import registry
from sluice.providers.adapters.sandbox import SANDBOX
from sluice.providers.contract import AnyPackage, Credentials, OutboundMessage
from sluice.runtime import failpoints
from sluice.runtime.errors import SluiceError
from sluice.store import messages
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Db
from sluice.store.deliveries import Claimed
from sluice.store.providers import ProviderRow
from sluice.transports.provider_call import Transports, call_provider

log = structlog.get_logger()

_LEASE_MARGIN = 1.0  # seconds between the deadline of a call and the end of its lease


class UnusableProviderError(SluiceError):
    """The assigned provider cannot be used now; the text is the reason."""


class Account(NamedTuple):
    """A provider account, ready for calls."""

    version: int  # of the provider's row
    package: AnyPackage
    credentials: Credentials
    callback_url: str | None  # for receipts


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
    ) -> None:
        self._db = db
        self._config = config
        self._cipher = cipher
        self._transports = transports
        self._policy = policy
        self._accounts: dict[UUID, Account] = {}

    def account(self, assignment: Assignment) -> Account:
        """The account of the assigned provider, decrypted once per version of its row.

        Raises:
            UnusableProviderError: the provider cannot be used now.
        """
        row = self._config.providers.get(assignment.provider_id)
        reason = why_unusable(assignment, row)
        if reason is not None:
            raise UnusableProviderError(reason)
        account = self._accounts.get(assignment.provider_id)
        if account is None or (row is not None and account.version != row.version):
            account = self._accounts[assignment.provider_id] = self._open(assignment.provider_id, row)
        return account

    def _open(self, provider_id: UUID, row: ProviderRow | None) -> Account:
        base = self._policy.public_url
        callback_url = f"{base.rstrip('/')}/v1/receipts/{ids.encode_id('prv', provider_id)}" if base else None
        if row is None:  # usable without a row: the sandbox
            return Account(0, SANDBOX, SANDBOX.credentials(), callback_url)
        try:
            package = registry.get_package(row.package)
            decrypted = self._cipher.decrypt(row.encrypted_credentials, project_id=row.project_id, provider_id=row.id)
            credentials = package.credentials.model_validate_json(decrypted)
        except (SluiceError, ValidationError, LookupError) as error:
            # Only the type: the text of a ValidationError contains the credentials.
            log.error("provider_unusable", provider=str(row.id), error=type(error).__name__)
            raise UnusableProviderError("the provider's credentials cannot be used") from None
        return Account(row.version, package, credentials, callback_url)

    async def call(self, job: Job, claimed: Claimed, account: Account) -> Outcome:
        """Call the provider once.

        Raises:
            ValueError: the stored content is not readable.
        """
        content = content_adapter.validate_json(claimed.content)
        attachments: Mapping[str, bytes] = {}
        if isinstance(content, Email) and content.attachments:
            digests = [attachment.sha256 for attachment in content.attachments]
            attachments = await messages.load_attachments(self._db, job.task.project_id, digests)
        outbound = OutboundMessage(
            content=content,
            recipient=claimed.recipient,
            reference=job.reference,
            message_id=ids.encode_id("msg", claimed.message_id),
            created_at=claimed.created_at,
            attachments=attachments,
            callback_url=account.callback_url,
        )
        # If the process was paused after the claim, the lease may be almost over: a call must not outlive it.
        left = job.claimed_at + self._policy.attempt_lease - time.monotonic() - _LEASE_MARGIN
        if left <= 0:
            return ProviderFault("not called: the worker was paused until the lease had almost expired")
        assert failpoints.hit("call.before")
        deadline = min(left, self._policy.provider_timeout)
        outcome = await call_provider(
            account.package, outbound, account.credentials, self._transports, deadline=deadline
        )
        assert failpoints.hit("call.answered")
        return outcome


def why_unusable(assignment: Assignment, row: ProviderRow | None) -> str | None:
    """The reason why the assigned provider, which has this row, cannot be used now; the sandbox has no row."""
    if row is None and assignment.provider_id == SANDBOX_PROVIDER_ID:
        return None if assignment.task.sandbox else "the sandbox accepts messages of test keys only"
    if row is None or row.deleted or not row.enabled or row.project_id != assignment.task.project_id:
        return "the provider was removed or disabled"
    return None if row.package in registry.installed() else f"{row.package} is not installed"
