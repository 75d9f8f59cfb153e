"""Where an HTTP/1.1 request ends (RFC 9112): the bytes of a connection, cut into one request after the other.

The parser behind it has no limits of its own and reads on into the next request. The framer hands it one complete head,
then the body, then nothing until the response is complete: all that a client can make grow is bounded here, and bytes
that follow a request are never read as a part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus

from sluice.runtime.http_limits import RequestLimits

_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:[^\r\n]*", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_MAX_CHUNK_LINE = 1024  # bytes of a chunk's size and extensions
_REQUEST_LINE = 64  # bytes of a request line beside its URL


class RefusedRequestError(Exception):
    """The request breaks HTTP or a limit: the connection ends with ``status`` and this text."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _Part(Enum):
    HEAD = auto()
    BODY = auto()  # the rest of a body of known length, or of a chunk and its line end
    CHUNK_LINE = auto()
    TRAILERS = auto()
    COMPLETE = auto()


class RequestFramer:
    """Gives ``parse`` the bytes of one request at a time. It does no input or output.

    The bytes of one call belong to one request. While it parses, ``parse`` calls :meth:`body` at the end of a head, and
    :meth:`complete` at the end of the request; the next request waits for :meth:`next_request`.
    """

    def __init__(self, parse: Callable[[bytes], object], limits: RequestLimits) -> None:
        self._parse = parse
        self._limits = limits
        self._data = b""
        self._position = 0  # of the first byte that is not parsed
        self._searched = 0  # bytes after the position that contain no end of a head
        self._part = _Part.HEAD
        self._remaining = 0  # bytes of the body or chunk that have not arrived
        self._chunked = False
        self._blank_line = False

    @property
    def awaits_head(self) -> bool:
        """Whether the next byte belongs to a head."""
        return self._part is _Part.HEAD

    @property
    def is_complete(self) -> bool:
        """Whether the request has been read to its end, and the next one waits."""
        return self._part is _Part.COMPLETE

    @property
    def buffered(self) -> int:
        """The bytes that are held back: a part of a head, or what follows a complete request."""
        return len(self._data) - self._position

    @property
    def remaining(self) -> int | None:
        """The bytes of the body that have not arrived; None when the head does not say it."""
        return None if self._chunked else self._remaining

    def body(self, *, length: int, chunked: bool) -> None:
        """The body that follows the head that was just parsed."""
        self._chunked, self._remaining = chunked, length
        self._part = _Part.CHUNK_LINE if chunked else _Part.BODY

    def complete(self) -> None:
        """The request that was just parsed is complete."""
        self._part = _Part.COMPLETE

    def next_request(self) -> None:
        """Parse the next request as far as it has arrived.

        Raises:
            RefusedRequestError: it breaks HTTP or a limit.
        """
        self._part, self._chunked, self._remaining, self._blank_line = _Part.HEAD, False, 0, False
        self._advance()

    def discard(self) -> None:
        """Forget what is buffered: nothing more is parsed, and a connection's objects wait to be collected."""
        self._data, self._position = b"", 0

    def feed(self, data: bytes) -> None:
        """Parse what has arrived, at most to the end of the request.

        Raises:
            RefusedRequestError: the request breaks HTTP or a limit.
        """
        if self._position < len(self._data):
            data = self._data[self._position :] + data
        self._data, self._position = data, 0
        self._advance()

    def _advance(self) -> None:
        while self._position < len(self._data) and self._part is not _Part.COMPLETE:
            size = _STEPS[self._part](self)
            if not size:
                return
            self._position += size

    # Each step parses what there is of its part, and returns the number of bytes; 0 when it has to wait for more.

    def _head(self) -> int:
        data, start = self._data, self._position
        if data.startswith(b"\r\n", start):
            if self._blank_line:
                raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "a request line is missing")
            self._blank_line = True  # RFC 9112 2.2: one is ignored
            return 2
        end = data.find(b"\r\n\r\n", start + max(self._searched - 3, 0))
        head = data[start:] if end < 0 else data[start : end + 4]
        line_end = head.find(b"\r\n")
        if (line_end if line_end >= 0 else len(head)) > self._limits.url_bytes + _REQUEST_LINE:
            raise RefusedRequestError(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"a URL may have at most {self._limits.url_bytes} bytes"
            )
        self._check_fields(head, lines=self._limits.headers + 2)
        if end < 0:
            self._searched = len(head)
            return 0
        self._searched = 0
        # A server without other protocols ignores the header (RFC 9110 7.8); the parser would end the request here.
        self._parse(_UPGRADE.sub(b"", head) if b"upgrade" in head.lower() else head)
        return len(head)

    def _check_fields(self, fields: bytes, *, lines: int) -> None:
        if len(fields) > self._limits.head_bytes:
            raise RefusedRequestError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the headers may have at most {self._limits.head_bytes} bytes",
            )
        ends = fields.count(b"\r\n")
        if ends > lines:
            raise RefusedRequestError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request may have at most {self._limits.headers} headers"
            )
        if fields.count(b"\n") != ends:
            raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "a line of the head does not end with CR LF")

    def _body(self) -> int:
        piece = self._data[self._position : self._position + self._remaining]
        self._remaining -= len(piece)
        if self._chunked and not self._remaining:
            self._part = _Part.CHUNK_LINE
        self._parse(piece)
        return len(piece)

    def _chunk_line(self) -> int:
        line = _CHUNK_LINE.match(self._data, self._position, self._position + _MAX_CHUNK_LINE)
        if line is None:
            if self._data.find(b"\n", self._position) >= 0 or self.buffered >= _MAX_CHUNK_LINE:
                raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "the size of a chunk is invalid")
            return 0
        size = int(line[1], 16)
        self._part = _Part.BODY if size else _Part.TRAILERS
        self._remaining = size + 2
        self._parse(line[0])
        return len(line[0])

    def _trailers(self) -> int:
        data, start = self._data, self._position
        end = start if data.startswith(b"\r\n", start) else data.find(b"\r\n\r\n", start) + 2
        complete = end >= start and data.startswith(b"\r\n", end)
        trailers = data[start : end + 2] if complete else data[start:]
        self._check_fields(trailers, lines=self._limits.headers + 1)
        if not complete:
            return 0
        self._parse(trailers)
        return len(trailers)


_STEPS: dict[_Part, Callable[[RequestFramer], int]] = {
    _Part.HEAD: RequestFramer._head,
    _Part.BODY: RequestFramer._body,
    _Part.CHUNK_LINE: RequestFramer._chunk_line,
    _Part.TRAILERS: RequestFramer._trailers,
}
