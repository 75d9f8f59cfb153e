"""The responses of ``/v1/messages/bulk``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from gateway.kit.fields import Timestamp
from sluice.model.state import State
from sluice.store.bulk_jobs import JobStatus


class BulkJobResponse(BaseModel):
    """A bulk job. Rows that are neither accepted nor rejected were not processed yet."""

    id: str
    status: JobStatus
    recipients: int
    accepted: int
    rejected: int
    created_at: Timestamp
    finished_at: Timestamp | None


class BulkProgressResponse(BulkJobResponse):
    """A bulk job with the states of its deliveries."""

    message: dict[str, Any]
    deliveries: dict[State, int] = Field(description="How many deliveries are in each state.")


class BulkErrorResponse(BaseModel):
    """Why a row did not become a message."""

    code: str
    message: str
    field: str | None


class BulkResultResponse(BaseModel):
    """What became of one row. ``status``: of its message; null for a row without one."""

    row: int
    to: str | None
    message_id: str | None
    status: State | None
    error: BulkErrorResponse | None
