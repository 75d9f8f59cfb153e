"""The body of ``POST /v1/messages/bulk`` as it arrives: the message, then rows, never more than a piece in memory.

Either JSON lines, whose first line is ``{"message": {...}}``, or a form with the parts ``message`` (JSON) and
``recipients`` (a file of JSON lines or CSV), in this order.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Protocol

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import Request

from gateway.bulk.rows import Csv, JsonLines, Row, RowReader
from gateway.errors import PayloadTooLarge, ValidationFailed
from gateway.kit.body_cost import SMALL, check_cost
from gateway.kit.responses import check_coding, headers_of
from gateway.kit.strict_json import strict_json
from gateway.messages.v1_schemas import without_null_fields

MAX_BYTES = 512 << 20
_MAX_MESSAGE = 1 << 20  # bytes of the message
_PIECE = 16 << 10  # bytes that are read at once, so that the rows of few of them are in memory
_reading = asyncio.Semaphore(1)  # pieces at once, so that other large bodies find free threads; threads share a lock
_JSON_LINES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")
_CSV = ("text/csv", "application/csv", "application/vnd.ms-excel")
_FORM = "multipart/form-data"


class Upload:
    """One upload: :attr:`message` is there once :meth:`rows` has returned its first row.

    ``fingerprint``: the SHA-256 of the body, once all rows were read.
    """

    def __init__(self, request: Request) -> None:
        self.message: dict[str, Any] = {}
        self._request = request
        self._digest = hashlib.sha256()
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        check_coding(headers_of(request.scope))
        self._body: _Body
        if kind == _FORM and options.get("boundary"):
            self._body = _Form(options["boundary"])
        elif kind in _JSON_LINES:
            self._body = _Lines()
        else:
            raise ValidationFailed(
                f"Content-Type: must be {_JSON_LINES[0]}, or {_FORM} with the parts message and recipients",
                field="Content-Type",
            )

    @property
    def fingerprint(self) -> bytes:
        """The SHA-256 of the bytes that were read."""
        return self._digest.digest()

    async def rows(self) -> AsyncIterator[Row]:
        """The rows in order.

        Raises:
            ValidationFailed: the body has another form, or a row is none; the number of the row is in the field.
            PayloadTooLarge: the body or the message has too many bytes.
            ClientDisconnect: the client closed the connection before the end of the body.
        """
        size = 0
        async for data in self._request.stream():
            size += len(data)
            if size > MAX_BYTES:
                raise PayloadTooLarge(f"The body may have at most {MAX_BYTES} bytes.")
            self._digest.update(data)
            for start in range(0, len(data), _PIECE):
                for row in await self._read(partial(self._body.feed, data[start : start + _PIECE])):
                    yield row
        for row in await self._read(self._body.end):
            yield row

    async def _read(self, read: Callable[[], Iterator[Row]]) -> list[Row]:
        """The rows of a piece, read in a thread: a row of 64 KiB, or thousands of short ones, may take long."""
        async with _reading:
            rows = await asyncio.to_thread(lambda: list(read()))
        self.message = self._body.message
        return rows


class _Body(Protocol):
    message: dict[str, Any]

    def feed(self, data: bytes) -> Iterator[Row]: ...
    def end(self) -> Iterator[Row]: ...


class _Lines:
    """JSON lines, of which the first is the message."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {}
        self._head: bytearray | None = bytearray()
        self._reader = JsonLines()

    def feed(self, data: bytes) -> Iterator[Row]:
        if self._head is not None:
            line, separator, data = data.partition(b"\n")
            self._head += line
            _check_message_size(len(self._head))
            if not separator:
                return
            self._read_message(bytes(self._head))
        yield from self._reader.feed(data)

    def end(self) -> Iterator[Row]:
        if self._head is not None:
            self._read_message(bytes(self._head))
        yield from self._reader.end()

    def _read_message(self, line: bytes) -> None:
        document = _object(line)
        if set(document) != {"message"} or not isinstance(document["message"], dict):
            raise ValidationFailed('message: the first line must be {"message": {...}}', field="message")
        self.message, self._head = document["message"], None


class _Form:
    """A form with the parts ``message`` and ``recipients``."""

    def __init__(self, boundary: str) -> None:
        self.message: dict[str, Any] = {}
        self._parser = PushMultipartParser(boundary, max_segment_count=2)
        self._part: MultipartSegment | None = None
        self._json = bytearray()
        self._reader: RowReader | None = None
        self._has_message = False

    def feed(self, data: bytes) -> Iterator[Row]:
        try:
            for event in self._parser.parse(data):
                yield from self._on_event(event)
        except MultipartError as error:
            raise ValidationFailed(f"The form cannot be read: {error}") from None

    def end(self) -> Iterator[Row]:
        try:
            self._parser.close()
        except MultipartError as error:
            raise ValidationFailed(f"The form cannot be read: {error}") from None
        if not self._has_message or self._reader is None:
            missing = "recipients" if self._has_message else "message"
            raise ValidationFailed(f"{missing}: the form has no such part", field=missing)
        return iter(())

    def _on_event(self, event: Any) -> Iterator[Row]:
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif self._reader is not None:
            yield from self._reader.end() if event is None else self._reader.feed(bytes(event))
        elif event is not None:
            self._json += event
            _check_message_size(len(self._json))
        else:
            self.message, self._has_message = _object(bytes(self._json)), True

    def _begin(self, part: MultipartSegment) -> None:
        expected = "recipients" if self._has_message else "message"
        if part.name != expected:
            raise ValidationFailed(
                f"{expected}: is missing; the parts of the form are message and recipients, in this order",
                field=expected,
            )
        if self._has_message:
            kind = part.content_type or ""
            is_csv = kind in _CSV or (kind not in _JSON_LINES and (part.filename or "").lower().endswith(".csv"))
            self._reader = Csv() if is_csv else JsonLines()


def _check_message_size(size: int) -> None:
    if size > _MAX_MESSAGE:
        raise PayloadTooLarge(f"message: may have at most {_MAX_MESSAGE} bytes", field="message")


def _object(data: bytes) -> dict[str, Any]:
    try:
        if len(data) > SMALL:
            check_cost(data)
        return without_null_fields(strict_json(data))
    except (PayloadTooLarge, ValidationFailed) as error:
        raise type(error)(f"message: {error}", field="message") from None
