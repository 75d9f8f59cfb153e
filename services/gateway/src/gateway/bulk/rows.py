"""The rows of an upload, read from pieces of bytes as they arrive: JSON lines, or CSV with a header."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from typing import Any, AnyStr, Generic, Protocol

from gateway.errors import ValidationFailed
from gateway.kit.fields import storable
from gateway.kit.strict_json import strict_json
from gateway.messages.v1_schemas import without_null_fields

MAX_ROW = 65_536  # bytes of a row
_MAX_COLUMNS = 200
_DELIMITERS = ",;\t"

Row = dict[str, Any]
"""The recipient, ``to``, and the fields that differ from the message of the job."""


class RowReader(Protocol):
    """Reads the rows of one upload."""

    def feed(self, data: bytes) -> Iterator[Row]:
        """The rows that are complete with these bytes."""
        ...

    def end(self) -> Iterator[Row]:
        """The last row, where no line break follows it."""
        ...


def row_fault(number: int, text: str, field: str | None = None) -> ValidationFailed:
    """The error of a row, which has the ``number`` of its line or record, from 1."""
    name = f"recipients.{number}" + ("" if field is None else f".{field}")
    return ValidationFailed(f"{name}: {text}", field=name)


def check_row(number: int, row: Row) -> Row:
    """``row``, if it has a recipient and could be a message.

    Raises:
        ValidationFailed: ``to`` is missing or no text, or a field belongs to the message of the job.
    """
    to = row.get("to")
    texts = [to] if isinstance(to, str) else to
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise row_fault(number, "must be a recipient, or a list of them", "to")
    for name in ("channel", "idempotency_key"):
        if name in row:
            raise row_fault(number, "is not a field of a row", name)
    for name in ("variables", "metadata"):
        if not isinstance(row.get(name, {}), dict):
            raise row_fault(number, "must be an object", name)
    return row


class _Lines(Generic[AnyStr]):
    """Divides a text that arrives in pieces at its line breaks, and reads each piece once, however long a line is."""

    def __init__(self, line_break: AnyStr) -> None:
        self._line_break: AnyStr = line_break
        self._begun: list[AnyStr] = []
        self.size = 0
        """The length of the line that has begun."""

    def add(self, piece: AnyStr) -> list[AnyStr]:
        """The lines that are complete with this piece."""
        parts: list[AnyStr] = piece.split(self._line_break)
        self._begin(parts[0])
        if len(parts) == 1:
            return []
        parts[0] = self.end()
        self._begin(parts.pop())
        return parts

    def end(self) -> AnyStr:
        """The line that has begun; nothing is left of it."""
        line: AnyStr = self._line_break[:0].join(self._begun)
        self._begun, self.size = [], 0
        return line

    def _begin(self, text: AnyStr) -> None:
        self._begun.append(text)
        self.size += len(text)


class JsonLines:
    """One JSON object a line; blank lines are skipped."""

    def __init__(self) -> None:
        self._lines = _Lines(b"\n")
        self._number = 0

    def feed(self, data: bytes) -> Iterator[Row]:
        """The rows that are complete with these bytes.

        Raises:
            ValidationFailed: a line is too long, no JSON object, or no row.
        """
        for line in self._lines.add(data):
            yield from self._row(line)
        self._check_length(self._lines.size)

    def end(self) -> Iterator[Row]:
        """The last row, where no line break follows it.

        Raises:
            ValidationFailed: as :meth:`feed`.
        """
        yield from self._row(self._lines.end())

    def _check_length(self, size: int) -> None:
        if size > MAX_ROW:
            raise row_fault(self._number + 1, f"has more than {MAX_ROW} bytes")

    def _row(self, line: bytes) -> Iterator[Row]:
        if not line.strip():
            return
        self._check_length(len(line))
        self._number += 1
        try:
            row = without_null_fields(strict_json(line))
        except ValidationFailed as error:
            raise row_fault(self._number, str(error)) from None
        yield check_row(self._number, row)


class Csv:
    """CSV (RFC 4180) in UTF-8 with a header: ``to``, columns that begin with ``metadata.``, and variables.

    The header decides between comma, semicolon and tab.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._lines = _Lines("\n")
        self._record: list[str] = []  # the lines of a record that a text with line breaks has begun
        self._size = 0  # characters of these
        self._is_quoted = False  # whether they end within a text
        self._columns: list[str] | None = None
        self._delimiter = ","
        self._number = 0

    def feed(self, data: bytes) -> Iterator[Row]:
        """The rows that are complete with these bytes.

        Raises:
            ValidationFailed: it is not UTF-8; the header has no ``to`` or a name twice; or a record is too long, has
                too many values, or is not CSV.
        """
        for line in self._lines.add(self._decode(data)):
            yield from self._line(line + "\n")
        self._check_length(self._size + self._lines.size)

    def end(self) -> Iterator[Row]:
        """The last row, where no line break follows it.

        Raises:
            ValidationFailed: as :meth:`feed`, or a quotation mark is missing.
        """
        self._decode(b"", final=True)
        yield from self._line(self._lines.end())
        if self._is_quoted:
            raise row_fault(self._number + 1, "a quotation mark is missing")
        if self._columns is None:
            raise ValidationFailed("recipients: the header is missing", field="recipients")

    def _decode(self, data: bytes, *, final: bool = False) -> str:
        try:
            return self._decoder.decode(data, final)
        except UnicodeDecodeError:
            raise ValidationFailed("recipients: the CSV is not UTF-8", field="recipients") from None

    def _check_length(self, size: int) -> None:
        if size > MAX_ROW:
            raise row_fault(self._number + 1, f"has more than {MAX_ROW} characters; a quotation mark may be missing")

    def _line(self, line: str) -> Iterator[Row]:
        self._record.append(line)
        self._size += len(line)
        self._check_length(self._size)
        self._is_quoted ^= line.count('"') % 2 == 1
        if self._is_quoted:
            return
        record = "".join(self._record)
        self._record, self._size = [], 0
        if not record.strip():
            return
        if self._columns is None:
            self._delimiter = max(_DELIMITERS, key=record.count)
            self._columns = _header(self._values(record))
            return
        self._number += 1
        yield self._row(self._values(record))

    def _values(self, record: str) -> list[str]:
        try:
            (values,) = csv.reader([record], delimiter=self._delimiter, strict=True)
            return [storable(value) for value in values]
        except (csv.Error, ValueError) as error:
            raise row_fault(self._number, str(error)) from None

    def _row(self, values: list[str]) -> Row:
        assert self._columns is not None
        if len(values) > len(self._columns):
            raise row_fault(self._number, f"has {len(values)} values; the header names {len(self._columns)} columns")
        row: Row = {}
        for name, value in zip(self._columns, values, strict=False):
            kind, separator, rest = name.partition(".")
            if name == "to":
                row["to"] = value.strip()
            elif kind == "metadata" and separator:
                row.setdefault("metadata", {})[rest] = value
            else:
                row.setdefault("variables", {})[name] = value
        return check_row(self._number, row)


def _header(names: list[str]) -> list[str]:
    columns = [name.strip() for name in names]
    if "to" not in columns:
        raise ValidationFailed("recipients: the header has no column `to`", field="recipients")
    if len(set(columns)) != len(columns) or "" in columns or len(columns) > _MAX_COLUMNS:
        raise ValidationFailed(
            f"recipients: the header must name at most {_MAX_COLUMNS} columns, each once", field="recipients"
        )
    return columns
