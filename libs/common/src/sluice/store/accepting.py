"""Writing accepted messages: the one function behind both doors.

A whole batch is one transaction with one statement per table, so concurrent requests share a commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sluice import crash
from sluice.model.message import Channel, Class
from sluice.model.state import EventKind, State
from sluice.store.db import Connection, Db

KEY_LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One addressee of a new message."""

    id: UUID
    recipient: str


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A validated request on its way into the record."""

    id: UUID
    project_id: UUID
    channel: Channel
    class_: Class
    sender: str | None
    content: str  # JSON
    deliveries: tuple[NewDelivery, ...]
    created_at: datetime
    expires_at: datetime
    due_at: datetime  # when the recovery loop may drive it, should the conveyor lose it
    send_at: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: str | None = None  # JSON
    preferred: UUID | None = None
    sandbox: bool = False
    idempotency_key: str | None = None
    fingerprint: bytes = b""  # SHA-256 of the canonical body, only with a key
    attachments: tuple[tuple[str, bytes], ...] = field(default=())  # (sha256, content)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The message exists now."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The same request was accepted before, as this message."""

    message_id: UUID


@dataclass(frozen=True, slots=True)
class Conflicting:
    """The key was used for another body; nothing was changed."""

    message_id: UUID


Verdict = Recorded | Replayed | Conflicting


async def accept(connection: Connection, batch: Sequence[NewMessage]) -> list[Verdict]:
    """Record a batch in one transaction; the verdicts come in the batch's order.

    The unique index on (project, key) decides between concurrent requests with one key, also between gateways:
    the second waits for the first one's commit and then reads what it wrote.
    """
    async with connection.transaction():
        verdicts = await _claim_keys(connection, batch)
        assert crash.at("accept.keys_claimed")
        fresh = [message for message, verdict in zip(batch, verdicts, strict=True) if isinstance(verdict, Recorded)]
        if fresh:
            await _write(connection, fresh)
        assert crash.at("accept.rows_written")
    return verdicts


async def _claim_keys(connection: Connection, batch: Sequence[NewMessage]) -> list[Verdict]:
    # In the order of the keys: two transactions that want the same keys must not wait for each other in a ring.
    keyed = sorted(
        (message for message in batch if message.idempotency_key is not None),
        key=lambda message: (message.project_id, message.idempotency_key or ""),
    )
    if not keyed:
        return [Recorded()] * len(batch)
    firsts: dict[tuple[UUID, str], NewMessage] = {}
    for message in keyed:
        firsts.setdefault(_key(message), message)
    won = await _insert_keys(connection, list(firsts.values()))
    owners = {key: (first.id, first.fingerprint) for key, first in firsts.items() if key in won}
    owners |= await _read_keys(connection, [first for key, first in firsts.items() if key not in won])
    return [
        Recorded() if message.idempotency_key is None else _verdict(message, *owners[_key(message)])
        for message in batch
    ]


def _key(message: NewMessage) -> tuple[UUID, str]:
    return message.project_id, message.idempotency_key or ""


def _verdict(message: NewMessage, owner: UUID, fingerprint: bytes) -> Verdict:
    if owner == message.id:
        return Recorded()
    return Replayed(owner) if fingerprint == message.fingerprint else Conflicting(owner)


async def _insert_keys(connection: Connection, firsts: Sequence[NewMessage]) -> set[tuple[UUID, str]]:
    rows = await connection.fetch(
        """
        INSERT INTO idempotency_keys AS held (project_id, key, fingerprint, message_id, expires_at)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::uuid[], $5::timestamptz[])
        ON CONFLICT (project_id, key) DO UPDATE
           SET fingerprint = excluded.fingerprint, message_id = excluded.message_id, expires_at = excluded.expires_at
         WHERE held.expires_at <= excluded.expires_at - $6::interval
        RETURNING project_id, key
        """,
        [message.project_id for message in firsts],
        [message.idempotency_key for message in firsts],
        [message.fingerprint for message in firsts],
        [message.id for message in firsts],
        [message.created_at + KEY_LIFETIME for message in firsts],
        KEY_LIFETIME,
    )
    return {(row["project_id"], row["key"]) for row in rows}


async def _read_keys(
    connection: Connection, losers: Sequence[NewMessage]
) -> dict[tuple[UUID, str], tuple[UUID, bytes]]:
    if not losers:
        return {}
    rows = await connection.fetch(
        """
        SELECT project_id, key, message_id, fingerprint
          FROM idempotency_keys
          JOIN unnest($1::uuid[], $2::text[]) AS wanted (project_id, key) USING (project_id, key)
        """,
        [message.project_id for message in losers],
        [message.idempotency_key for message in losers],
    )
    return {(row["project_id"], row["key"]): (row["message_id"], row["fingerprint"]) for row in rows}


async def forget_keys(db: Db, *, now: datetime, limit: int) -> int:
    """Delete up to ``limit`` keys that are over; returns how many. Keys that a request holds just now are left."""
    done = await db.execute(
        """
        DELETE FROM idempotency_keys AS held
         USING (SELECT project_id, key FROM idempotency_keys WHERE expires_at <= $1
                 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED) AS over
         WHERE held.project_id = over.project_id AND held.key = over.key
        """,
        now,
        limit,
    )
    return int(done.rpartition(" ")[2])


async def held_by(db: Db, project_id: UUID, key: str, *, now: datetime) -> tuple[UUID, bytes] | None:
    """The message that an idempotency key stands for, and the fingerprint of its request; None when it is free."""
    row = await db.fetchrow(
        "SELECT message_id, fingerprint FROM idempotency_keys WHERE project_id = $1 AND key = $2 AND expires_at > $3",
        project_id,
        key,
        now,
    )
    return None if row is None else (row["message_id"], row["fingerprint"])


async def _write(connection: Connection, fresh: Sequence[NewMessage]) -> None:
    attachments = {
        (message.project_id, digest): (content, message.created_at)
        for message in fresh
        for digest, content in message.attachments
    }
    if attachments:
        await _write_attachments(connection, attachments)
    await connection.execute(
        """
        INSERT INTO messages (id, project_id, channel, class, sender, content, tags, metadata, idempotency_key,
                              sandbox, send_at, expires_at, created_at)
        SELECT id, project_id, channel, class, sender, content,
               CASE WHEN tags = '' THEN '{}' ELSE string_to_array(tags, E'\\x1f') END,
               metadata, idempotency_key, sandbox, send_at, expires_at, created_at
          FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                      $9::text[], $10::boolean[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[])
            AS n (id, project_id, channel, class, sender, content, tags, metadata, idempotency_key,
                  sandbox, send_at, expires_at, created_at)
        """,
        *_columns(_message_row(message) for message in fresh),
    )
    await connection.execute(
        """
        WITH new AS (
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::uuid[],
                                 $8::boolean[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[],
                                 $12::timestamptz[])
                AS n (id, message_id, project_id, channel, class, recipient, preferred, sandbox, due_at, published_at,
                      expires_at, created_at)
        ), history AS (
            INSERT INTO events (delivery_id, number, project_id, kind, state, at)
            SELECT id, 1, project_id, $13, $14, created_at FROM new
        )
        INSERT INTO deliveries (id, message_id, project_id, channel, class, recipient, preferred, sandbox, state,
                                due_at, published_at, expires_at)
        SELECT id, message_id, project_id, channel, class, recipient, preferred, sandbox, $14, due_at, published_at,
               expires_at
          FROM new
        """,
        *_columns(_delivery_row(message, delivery) for message in fresh for delivery in message.deliveries),
        EventKind.ACCEPTED,
        State.QUEUED,
    )


def _columns(rows: Any) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _message_row(message: NewMessage) -> tuple[Any, ...]:
    return (
        message.id,
        message.project_id,
        message.channel.value,
        message.class_.value,
        message.sender,
        message.content,
        "\x1f".join(message.tags),  # unnest flattens an array of arrays; tags hold no control characters
        message.metadata,
        message.idempotency_key,
        message.sandbox,
        message.send_at,
        message.expires_at,
        message.created_at,
    )


def _delivery_row(message: NewMessage, delivery: NewDelivery) -> tuple[Any, ...]:
    return (
        delivery.id,
        message.id,
        message.project_id,
        message.channel.value,
        message.class_.value,
        delivery.recipient,
        message.preferred,
        message.sandbox,
        message.due_at,
        None if message.send_at else message.created_at,
        message.expires_at,
        message.created_at,
    )


async def _write_attachments(
    connection: Connection, attachments: dict[tuple[UUID, str], tuple[bytes, datetime]]
) -> None:
    ordered = sorted(attachments)  # as with the keys: nobody waits in a ring
    await connection.execute(
        """
        INSERT INTO attachments (project_id, sha256, content, created_at)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::timestamptz[])
        ON CONFLICT DO NOTHING
        """,
        [project_id for project_id, _ in ordered],
        [digest for _, digest in ordered],
        [attachments[file][0] for file in ordered],
        [attachments[file][1] for file in ordered],
    )
