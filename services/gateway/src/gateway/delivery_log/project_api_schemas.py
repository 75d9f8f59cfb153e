"""The bodies of ``/delivery-log``."""

from __future__ import annotations

from pydantic import Field

from gateway.kit.camel_case import CamelResponse
from gateway.kit.fields import Timestamp
from gateway.kit.message_type import MessageType
from gateway.kit.numbered_pages import PageMeta
from sluice.model.message import Channel
from sluice.store.delivery_log import LogStatus


class LogEntryResponse(CamelResponse):
    """One delivery: a message to one recipient. ``provider``: of the newest attempt; ``error``: why it failed."""

    id: str
    message_id: str
    message_type: MessageType
    channel: Channel
    recipient: str
    status: LogStatus
    provider: str | None
    template_id: str | None
    project_id: str
    error: str | None
    created_at: Timestamp


class LogMeta(PageMeta):
    """Where the page is in the log."""

    total_is_exact: bool = Field(description="False where there are older entries that the log does not show.")


class LogPageResponse(CamelResponse):
    """One page of the log, newest first."""

    data: list[LogEntryResponse]
    meta: LogMeta


class AttemptResponse(CamelResponse):
    """One call of a provider. ``outcome``: null while it lasts."""

    number: int
    provider: str | None
    outcome: str | None
    error: str | None
    provider_message_id: str | None
    started_at: Timestamp
    finished_at: Timestamp | None


class LogEntryWithAttempts(LogEntryResponse):
    """One delivery with the calls of providers for it, in order."""

    attempts: list[AttemptResponse]
