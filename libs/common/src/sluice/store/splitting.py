"""Divided deliveries: recipients of one envelope become deliveries of their own, with the history that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sluice.store.db import Db

_SEPARATOR = "\x1f"  # between the addresses of an envelope; no address contains it


class Division(NamedTuple):
    """A delivery whose envelope is divided: it keeps one part, new deliveries get the others."""

    delivery_id: UUID
    attempt: int
    envelope: tuple[str, ...]  # bare addresses, at least one
    others: tuple[tuple[UUID, tuple[str, ...]], ...]  # id of the new delivery, its envelope


async def divide(connection: Db, divisions: Sequence[Division], *, in_flight: bool = True) -> None:
    """Narrow deliveries to their envelopes, and copy them, their attempts and their events for the others.

    A copy is in flight with the same attempt, so that a transition in the same transaction settles it. Receipts stay
    with the original. Nothing is written for a delivery that is no longer in flight with ``attempt``: its transitions
    are not applied either. With ``in_flight=False`` the deliveries wait for their next attempt instead.
    """
    copies = [(division.delivery_id, *other) for division in divisions for other in division.others]
    await connection.execute(
        """
        WITH kept AS (
            UPDATE deliveries d SET recipient = split_part(r.envelope, E'\\x1f', 1),
                                    envelope = string_to_array(r.envelope, E'\\x1f')
              FROM (SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[]) AS r (id, attempt, envelope)
                     LIMIT cardinality($1)  -- see sluice.store.db
                   ) AS r
             WHERE d.id = r.id AND d.attempt_count = r.attempt AND d.in_flight = $7
               AND (d.in_flight OR d.state IN ('QUEUED', 'SENDING'))
            RETURNING d.*
        ), copies AS (
            SELECT c.id AS copy_id, string_to_array(c.envelope, E'\\x1f') AS copy_envelope, k.*
              FROM unnest($4::uuid[], $5::uuid[], $6::text[]) AS c (original_id, id, envelope)
              JOIN kept k ON k.id = c.original_id
        ), new_deliveries AS (
            INSERT INTO deliveries (id, message_id, project_id, channel, delivery_class, recipient, envelope,
                                    preferred_provider_id, sandbox, awaited, state, attempt_count, last_event_sequence,
                                    retry_round, unknown_attempts, in_flight, provider_id, due_at, enqueued_at,
                                    expires_at, traceparent, segments)
            SELECT copy_id, message_id, project_id, channel, delivery_class, copy_envelope[1], copy_envelope,
                   preferred_provider_id, sandbox, awaited, state, attempt_count, last_event_sequence, retry_round,
                   unknown_attempts, in_flight, provider_id, due_at, enqueued_at, expires_at, traceparent, segments
              FROM copies
        ), new_attempts AS (
            INSERT INTO attempts (delivery_id, number, project_id, provider_id, retry_round, client_reference,
                                  routing_decision, started_at, finished_at, outcome, error, provider_message_id, cost,
                                  not_before)
            SELECT c.copy_id, a.number, a.project_id, a.provider_id, a.retry_round, a.client_reference,
                   a.routing_decision, a.started_at, a.finished_at, a.outcome, a.error, a.provider_message_id,
                   a.cost, a.not_before
              FROM copies c JOIN attempts a ON a.delivery_id = c.id
        )
        INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, attempt, provider_id, reason,
                            detail, recipient)
        SELECT c.copy_id, e.sequence, e.project_id, e.type, e.state, e.occurred_at, e.attempt, e.provider_id, e.reason,
               e.detail, e.recipient
          FROM copies c JOIN events e ON e.delivery_id = c.id
        """,
        [division.delivery_id for division in divisions],
        [division.attempt for division in divisions],
        [_SEPARATOR.join(division.envelope) for division in divisions],
        [original_id for original_id, _, _ in copies],
        [copy_id for _, copy_id, _ in copies],
        [_SEPARATOR.join(envelope) for _, _, envelope in copies],
        in_flight,
    )
