"""The database after the run, as plain values in memory."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from sluice.model import ids
from tests.chaos.cluster import Cluster


@dataclass(slots=True)
class Delivery:
    """A delivery with its attempts and events."""

    id: str  # hex
    message_id: str  # public
    tag: str
    key: str | None
    channel: str
    recipient: str
    delivery_class: str
    state: str
    sandbox: bool
    changed: bool  # the body of a conflicting request
    created_at: datetime
    expires_at: datetime
    send_at: datetime | None
    settled: bool
    attempts: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class DbSnapshot:
    """All deliveries, by their id and by the tag of their request; enabled providers by channel; webhook deliveries."""

    by_id: dict[str, Delivery]
    by_tag: dict[str, list[Delivery]]
    messages: int
    providers: dict[str, set[UUID]]
    webhooks: list[dict[str, Any]]


async def load(cluster: Cluster) -> DbSnapshot:
    """Read everything: a run is small enough."""
    connection = await asyncpg.connect(cluster.postgres, command_timeout=120)
    try:
        rows = await connection.fetch(
            """
            SELECT d.id, m.id AS message_id, m.tags, m.idempotency_key, d.channel, d.recipient,
                   d.delivery_class, d.state, d.sandbox,
                   m.content LIKE '%(changed)%' AS changed,
                   m.created_at, d.expires_at, m.send_at, d.due_at IS NULL AS settled
              FROM messages m LEFT JOIN deliveries d ON d.message_id = m.id
            """
        )
        attempts = await connection.fetch("SELECT * FROM attempts ORDER BY delivery_id, number")
        events = await connection.fetch("SELECT * FROM events ORDER BY delivery_id, sequence")
        messages = await connection.fetchval("SELECT count(*) FROM messages")
        webhooks = await connection.fetch("SELECT * FROM webhook_deliveries WHERE sequence > 0")
        enabled = await connection.fetch("SELECT channel, id FROM providers WHERE enabled AND deleted_at IS NULL")
    finally:
        await connection.close()
    found = {row["id"].hex: _delivery(row) for row in rows if row["id"] is not None}
    for row in attempts:
        found[row["delivery_id"].hex].attempts.append(dict(row))
    for row in events:
        found[row["delivery_id"].hex].events.append(dict(row))
    by_tag: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in found.values():
        by_tag[delivery.tag].append(delivery)
    providers: dict[str, set[UUID]] = defaultdict(set)
    for row in enabled:
        providers[row["channel"]].add(row["id"])
    return DbSnapshot(found, by_tag, messages, providers, [dict(row) for row in webhooks])


def _delivery(row: Any) -> Delivery:
    return Delivery(
        id=row["id"].hex,
        message_id=ids.encode_id("msg", row["message_id"]),
        tag=row["tags"][0] if row["tags"] else "",
        key=row["idempotency_key"],
        channel=row["channel"],
        recipient=row["recipient"],
        delivery_class=row["delivery_class"],
        state=row["state"],
        sandbox=row["sandbox"],
        changed=row["changed"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        send_at=row["send_at"],
        settled=row["settled"],
    )
