"""The projection of ``dead.letters``: a row for each letter, without the bytes of its record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import orjson
import structlog

from sluice.bus.dead_letters import RawRecord
from sluice.model.characters import as_storable
from sluice.model.ids import derived_uuid7
from sluice.runtime import failpoints
from sluice.store import dead_letters
from sluice.store.db import UNAVAILABLE_ERRORS, Db
from sluice.store.dead_letters import DeadLetter, LetterKind, LetterStatus

log = structlog.get_logger()

_RETRY_DELAY = 1.0  # seconds before a batch is consumed again
_MAX_TEXT = 1024  # characters


class DeadLetterProjection:
    """Stores the letters of batches of records; a repeated record is the same row."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def on_letters(self, records: Sequence[RawRecord]) -> None:
        """Store the letters of a batch.

        Raises:
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; raised after a pause.
        """
        letters = [letter for record in records if (letter := read_letter(record)) is not None]
        if not letters:
            return
        assert failpoints.hit("letters.before_write")
        try:
            await dead_letters.add(self._db, letters)
        except UNAVAILABLE_ERRORS as error:
            log.warning("dead_letters_retrying", missing="postgres", error=type(error).__name__)
            await asyncio.sleep(_RETRY_DELAY)
            raise
        assert failpoints.hit("letters.written")


def read_letter(record: RawRecord) -> DeadLetter | None:
    """The letter in a record; None for a record that is none, of which nothing follows."""
    try:
        fields = orjson.loads(record.value or b"")
        kind = LetterKind(fields["kind"])
        at = datetime.fromisoformat(fields["at"]).astimezone(UTC)
        seed = f"{record.partition}/{record.offset}@{record.timestamp}".encode()
        return DeadLetter(
            id=derived_uuid7(record.timestamp, seed),
            project_id=_id(fields.get("project_id")),
            kind=kind,
            status=LetterStatus.OPEN,
            reason=_text(fields["reason"]) or "",
            topic=_text(fields.get("topic")),
            partition=_number(fields.get("partition"), 31),
            record_offset=_number(fields.get("offset"), 63),
            delivery_id=_id(fields.get("delivery_id")),
            message_id=_id(fields.get("message_id")),
            letter_partition=record.partition,
            letter_offset=record.offset,
            occurred_at=at,
            resolved_at=None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        log.warning("dead_letter_unreadable", partition=record.partition, offset=record.offset)
        return None


def _id(text: object) -> UUID | None:
    return None if text is None else UUID(str(text))


def _text(text: object) -> str | None:
    return None if text is None else as_storable(str(text), _MAX_TEXT)


def _number(value: object, bits: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise ValueError
    return value
