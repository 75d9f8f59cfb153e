"""The send command of one row: the message of the job, with the fields and the variables of the row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from gateway.bulk.rows import Row
from gateway.errors import ApiError, Unavailable, ValidationFailed
from gateway.ingest.command import SendCommand
from gateway.messages.v1_schemas import command_of
from sluice.model import ids
from sluice.model.message import Channel
from sluice.templates.limits import TemplateError
from sluice.templates.process_pool import RendererBusyError
from sluice.templates.renderer import Renderer

_RENDERED = ("subject", "html", "text")
_EXAMPLES = {
    Channel.EMAIL: "recipient@example.com",
    Channel.SMS: "+14155550100",
    Channel.WHATSAPP: "+14155550100",
    Channel.TELEGRAM: "1",
    Channel.SIGNAL: "+14155550100",
    Channel.PUSH: "token",
}


async def check_message(message: Mapping[str, Any], renderer: Renderer) -> None:
    """Refuse a message that no row can complete.

    Raises:
        ValidationFailed: the field is named, with ``message.`` before it; of a template with line and column.
    """
    for name in ("to", "idempotency_key"):
        if name in message:
            raise ValidationFailed(
                f"message.{name}: is not a field of the message of a bulk job", field=f"message.{name}"
            )
    channel = message.get("channel")
    example = _EXAMPLES[Channel(channel)] if isinstance(channel, str) and channel in set(Channel) else "x"
    without = {name: value for name, value in message.items() if name != "variables" or "template_id" in message}
    try:
        await asyncio.to_thread(command_of, {**without, "to": [example]})  # a large one takes long
    except ApiError as error:
        field = "message" if error.field is None else f"message.{error.field}"
        raise ValidationFailed(f"message.{error}" if error.field else f"message: {error}", field=field) from None
    if not isinstance(message.get("variables", {}), dict):
        raise ValidationFailed("message.variables: must be an object", field="message.variables")
    if "variables" in message and "template_id" not in message:
        for name in _RENDERED:
            if isinstance(message.get(name), str):
                await _compile(name, message[name], renderer)


async def _compile(name: str, source: str, renderer: Renderer) -> None:
    try:
        await renderer.compile(source, name == "html")
    except TemplateError as error:
        raise ValidationFailed(f"message.{name}: {error}", field=f"message.{name}") from None


async def commands_of(
    message: Mapping[str, Any], rows: Sequence[Row], renderer: Renderer, *, job_id: UUID
) -> list[SendCommand | ApiError]:
    """The command of each row, or what is wrong with it.

    Raises:
        Unavailable: too many expensive templates are being rendered.
    """
    bulk_id = ids.encode_id("blk", job_id)
    commands: list[SendCommand | ApiError] = []
    for row in rows:
        try:
            commands.append(command_of(await _document(message, row, renderer), bulk_id=bulk_id))
        except Unavailable:
            raise
        except ApiError as error:
            commands.append(error)
        await asyncio.sleep(0)  # a row may cost some milliseconds
    return commands


async def _document(message: Mapping[str, Any], row: Row, renderer: Renderer) -> dict[str, Any]:
    document = {**message, **row}
    for name in ("variables", "metadata"):
        if name in message and name in row:
            document[name] = {**message[name], **row[name]}
    if "variables" not in document or "template_id" in document:
        return document
    variables = document.pop("variables")
    for name in _RENDERED:
        if isinstance(document.get(name), str):
            document[name] = await _render(name, document[name], variables, renderer)
    return document


async def _render(name: str, source: str, variables: dict[str, Any], renderer: Renderer) -> str:
    try:
        return await renderer.render(source, variables, html=name == "html")
    except RendererBusyError:
        raise Unavailable("Too many expensive templates are being rendered.") from None
    except TemplateError as error:
        raise ValidationFailed(f"{name}: {error}", field=name) from None
