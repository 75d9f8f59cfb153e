"""Dead letters: records that could not be processed and deliveries that failed, without the bytes of the records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sluice.store.db import Db, columns

KEPT_FOR = timedelta(days=30)
"""As long as the topic keeps them (deploy/topics.yml)."""


class LetterKind(StrEnum):
    """What a dead letter is about."""

    INVALID_RECORD = "invalid_record"
    FAILED_DELIVERY = "failed_delivery"


class LetterStatus(StrEnum):
    """Whether an operator has to look at it."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class DeadLetter(NamedTuple):
    """A dead letter. ``project_id``: None where it is not known.

    ``topic``, ``partition`` and ``record_offset`` are those of an invalid record, ``letter_partition`` and
    ``letter_offset`` where the letter is on ``dead.letters``.
    """

    id: UUID
    project_id: UUID | None
    kind: LetterKind
    status: LetterStatus
    reason: str
    topic: str | None
    partition: int | None
    record_offset: int | None
    delivery_id: UUID | None
    message_id: UUID | None
    letter_partition: int
    letter_offset: int
    occurred_at: datetime
    resolved_at: datetime | None


_COLUMNS = ", ".join(DeadLetter._fields)


def _letter(row: Any) -> DeadLetter:
    return DeadLetter(**dict(row) | {"kind": LetterKind(row["kind"]), "status": LetterStatus(row["status"])})


async def add(db: Db, letters: Sequence[DeadLetter]) -> None:
    """Store new letters (at least one); those that are there already stay as they are."""
    await db.execute(
        f"""
        INSERT INTO dead_letters ({_COLUMNS})
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[],
                             $8::bigint[], $9::uuid[], $10::uuid[], $11::integer[], $12::bigint[],
                             $13::timestamptz[], $14::timestamptz[])
        ON CONFLICT DO NOTHING
        """,  # noqa: S608  a constant
        *columns(letters).values(),
    )


async def list_letters(
    db: Db,
    project_id: UUID | None,
    *,
    kind: LetterKind | None = None,
    status: LetterStatus | None = None,
    topic: str | None = None,
    limit: int,
    before: UUID | None = None,
) -> list[DeadLetter]:
    """The newest letters, those older than the id ``before``; of one project, or of all and of none."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS} FROM dead_letters
         WHERE ($1::uuid IS NULL OR project_id = $1) AND ($2::uuid IS NULL OR id < $2)
           AND ($3::text IS NULL OR kind = $3) AND ($4::text IS NULL OR status = $4)
           AND ($5::text IS NULL OR topic = $5)
         ORDER BY id DESC LIMIT $6
        """,  # noqa: S608  a constant
        project_id,
        before,
        kind,
        status,
        topic,
        limit,
    )
    return [_letter(row) for row in rows]


async def find_letter(db: Db, letter_id: UUID) -> DeadLetter | None:
    """The letter, of any project; for the operator."""
    row = await db.fetchrow(f"SELECT {_COLUMNS} FROM dead_letters WHERE id = $1", letter_id)  # noqa: S608  a constant
    return None if row is None else _letter(row)


async def resolve(db: Db, letter_id: UUID, status: LetterStatus, *, now: datetime) -> None:
    """An operator has replayed or discarded a letter."""
    await db.execute("UPDATE dead_letters SET status = $2, resolved_at = $3 WHERE id = $1", letter_id, status, now)
