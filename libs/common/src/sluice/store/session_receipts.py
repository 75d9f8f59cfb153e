"""Attempts behind the ids of a session that serves several providers of a package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sluice.store.db import Db


class MessageKey(NamedTuple):
    """What a receipt says about its message: the SMSC's id, and the recipient's digits ("" for any)."""

    provider_message_id: str
    recipient: str


class LocatedAttempt(NamedTuple):
    """The attempt, and the number of ids (parts) that its message has."""

    project_id: UUID
    delivery_id: UUID
    attempt: int
    provider_id: UUID
    parts: int


async def locate(db: Db, package: str, keys: Sequence[MessageKey]) -> list[LocatedAttempt | None]:
    """The newest attempt for each key, at any provider of the package, deleted ones included.

    An SMSC uses its ids again after weeks: the recipient has to fit too. It fits when the shorter number, without
    zeros in front, is the end of the longer one, since an SMSC may write a national number.
    """
    rows = await db.fetch(
        """
        SELECT k.position, a.project_id, a.delivery_id, a.attempt, a.provider_id,
               (SELECT count(*) FROM receipt_ids o WHERE o.delivery_id = a.delivery_id AND o.attempt = a.attempt)
                   AS parts
          FROM (SELECT * FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS k (message_id, recipient, position)
                 LIMIT cardinality($2)) k
         CROSS JOIN LATERAL (
               SELECT p.project_id, i.delivery_id, i.attempt, i.provider_id
                 FROM receipt_ids i
                 JOIN providers p ON p.id = i.provider_id AND p.package = $1
                 JOIN deliveries d ON d.id = i.delivery_id
                WHERE i.provider_message_id = k.message_id
                  AND (k.recipient = '' OR right(ltrim(d.recipient, '+'), length(k.recipient)) = k.recipient)
                ORDER BY i.delivery_id DESC, i.attempt DESC LIMIT 1) a
        """,
        package,
        [key.provider_message_id for key in keys],
        [key.recipient for key in keys],
    )
    found = {row["position"]: LocatedAttempt(**{name: row[name] for name in LocatedAttempt._fields}) for row in rows}
    return [found.get(position) for position in range(1, len(keys) + 1)]


async def count_delivered(db: Db, attempts: Sequence[LocatedAttempt], *, suffix: str) -> list[int]:
    """For each attempt the number of its receipts whose id ends with ``suffix``."""
    rows = await db.fetch(
        """
        SELECT t.position, (SELECT count(*) FROM receipts r
                             WHERE r.delivery_id = t.delivery_id AND r.provider_id = t.provider_id
                               AND r.attempt = t.attempt AND right(r.receipt_id, length($4)) = $4) AS delivered
          FROM (SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[]) WITH ORDINALITY
                    AS t (delivery_id, attempt, provider_id, position)
                 LIMIT cardinality($1)) t
         ORDER BY t.position
        """,
        [each.delivery_id for each in attempts],
        [each.attempt for each in attempts],
        [each.provider_id for each in attempts],
        suffix,
    )
    return [row["delivered"] for row in rows]


class SettledAttempt(NamedTuple):
    """The project and the provider of an attempt, and whether its call is still in flight."""

    project_id: UUID
    provider_id: UUID
    in_flight: bool


async def find_attempt(db: Db, delivery_id: UUID, attempt: int) -> SettledAttempt | None:
    """The attempt of a late answer; None when it does not exist."""
    row = await db.fetchrow(
        """
        SELECT a.project_id, a.provider_id, d.in_flight AND d.attempt_count = a.number AS in_flight
          FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
         WHERE a.delivery_id = $1 AND a.number = $2
        """,
        delivery_id,
        attempt,
    )
    return None if row is None else SettledAttempt(**row)
