"""``POST /v1/messages/batch``: several messages in one request, each with its own result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from gateway.auth.principal import Principal
from gateway.errors import ApiError, Unavailable, ValidationFailed, field_of
from gateway.ingest.command import SendCommand
from gateway.ingest.ingest import Accepted, AcceptedMessage, MessageBatch
from gateway.kit.body_cost import BodyBudget, HeldBody, check_cost
from gateway.kit.chunks import chunks_of
from gateway.kit.responses import headers_of, key_of, read_body
from gateway.kit.strict_json import NUL, check_storable, object_of
from gateway.messages.v1_schemas import command_of
from gateway.services import Services
from sluice.store.db import UNAVAILABLE_ERRORS, rows_of

MAX_MESSAGES = 1_000
MAX_RECIPIENTS = 10_000  # of all messages of a batch together
MAX_BYTES = 10 << 20
_CHUNK = 200  # messages of one transaction
_COST = 10  # large mails that a batch may cost to decode
_budget = BodyBudget(total=4 * MAX_BYTES, per_project=MAX_BYTES)
_transactions = asyncio.Semaphore(2)  # at once, so that other requests find free connections


async def send_batch(services: Services, principal: Principal, request: Request) -> list[Accepted]:
    """What became of each message in the body ``{"messages": [...]}``.

    Raises:
        ValidationFailed: the body has another form, the wrong number of messages, or too many recipients.
        PayloadTooLarge: it has too many bytes, or costs too much to decode.
        TooManyRequests: the project has too many bytes of such requests under way.
        Unavailable: see :func:`accept_batch`.
    """
    held = _budget.body(principal.project_id)
    try:
        return await accept_batch(services, principal, await _read(request, held))
    finally:
        held.release()


async def _read(request: Request, held: HeldBody) -> list[SendCommand | ApiError]:
    """The commands of a batch, with the errors of those that cannot be read."""
    headers = headers_of(request.scope)
    key = key_of(headers)
    body = await read_body(headers, request.receive, MAX_BYTES, held)
    return await asyncio.to_thread(_commands, body, key)


def _commands(body: bytes, key: str | None) -> list[SendCommand | ApiError]:
    check_cost(body, messages=_COST)
    document = object_of(body)
    for name in document:
        if name != "messages":
            field = field_of([name])
            raise ValidationFailed(f"{field}: is not a field of this request", field=field)
    items = document.get("messages")
    if not isinstance(items, list) or not 0 < len(items) <= MAX_MESSAGES:
        raise ValidationFailed(f"messages: must be a list of 1 to {MAX_MESSAGES} messages", field="messages")
    if sum(map(_recipients, items)) > MAX_RECIPIENTS:
        raise ValidationFailed(f"messages: may have at most {MAX_RECIPIENTS} recipients together", field="messages")
    has_nul = NUL in body
    return [_command(item, None if key is None else item_key(key, index), has_nul) for index, item in enumerate(items)]


def _recipients(item: Any) -> int:
    """How many recipients an item that was not read yet names."""
    lists = (item.get(name) for name in ("to", "cc", "bcc")) if isinstance(item, dict) else ()
    return sum(len(one) for one in lists if isinstance(one, list))


def item_key(key: str, index: int) -> str:
    """The idempotency key of one item, which no caller can write: it begins with a control character."""
    return f"\x1fbatch/{key}/{index}"


def _command(item: Any, fallback_key: str | None, has_nul: bool) -> SendCommand | ApiError:
    if not isinstance(item, dict):
        return ValidationFailed("must be an object")
    try:
        if has_nul:
            check_storable(item)
        return command_of(item, fallback_key=fallback_key)
    except ApiError as error:
        return error


async def accept_batch(
    services: Services, principal: Principal, commands: Sequence[SendCommand | ApiError]
) -> list[Accepted]:
    """What became of each command. They are stored in chunks, each in one transaction.

    Raises:
        Unavailable: nothing was stored. Where only some chunks could not be, it is the result of their commands.
    """
    results: list[Accepted] = []
    for chunk in chunks_of(commands, _CHUNK, _deliveries):
        try:
            batch = await services.ingest.prepare_batch(chunk, principal, source="http")
            results += await _store(services, principal, batch)
        except Unavailable as error:
            if not any(isinstance(result, AcceptedMessage) for result in results):
                raise
            results += [one if isinstance(one, ApiError) else error for one in chunk]
    return results


def _deliveries(command: SendCommand | ApiError) -> int:
    return 0 if isinstance(command, ApiError) else len(command.recipients)


async def _store(services: Services, principal: Principal, batch: MessageBatch) -> list[Accepted]:
    try:
        async with (
            asyncio.timeout(batch.time_limit),
            _transactions,
            rows_of(services.pool, [principal.project_id]) as db,
        ):
            results = await batch.insert(db)
    except UNAVAILABLE_ERRORS as error:
        batch.doubt()
        raise Unavailable("The messages could not be stored: the database is unavailable. Retry later.") from error
    batch.publish()
    return results
