"""Writing accepted messages: the one function behind both doors.

A whole batch is one transaction and one statement, so concurrent requests share a commit and a round trip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.model.message import Channel, DeliveryClass
from sluice.store.db import Connection, Db, sparse_column

IDEMPOTENCY_TTL = timedelta(hours=24)


class NewDelivery(NamedTuple):
    """One addressee of a new message."""

    id: UUID
    recipient: str


class NewMessage(NamedTuple):
    """A validated request on its way into the record."""

    id: UUID
    project_id: UUID
    channel: Channel
    delivery_class: DeliveryClass
    sender: str | None
    content: str  # JSON
    deliveries: tuple[NewDelivery, ...]
    created_at: datetime
    expires_at: datetime
    due_at: datetime  # when the recovery loop may drive it, should the conveyor lose it
    send_at: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: str | None = None  # JSON
    preferred_provider_id: UUID | None = None
    sandbox: bool = False
    idempotency_key: str | None = None
    fingerprint: bytes = b""  # SHA-256 of the canonical body, only with a key
    attachments: tuple[tuple[str, bytes], ...] = ()  # (sha256, content)
    backlogged: bool = False  # in the record, for room on the conveyor


@dataclass(frozen=True, slots=True)
class Created:
    """The message exists now."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The same request was accepted before, as this message."""

    message_id: UUID


@dataclass(frozen=True, slots=True)
class Conflict:
    """The key was used for another body; nothing was changed."""

    message_id: UUID


InsertResult = Created | Replayed | Conflict


async def insert_batch(connection: Connection, batch: Sequence[NewMessage]) -> list[InsertResult]:
    """Record a batch in one transaction; the verdicts come in the batch's order.

    The unique index on (project, key) decides between concurrent requests with one key, also between gateways:
    the second waits for the first one's commit and then is told what it wrote.
    """
    contenders = _first_per_key(batch)
    if not any(message.attachments for message in contenders):
        return _results(batch, await _write(connection, contenders))
    async with connection.transaction():
        verdicts = _results(batch, await _write(connection, contenders))
        fresh = [message for message, verdict in zip(batch, verdicts, strict=True) if isinstance(verdict, Created)]
        await _write_attachments(connection, fresh)
    return verdicts


_Key = tuple[UUID, str]


def _key(message: NewMessage) -> _Key:
    return message.project_id, message.idempotency_key or ""


def _first_per_key(batch: Sequence[NewMessage]) -> list[NewMessage]:
    """The messages without a key, and the first of each key.

    In the order of the keys: two transactions that want the same keys must not wait for each other in a ring.
    """
    firsts: dict[_Key, NewMessage] = {}
    contenders = []
    for message in batch:
        if message.idempotency_key is None:
            contenders.append(message)
        else:
            firsts.setdefault(_key(message), message)
    return [*contenders, *(firsts[key] for key in sorted(firsts))]


def _results(batch: Sequence[NewMessage], owners: Mapping[_Key, tuple[UUID, bytes]]) -> list[InsertResult]:
    return [
        Created() if message.idempotency_key is None else _result(message, *owners[_key(message)]) for message in batch
    ]


def _result(message: NewMessage, owner: UUID, fingerprint: bytes) -> InsertResult:
    if owner == message.id:
        return Created()
    return Replayed(owner) if fingerprint == message.fingerprint else Conflict(owner)


async def _write(connection: Connection, contenders: Sequence[NewMessage]) -> dict[_Key, tuple[UUID, bytes]]:
    """Write those that get their key or need none; for each key the message that has it now, and its fingerprint.

    One statement, because each is a round trip, and is a transaction by itself. A key that another message has is
    written as it stands: only a row that is written is returned in the state that the others' commits left it in.
    """
    deliveries = [(message.id, delivery) for message in contenders for delivery in message.deliveries]
    rows = await connection.fetch(
        """
        WITH new AS (
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                                 $8::text[], $9::text[], $10::bytea[], $11::uuid[], $12::boolean[], $13::timestamptz[],
                                 $14::timestamptz[], $15::timestamptz[], $16::timestamptz[], $17::boolean[])
                AS n (id, project_id, channel, delivery_class, sender, content, tags, metadata, key, fingerprint,
                      preferred_provider_id, sandbox, send_at, due_at, expires_at, created_at, backlogged)
        ), claimed AS (
            INSERT INTO idempotency_keys AS held (project_id, key, fingerprint, message_id, expires_at)
            SELECT project_id, key, fingerprint, id, created_at + $21::interval FROM new WHERE key IS NOT NULL
            ON CONFLICT (project_id, key) DO UPDATE
               SET fingerprint = CASE WHEN held.expires_at <= excluded.expires_at - $21::interval
                                      THEN excluded.fingerprint ELSE held.fingerprint END,
                   message_id = CASE WHEN held.expires_at <= excluded.expires_at - $21::interval
                                     THEN excluded.message_id ELSE held.message_id END,
                   expires_at = CASE WHEN held.expires_at <= excluded.expires_at - $21::interval
                                     THEN excluded.expires_at ELSE held.expires_at END
            RETURNING project_id, key, message_id, fingerprint
        ), fresh AS (
            SELECT * FROM new WHERE key IS NULL OR id IN (SELECT message_id FROM claimed)
        ), new_messages AS (
            INSERT INTO messages (id, project_id, channel, delivery_class, sender, content, tags, metadata,
                                  idempotency_key,
                                  sandbox, send_at, expires_at, created_at)
            SELECT id, project_id, channel, delivery_class, sender, content,
                   coalesce(string_to_array(tags, E'\\x1f'), '{}'),
                   metadata, key, coalesce(sandbox, false), send_at, expires_at, created_at
              FROM fresh
        ), new_deliveries AS (
            SELECT d.id, d.message_id, d.recipient, f.project_id, f.channel, f.delivery_class, f.preferred_provider_id,
                   coalesce(f.sandbox, false) AS sandbox, f.send_at, f.due_at, f.expires_at, f.created_at,
                   f.backlogged
              FROM unnest($18::uuid[], $19::uuid[], $20::text[]) AS d (id, message_id, recipient)
              JOIN fresh f ON f.id = d.message_id
        ), inserted AS (
            INSERT INTO deliveries (id, message_id, project_id, channel, delivery_class, recipient,
                                    preferred_provider_id, sandbox, state, due_at, enqueued_at, expires_at)
            SELECT id, message_id, project_id, channel, delivery_class, recipient, preferred_provider_id, sandbox,
                   'QUEUED', due_at,
                   CASE WHEN send_at IS NULL AND backlogged IS NULL THEN created_at END, expires_at
              FROM new_deliveries
        ), new_events AS (
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at)
            SELECT id, 1, project_id, 'accepted', 'QUEUED', created_at FROM new_deliveries
        )
        SELECT project_id, key, message_id, fingerprint FROM claimed
        """,
        [message.id for message in contenders],
        [message.project_id for message in contenders],
        [message.channel.value for message in contenders],
        [message.delivery_class.value for message in contenders],
        [message.sender for message in contenders],
        [message.content for message in contenders],
        # unnest flattens an array of arrays; tags hold no control characters
        sparse_column("\x1f".join(message.tags) or None for message in contenders),
        sparse_column(message.metadata for message in contenders),
        [message.idempotency_key for message in contenders],
        [message.fingerprint for message in contenders],
        sparse_column(message.preferred_provider_id for message in contenders),
        sparse_column(message.sandbox or None for message in contenders),
        sparse_column(message.send_at for message in contenders),
        [message.due_at for message in contenders],
        [message.expires_at for message in contenders],
        [message.created_at for message in contenders],
        sparse_column(message.backlogged or None for message in contenders),
        [delivery.id for _, delivery in deliveries],
        [message_id for message_id, _ in deliveries],
        [delivery.recipient for _, delivery in deliveries],
        IDEMPOTENCY_TTL,
    )
    return {(row["project_id"], row["key"]): (row["message_id"], row["fingerprint"]) for row in rows}


async def _write_attachments(connection: Connection, fresh: Sequence[NewMessage]) -> None:
    attachments = {
        (message.project_id, digest): (content, message.created_at)
        for message in fresh
        for digest, content in message.attachments
    }
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


async def delete_expired_keys(db: Db, *, now: datetime, limit: int) -> int:
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


async def find_by_idempotency_key(db: Db, project_id: UUID, key: str, *, now: datetime) -> tuple[UUID, bytes] | None:
    """The message that an idempotency key stands for, and the fingerprint of its request; None when it is free."""
    row = await db.fetchrow(
        "SELECT message_id, fingerprint FROM idempotency_keys WHERE project_id = $1 AND key = $2 AND expires_at > $3",
        project_id,
        key,
        now,
    )
    return None if row is None else (row["message_id"], row["fingerprint"])
