"""Insertion of accepted messages, for every source of requests.

A batch is one statement in one transaction, so that concurrent requests share a commit and a round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.model.message import Channel, DeliveryClass
from sluice.store import outbox
from sluice.store.db import Connection, Db, columns, project_array
from sluice.store.projects import ProjectScope

IDEMPOTENCY_TTL = timedelta(hours=24)
SUPPRESSED_SEQUENCE = 2
"""The sequence of the event with which a suppressed delivery fails: it follows ``accepted``."""

_OUTBOX_RETRY_AFTER = timedelta(seconds=10)  # the caller publishes the events of suppressed deliveries before
_SEPARATOR = "\x1f"  # between tags, and between the addresses of an envelope


class NewDelivery(NamedTuple):
    """One recipient of a new message.

    ``addresses``: of an e-mail whose project suppresses some, the bare addresses of its envelope. ``suppressed``: the
    delivery fails at once, with this detail. ``envelope``: the addresses that are left, or that are suppressed, where
    these are a part.
    """

    id: UUID
    recipient: str
    addresses: tuple[str, ...] = ()
    suppressed: str | None = None
    envelope: tuple[str, ...] | None = None


class NewMessage(NamedTuple):
    """A validated request, ready to be inserted."""

    id: UUID
    project_id: UUID
    channel: Channel
    delivery_class: DeliveryClass
    sender: str | None
    content: str  # JSON
    deliveries: tuple[NewDelivery, ...]
    created_at: datetime
    expires_at: datetime
    due_at: datetime  # when the recovery loop may enqueue it, or requeue it if its record is lost
    send_at: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: str | None = None  # JSON
    preferred_provider_id: UUID | None = None
    sandbox: bool = False
    idempotency_key: str | None = None
    fingerprint: bytes = b""  # SHA-256 of the canonical body, only with a key
    attachments: tuple[tuple[str, bytes], ...] = ()  # (sha256, content)
    template_id: UUID | None = None  # what the content was rendered from
    template_version: int | None = None
    backlogged: bool = False  # waits in PostgreSQL for capacity in the dispatch queue
    awaited: bool = False  # a send request waits for the end of the only retry round
    traceparent: str | None = None  # of the span that accepted it; None: not traced
    terms: tuple[int, ...] = ()  # what it is found by: see sluice.model.terms
    segments: int | None = None  # of an SMS with several


_SPARSE = frozenset(NewMessage._field_defaults) - {"fingerprint"} | {"sender"}


@dataclass(frozen=True, slots=True)
class Created:
    """The message was inserted. ``outbox_id``: the outbox row with the events of the batch's suppressed deliveries."""

    outbox_id: int | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """The same request was accepted before, as this message."""

    message_id: UUID


@dataclass(frozen=True, slots=True)
class Conflict:
    """The idempotency key belongs to a request with another body; nothing was changed."""

    message_id: UUID


InsertResult = Created | Replayed | Conflict


async def insert_batch(connection: Connection, batch: Sequence[NewMessage]) -> list[InsertResult]:
    """Insert a batch in one transaction; the results are in the batch's order.

    The unique index on (project, sandbox, key) decides between concurrent requests with one key, also between
    gateways: the second waits for the commit of the first and then returns its message.
    """
    contenders = _first_per_key(batch)
    if not any(message.attachments for message in contenders):
        return _results(batch, *await _write(connection, contenders))
    # No savepoint inside the caller's transaction: the list of messages knows transactions, not savepoints.
    async with nullcontext() if connection.is_in_transaction() else connection.transaction():
        results = _results(batch, *await _write(connection, contenders))
        created = [message for message, result in zip(batch, results, strict=True) if isinstance(result, Created)]
        await _write_attachments(connection, created)
    return results


_Key = tuple[UUID, bool, str]


def _key(message: NewMessage) -> _Key:
    return message.project_id, message.sandbox, message.idempotency_key or ""


def _first_per_key(batch: Sequence[NewMessage]) -> list[NewMessage]:
    """The messages without a key, and the first of each key.

    Sorted by key, so that concurrent transactions lock keys in the same order (no deadlock).
    """
    firsts: dict[_Key, NewMessage] = {}
    contenders = []
    for message in batch:
        if message.idempotency_key is None:
            contenders.append(message)
        else:
            firsts.setdefault(_key(message), message)
    return [*contenders, *(firsts[key] for key in sorted(firsts))]


_Owners = dict[_Key, tuple[UUID, bytes]]
"""The message that has each key, and the fingerprint of its request."""


def _results(batch: Sequence[NewMessage], owners: _Owners, outbox_id: int | None) -> list[InsertResult]:
    created = Created(outbox_id)
    return [
        created if message.idempotency_key is None else _result(message, created, *owners[_key(message)])
        for message in batch
    ]


def _result(message: NewMessage, created: Created, owner: UUID, fingerprint: bytes) -> InsertResult:
    if owner == message.id:
        return created
    return Replayed(owner) if fingerprint == message.fingerprint else Conflict(owner)


async def _write(connection: Connection, contenders: Sequence[NewMessage]) -> tuple[_Owners, int | None]:
    """Insert the messages that have no key or obtain theirs; returns the owners of the keys, and the outbox row.

    A key that belongs to another message is updated to its own values, because only an updated row is returned in the
    state that concurrent transactions have committed.
    """
    deliveries = [(message.id, delivery) for message in contenders for delivery in message.deliveries]
    fields = columns(contenders, sparse=_SPARSE)
    terms = [(message.id, term) for message in contenders for term in message.terms]
    del fields["deliveries"], fields["attachments"], fields["terms"]
    traceparents, segments = fields.pop("traceparent"), fields.pop("segments")
    # unnest flattens an array of arrays; tags contain no control characters.
    fields["tags"] = [_SEPARATOR.join(tags) for tags in fields["tags"]]
    rows = await connection.fetch(
        f"""
        WITH scope AS MATERIALIZED (
            SELECT set_config('sluice.project_ids', $28, true)
        ), new AS (  -- from scope, so that no row exists before row-level security has its projects
            SELECT n.*
              FROM scope
             CROSS JOIN unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                                 $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[],
                                 $11::text[], $12::text[], $13::uuid[], $14::boolean[], $15::text[], $16::bytea[],
                                 $17::uuid[], $18::integer[], $19::boolean[], $20::boolean[], $31::text[],
                                 $32::smallint[])
                AS n (id, project_id, channel, delivery_class, sender, content, created_at, expires_at, due_at, send_at,
                      tags, metadata, preferred_provider_id, sandbox, key, fingerprint, template_id, template_version,
                      backlogged, awaited, traceparent, segments)
        ), claimed AS (  -- each key with the message that has it now
            INSERT INTO idempotency_keys AS held (project_id, sandbox, key, fingerprint, message_id, expires_at)
            SELECT project_id, coalesce(sandbox, false), key, fingerprint, id, created_at + $26::interval
              FROM new WHERE key IS NOT NULL
            ON CONFLICT (project_id, sandbox, key) DO UPDATE
               SET fingerprint = CASE WHEN held.expires_at <= excluded.expires_at - $26::interval
                                      THEN excluded.fingerprint ELSE held.fingerprint END,
                   message_id = CASE WHEN held.expires_at <= excluded.expires_at - $26::interval
                                     THEN excluded.message_id ELSE held.message_id END,
                   expires_at = CASE WHEN held.expires_at <= excluded.expires_at - $26::interval
                                     THEN excluded.expires_at ELSE held.expires_at END
            RETURNING project_id, sandbox, key, message_id, fingerprint
        ), fresh AS (  -- the messages without a key, and those that have theirs
            SELECT * FROM new WHERE key IS NULL OR id IN (SELECT message_id FROM claimed)
        ), new_messages AS (
            INSERT INTO messages (id, project_id, channel, delivery_class, sender, content, tags, metadata,
                                  idempotency_key, sandbox, send_at, expires_at, created_at, template_id,
                                  template_version)
            SELECT id, project_id, channel, delivery_class, sender, content,
                   coalesce(string_to_array(tags, E'\\x1f'), '{{}}'), metadata, key, coalesce(sandbox, false), send_at,
                   expires_at, created_at, template_id, template_version
              FROM fresh
        ), new_deliveries AS (
            SELECT d.id, d.message_id, d.recipient, f.project_id, f.channel, f.delivery_class, f.preferred_provider_id,
                   coalesce(f.sandbox, false) AS sandbox, f.send_at, f.due_at, f.expires_at, f.created_at,
                   f.backlogged, f.awaited, f.traceparent, f.segments, d.suppressed,
                   string_to_array(d.envelope, E'\\x1f') AS envelope
              FROM unnest($21::uuid[], $22::uuid[], $23::text[], $24::text[], $25::text[])
                AS d (id, message_id, recipient, suppressed, envelope)
              JOIN fresh f ON f.id = d.message_id
        ), inserted AS (
            INSERT INTO deliveries (id, message_id, project_id, channel, delivery_class, recipient, envelope,
                                    preferred_provider_id, sandbox, awaited, state, last_event_sequence, due_at,
                                    enqueued_at, expires_at, traceparent, segments)
            SELECT id, message_id, project_id, channel, delivery_class, recipient, envelope, preferred_provider_id,
                   sandbox, coalesce(awaited, false), CASE WHEN suppressed IS NULL THEN 'QUEUED' ELSE 'FAILED' END,
                   CASE WHEN suppressed IS NULL THEN 1 ELSE 2 END, CASE WHEN suppressed IS NULL THEN due_at END,
                   CASE WHEN send_at IS NULL AND backlogged IS NOT TRUE AND suppressed IS NULL THEN created_at END,
                   expires_at, traceparent, coalesce(segments, 1)
              FROM new_deliveries
        ), new_events AS (
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at)
            SELECT id, 1, project_id, 'accepted', 'QUEUED', created_at FROM new_deliveries
        ), new_terms AS (
            INSERT INTO message_terms (project_id, term, message_id)
            SELECT f.project_id, t.term, t.message_id
              FROM unnest($29::uuid[], $30::bigint[]) AS t (message_id, term)
              JOIN fresh f ON f.id = t.message_id
        ), suppressed AS (
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, reason, detail)
            SELECT id, {SUPPRESSED_SEQUENCE}, project_id, 'failed', 'FAILED', created_at, 'suppressed', suppressed
              FROM new_deliveries WHERE suppressed IS NOT NULL
            RETURNING delivery_id, sequence
        ), {outbox.insert_cte("suppressed", "now() + $27::interval", delivery_id="delivery_id")}
        SELECT project_id, sandbox, key, message_id, fingerprint, NULL::bigint AS outbox_id FROM claimed
         UNION ALL
        SELECT NULL, NULL, NULL, NULL, NULL, id FROM outbox
        """,  # noqa: S608  constants
        *fields.values(),
        [delivery.id for _, delivery in deliveries],
        [message_id for message_id, _ in deliveries],
        [delivery.recipient for _, delivery in deliveries],
        *_suppression_columns([delivery for _, delivery in deliveries]),
        IDEMPOTENCY_TTL,
        _OUTBOX_RETRY_AFTER,
        project_array(message.project_id for message in contenders),
        [message_id for message_id, _ in terms],
        [term for _, term in terms],
        traceparents,
        segments,
    )
    owners = {
        (row["project_id"], row["sandbox"], row["key"]): (row["message_id"], row["fingerprint"])
        for row in rows
        if row["outbox_id"] is None
    }
    return owners, next((row["outbox_id"] for row in rows if row["outbox_id"] is not None), None)


def _suppression_columns(deliveries: Sequence[NewDelivery]) -> tuple[Sequence[str | None], Sequence[str | None]]:
    """The columns ``suppressed`` and ``envelope``; empty where no delivery has one, which ``unnest`` fills up."""
    if all(delivery.suppressed is None and delivery.envelope is None for delivery in deliveries):
        return (), ()
    return (
        [delivery.suppressed for delivery in deliveries],
        [None if delivery.envelope is None else _SEPARATOR.join(delivery.envelope) for delivery in deliveries],
    )


async def _write_attachments(connection: Connection, created: Sequence[NewMessage]) -> None:
    attachments = {
        (message.project_id, digest): (content, message.created_at)
        for message in created
        for digest, content in message.attachments
    }
    ordered = sorted(attachments)  # like the keys
    await connection.execute(
        """
        INSERT INTO attachments AS kept (project_id, sha256, content, used_at)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::timestamptz[])
        ON CONFLICT (project_id, sha256) DO UPDATE SET used_at = excluded.used_at
         WHERE kept.used_at < excluded.used_at - interval '1 day'
        """,
        [project_id for project_id, _ in ordered],
        [digest for _, digest in ordered],
        [attachments[key][0] for key in ordered],
        [attachments[key][1] for key in ordered],
    )


async def claim_key(
    db: Db, project: ProjectScope, key: str, *, fingerprint: bytes, owner: UUID, now: datetime
) -> tuple[UUID, bytes]:
    """Give an idempotency key to ``owner``, which is no message; returns its owner and the fingerprint of that."""
    row = await db.fetchrow(
        """
        INSERT INTO idempotency_keys AS held (project_id, sandbox, key, fingerprint, message_id, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6::timestamptz + $7::interval)
        ON CONFLICT (project_id, sandbox, key) DO UPDATE
           SET fingerprint = CASE WHEN held.expires_at <= $6 THEN excluded.fingerprint ELSE held.fingerprint END,
               message_id = CASE WHEN held.expires_at <= $6 THEN excluded.message_id ELSE held.message_id END,
               expires_at = CASE WHEN held.expires_at <= $6 THEN excluded.expires_at ELSE held.expires_at END
        RETURNING message_id, fingerprint
        """,
        *project,
        key,
        fingerprint,
        owner,
        now,
        IDEMPOTENCY_TTL,
    )
    return row["message_id"], row["fingerprint"]


async def delete_expired_keys(db: Db, *, now: datetime, limit: int) -> int:
    """Delete up to ``limit`` expired idempotency keys and return their number; keys that are locked are skipped."""
    status = await db.execute(
        """
        DELETE FROM idempotency_keys AS held
         USING (SELECT project_id, sandbox, key FROM idempotency_keys WHERE expires_at <= $1
                 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED) AS expired
         WHERE held.project_id = expired.project_id AND held.sandbox = expired.sandbox AND held.key = expired.key
        """,
        now,
        limit,
    )
    return int(status.rpartition(" ")[2])


async def find_owners(
    db: Db, project: ProjectScope, keys: Sequence[str], *, now: datetime
) -> dict[str, tuple[UUID, bytes]]:
    """The message of each of these idempotency keys that is unexpired, and the fingerprint of its request."""
    rows = await db.fetch(
        """
        SELECT k.key, held.message_id, held.fingerprint
          FROM (SELECT * FROM unnest($3::text[]) AS k (key)
                 LIMIT cardinality($3)  -- see sluice.store.db
               ) AS k
          JOIN idempotency_keys held ON (held.project_id, held.sandbox, held.key) = ($1, $2, k.key)
         WHERE held.expires_at > $4
        """,
        *project,
        list(keys),
        now,
    )
    return {row["key"]: (row["message_id"], row["fingerprint"]) for row in rows}
