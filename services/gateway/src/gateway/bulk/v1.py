"""``/v1/messages/bulk``: one message for many recipients."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from gateway.bulk import service
from gateway.bulk.upload import Upload
from gateway.bulk.v1_schemas import BulkJobResponse, BulkProgressResponse, BulkResultResponse
from gateway.dependencies import MessagesCancel, MessagesRead, MessagesSend, ServicesDep
from gateway.errors import IdempotencyConflict, TooManyRequests
from gateway.kit.pagination import Page, PageDep
from gateway.kit.replayed import REPLAYED_HEADER
from gateway.kit.responses import headers_of, key_of, rfc3339
from gateway.kit.streams import content_of
from gateway.kit.v1_errors import errors_of
from sluice.model import ids
from sluice.store.bulk_jobs import BulkJob, RowResult

router = APIRouter(prefix="/v1/messages/bulk", tags=["bulk"])

_LINES = "application/jsonl"
_EXAMPLE = {
    "channel": "email",
    "from": "news@example.com",
    "subject": "News for {{name}}",
    "text": "Hello {{name}}!",
    "variables": {"name": "you"},
}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["message", "recipients"],
                    "properties": {
                        "message": {
                            "type": "object",
                            "description": "The fields of a single message, without `to`. With `variables`, or where a "
                            "row has some, subject, html and text are templates.",
                            "example": _EXAMPLE,
                        },
                        "recipients": {
                            "type": "string",
                            "format": "binary",
                            "description": "CSV with a header, or JSON lines.",
                        },
                    },
                }
            },
            _LINES: {
                "schema": {"type": "string", "description": 'The first line is `{"message": {...}}`.'},
                "example": '{"message":{"channel":"sms","from":"Shop","text":"Hello {{name}}"}}\n'
                '{"to":"+14155551234","variables":{"name":"Ada"}}\n',
            },
        },
    }
}
_CREATED: dict[str, Any] = {"description": "The upload is stored.", "headers": REPLAYED_HEADER}
_RESULTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One object a line, or CSV with a header, in the order of the rows.",
        "content": content_of(BulkResultResponse, _LINES) | {"text/csv": {"schema": {"type": "string"}}},
    }
}


async def _key_of(request: Request, idempotency_key: Annotated[str | None, Header()] = None) -> str | None:
    """The idempotency key; the argument documents its header."""
    return key_of(headers_of(request.scope))


_Key = Annotated[str | None, Depends(_key_of)]


@router.post(
    "",
    status_code=202,
    responses=errors_of(IdempotencyConflict, TooManyRequests) | {202: _CREATED},
    openapi_extra=_UPLOAD,
)
async def create_bulk_job(
    request: Request,
    response: Response,
    key: _Key,
    principal: MessagesSend,
    services: ServicesDep,
) -> BulkJobResponse:
    """Send one message to up to 1,000,000 recipients, uploaded as CSV or JSON lines of at most 512 MiB.

    A row has `to` and what differs from the message: `variables`, `metadata`, or any other field. In CSV the column
    `to` is the recipient, columns that begin with `metadata.` are metadata, and the others are variables. The upload is
    refused where a row cannot be read; a row that cannot become a message is rejected alone, and its result says why.
    Nothing is sent before the upload is complete. With an `Idempotency-Key` a repeated upload is the first job.
    """
    created = await service.create_job(services, principal, Upload(request), key=key)
    if created.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return BulkJobResponse.model_validate(_fields(created.job))


@router.get("", responses=errors_of())
async def list_bulk_jobs(principal: MessagesRead, page: PageDep, services: ServicesDep) -> Page[BulkJobResponse]:
    """The project's bulk jobs, newest first."""
    rows = await service.list_jobs(services, principal.scope, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.id, lambda row: BulkJobResponse.model_validate(_fields(row)))


@router.get("/{bulk_id}", responses=errors_of())
async def get_bulk_job(bulk_id: str, principal: MessagesRead, services: ServicesDep) -> BulkProgressResponse:
    """The progress of a bulk job. `GET /v1/messages?bulk=…` lists its messages."""
    job = await service.find_job(services, principal.scope, bulk_id)
    return BulkProgressResponse(
        **_fields(job),
        message=orjson.loads(job.message),
        deliveries=await service.count_states(services, job),
    )


@router.delete("/{bulk_id}/cancel", responses=errors_of())
async def cancel_bulk_job(bulk_id: str, principal: MessagesCancel, services: ServicesDep) -> BulkJobResponse:
    """Cancel a bulk job: no further row becomes a message, and messages that no provider has are cancelled."""
    return BulkJobResponse.model_validate(_fields(await service.cancel_job(services, principal.scope, bulk_id)))


@router.get("/{bulk_id}/results", response_class=StreamingResponse, responses=errors_of() | _RESULTS)
async def download_bulk_results(
    bulk_id: str,
    principal: MessagesRead,
    services: ServicesDep,
    format: Annotated[Literal["jsonl", "csv"], Query()] = "jsonl",
) -> StreamingResponse:
    """What became of each row so far."""
    job = await service.find_job(services, principal.scope, bulk_id)
    chunks = service.read_results(services, job)
    if format == "csv":
        return StreamingResponse(_csv(chunks), media_type="text/csv")
    return StreamingResponse(_lines(chunks), media_type=_LINES)


def _fields(job: BulkJob) -> dict[str, Any]:
    return {
        "id": ids.encode_id("blk", job.id),
        "status": job.status,
        "recipients": job.recipients,
        "accepted": job.accepted,
        "rejected": job.rejected,
        "created_at": rfc3339(job.created_at),
        "finished_at": None if job.finished_at is None else rfc3339(job.finished_at),
    }


def _result(result: RowResult) -> BulkResultResponse:
    return BulkResultResponse.model_validate(
        {
            "row": result.number,
            "to": result.recipient,
            "message_id": None if result.message_id is None else ids.encode_id("msg", result.message_id),
            "status": result.status,
            "error": result.error,
        }
    )


async def _lines(chunks: AsyncIterator[Sequence[RowResult]]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield b"".join(_result(one).model_dump_json().encode() + b"\n" for one in chunk)


async def _csv(chunks: AsyncIterator[Sequence[RowResult]]) -> AsyncIterator[bytes]:
    yield b"row,to,message_id,status,error_code,error_message,error_field\r\n"
    async for chunk in chunks:
        text = io.StringIO()
        writer = csv.writer(text)
        for one in map(_result, chunk):
            error = one.error
            parts = ("", "", "") if error is None else (error.code, error.message, error.field or "")
            writer.writerow([one.row, _cell(one.to or ""), one.message_id or "", one.status or "", *map(_cell, parts)])
        yield text.getvalue().encode()


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula; a phone number is none."""
    is_formula = text[:1] in ("=", "@", "\t", "\r") or (text[:1] in ("+", "-") and not text[1:].isdigit())
    return f"'{text}" if is_formula else text
