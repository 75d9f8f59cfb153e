"""The installation's own mail, such as invitations and notices, through the SMTP server of its settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluice.model import ids
from sluice.model.address import parse_address
from sluice.model.ids import uuid7
from sluice.model.message import Email
from sluice.model.outcome import Accepted
from sluice.providers.adapters.smtp import SMTP, SmtpCredentials
from sluice.providers.contract import OutboundMessage
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import cancel_and_wait
from sluice.transports.opening import open_transports
from sluice.transports.provider_call import Transports, call_provider
from sluice.transports.settings import TransportSettings

log = structlog.get_logger()

_DEADLINE = 15.0  # seconds for one mail
_MAX_TASKS = 100  # mails at once


# The operator names the server in the settings; it may be in the operator's own network.
_ANY_ADDRESS = TransportSettings(outgoing_allow="0.0.0.0/0,::/0")


class MailSettings(BaseSettings):
    """For the roles that send the installation's own mail."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="ignore")

    mail_server: SmtpCredentials | None = Field(
        None,
        description="SMTP server for invitations, password resets and notices, with the fields of the credentials of "
        "`provider-smtp`; without one the links are shown instead",
    )
    mail_sender: str | None = Field(None, description="sender of invitations, password resets and notices")

    @field_validator("mail_sender")
    @classmethod
    def _is_address(cls, sender: str | None) -> str | None:
        if sender is not None:
            parse_address(sender)
        return sender


class Mailer:
    """Sends the installation's own mail; without a server it sends none, and the caller shows the link instead."""

    def __init__(self, server: SmtpCredentials | None, sender: str | None) -> None:
        self._server = server
        self._sender = sender
        self._transports: Transports = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_configured(self) -> bool:
        """Whether there is a server and a sender."""
        return self._server is not None and self._sender is not None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Mailer]:
        """Keep connections until the block ends."""
        async with AsyncExitStack() as stack:
            if self.is_configured:
                self._transports = await stack.enter_async_context(open_transports(limits=_ANY_ADDRESS))
            try:
                yield self
            finally:
                await cancel_and_wait(*self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``, which sends a mail, after the response; an error of it is logged."""
        if len(self._tasks) >= _MAX_TASKS:
            work.close()
            log.error("system_mail_not_sent", outcome="too many at once", detail="")
            return
        task = asyncio.get_running_loop().create_task(_logged(work), name="system-mail")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def mail(self, to: str, *, subject: str, text: str) -> bool:
        """Send one mail: whether the server accepted it. A refusal is logged without the recipient."""
        if self._server is None or self._sender is None:
            return False
        now, mail_id = utc_now(), uuid7()
        message = OutboundMessage(
            content=Email(sender=self._sender, to=(to,), subject=subject, text=text),
            recipient=to,
            reference=f"sys_{mail_id.hex}",
            message_id=ids.encode_id("msg", mail_id),
            created_at=now,
            attempted_at=now,
        )
        outcome = await call_provider(SMTP, message, self._server, self._transports, deadline=_DEADLINE)
        if isinstance(outcome, Accepted):
            return True
        log.error("system_mail_not_sent", outcome=type(outcome).__name__, detail=getattr(outcome, "detail", ""))
        return False


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("system_mail_not_sent")
