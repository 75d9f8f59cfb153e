"""Tokens that a provider signs in place of the body of its webhook requests: each stands for one body only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sluice.store.db import Db

KEPT_FOR = timedelta(days=2)
"""Longer than any package accepts a signature."""


@dataclass(frozen=True, slots=True)
class TokenUse:
    """A token that came with a body; ``digest`` is the body's SHA-256."""

    provider_id: UUID
    token: str
    digest: bytes


async def accept(db: Db, batch: Sequence[TokenUse], *, now: datetime) -> list[bool]:
    """Whether each token came with this body when it came first; a first use is stored. In the batch's order.

    The update, which changes nothing, reads the row of a concurrent transaction as well.
    """
    rows = await db.fetch(
        """
        WITH used AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[]) WITH ORDINALITY
                AS u (provider_id, token, digest, position)
             LIMIT cardinality($1)  -- see sluice.store.db
        ), stored AS (
            INSERT INTO receipt_tokens AS t (provider_id, token, digest, received_at)
            SELECT DISTINCT ON (provider_id, token) provider_id, token, digest, $4::timestamptz
              FROM used ORDER BY provider_id, token, position
            ON CONFLICT (provider_id, token) DO UPDATE SET received_at = t.received_at
            RETURNING t.provider_id, t.token, t.digest
        )
        SELECT s.digest = u.digest AS accepted FROM used u JOIN stored s USING (provider_id, token) ORDER BY u.position
        """,
        [use.provider_id for use in batch],
        [use.token for use in batch],
        [use.digest for use in batch],
        now,
    )
    return [row["accepted"] for row in rows]
