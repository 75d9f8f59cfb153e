"""The delivery log: deliveries of a project, newest first, on numbered pages.

A number of rows that is exact at any size would read them all. The log has a window instead: the newest ``WINDOW``
messages that the indexes find for the filters, with all their deliveries. Pages and their total lie within it; a range
of time moves it to older messages. The list of ``/v1``, which has a cursor, reaches everything
(:mod:`sluice.store.message_list`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sluice.model.message import Channel
from sluice.model.state import State
from sluice.store.db import Connection, Db
from sluice.store.message_list import deliveries_of
from sluice.store.projects import ProjectScope
from sluice.store.taken import taken_by

WINDOW = 10_000
"""Messages that the log contains at most for given filters."""

_LOWEST, _HIGHEST = UUID(int=0), UUID(int=(1 << 128) - 1)
_FEW = "(d.state IN ('SENT', 'DELIVERED')) IS FALSE"  # as in the index deliveries_state_idx


class LogStatus(StrEnum):
    """What the log says about a delivery."""

    PENDING = "pending"  # queued, or being sent
    SENT = "sent"  # accepted by a provider
    DELIVERED = "delivered"
    FAILED = "failed"  # no provider has taken it
    BOUNCED = "bounced"  # by the recipient's server
    REJECTED = "rejected"  # by the provider: no other one would take it


STATES: dict[LogStatus, tuple[State, ...]] = {
    LogStatus.PENDING: (State.QUEUED, State.SENDING),
    LogStatus.SENT: (State.SENT,),
    LogStatus.DELIVERED: (State.DELIVERED, State.COMPLAINED),
    LogStatus.FAILED: (State.FAILED, State.EXPIRED, State.UNCONFIRMED, State.CANCELLED),
    LogStatus.BOUNCED: (State.BOUNCED, State.SOFT_BOUNCE),
    LogStatus.REJECTED: (State.FAILED,),
}
"""The states behind each status; FAILED is ``rejected`` where the newest attempt refused the recipient."""

_TAKEN = (*STATES[LogStatus.SENT], *STATES[LogStatus.DELIVERED])
_STATUS_OF = {state: status for status in reversed(LogStatus) for state in STATES[status]}


@dataclass(frozen=True, slots=True)
class LogFilters:
    """What the entries have in common. ``channels``: None for all; ``first`` and ``end``: the range of message ids,
    without its end.
    """

    channels: tuple[Channel, ...] | None = None
    status: LogStatus | None = None
    first: UUID = _LOWEST
    end: UUID = _HIGHEST


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One delivery. ``provider_id``: of the provider that took it, else of the newest attempt.

    ``error``: of one that was not sent, the newest provider's own text where one was called.
    """

    id: UUID
    message_id: UUID
    project_id: UUID
    channel: Channel
    recipient: str
    status: LogStatus
    provider_id: UUID | None
    template_id: UUID | None
    attempt_count: int
    error: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a provider; ``outcome`` is None while it lasts."""

    number: int
    provider_id: UUID
    outcome: str | None
    error: str | None
    provider_message_id: str | None
    started_at: datetime
    finished_at: datetime | None


class LogPage(NamedTuple):
    """Entries, and how many the window has. ``is_exact``: the window has all that there are."""

    entries: list[LogEntry]
    total: int
    is_exact: bool


async def list_entries(
    db: Connection, project: ProjectScope, filters: LogFilters, *, offset: int, limit: int
) -> LogPage:
    """One page of the log; ``db`` is in a transaction. ``total`` is right for any offset."""
    await db.execute("SET LOCAL plan_cache_mode = force_custom_plan")  # the values decide which index is best
    query = _Query(project, filters)
    rows = await db.fetch(query.page(offset=offset, limit=limit), *query.arguments)
    return LogPage(
        [_entry(row) for row in rows if row["id"] is not None], rows[0]["total"], rows[0]["messages"] <= WINDOW
    )


class _Query:
    """The statement of a page; values are arguments, and only constants of this file are part of its text."""

    def __init__(self, project: ProjectScope, filters: LogFilters) -> None:
        self.arguments: list[Any] = []
        self._filters = filters
        self._project = self._bind(project.project_id, "uuid")
        self._sandbox = self._bind(project.sandbox, "boolean")
        self._first, self._end = self._bind(filters.first, "uuid"), self._bind(filters.end, "uuid")

    def _bind(self, value: Any, type_: str) -> str:
        self.arguments.append(value)
        return f"${len(self.arguments)}::{type_}"

    def page(self, *, offset: int, limit: int) -> str:
        """The statement for the entries behind ``offset`` others."""
        return f"""
            WITH candidate AS MATERIALIZED ({self._candidates()}
            ), found AS MATERIALIZED (
                SELECT d.id, d.message_id
                  FROM (SELECT message_id FROM candidate ORDER BY message_id DESC LIMIT {WINDOW}) AS candidate
                 CROSS JOIN LATERAL {deliveries_of("candidate.message_id", "id, message_id, state, attempt_count")} AS d
                 WHERE {self._condition()}
            ), page AS (
                SELECT id FROM found ORDER BY message_id DESC, id DESC OFFSET {offset} LIMIT {limit}
            )
            SELECT counted.total, counted.messages, entry.*
              FROM (SELECT (SELECT count(*) FROM found) AS total,
                           (SELECT count(*) FROM candidate) AS messages) AS counted
              LEFT JOIN ({_entries("page")}) AS entry ON true
             ORDER BY entry.message_id DESC, entry.id DESC
            """  # noqa: S608  constants, and references to arguments

    def count(self, states: Sequence[State]) -> str:
        """The statement for the number of deliveries in each of these states, of those that have an index."""
        counted = "SELECT '{}' AS state, count(*) AS size FROM ({}) AS d"  # constants, and references to arguments
        return " UNION ALL ".join(counted.format(state.value, self._of_state(state)) for state in states)

    def count_taken(self) -> str:
        """The statement for the number of deliveries that a provider has taken."""
        states = ", ".join(repr(state.value) for state in _TAKEN)
        return f"""
            SELECT count(*)
              FROM ({self._candidates()}) AS candidate
             CROSS JOIN LATERAL {deliveries_of("candidate.message_id", "", where=f"state IN ({states})")} AS taken
            """  # noqa: S608  constants, and references to arguments

    def _candidates(self) -> str:
        """Message ids, one more than the window has, by the indexes that leave the fewest."""
        status = self._filters.status
        if status is not None and State.SENT not in STATES[status] and State.DELIVERED not in STATES[status]:
            sources = [self._of_state(state) for state in STATES[status]]
        elif self._filters.channels is None:
            sources = [self._of_messages("")]
        else:
            sources = [
                self._of_messages(f"AND m.channel = {self._bind(channel.value, 'text')}")
                for channel in self._filters.channels
            ]
        return f"""
            SELECT DISTINCT message_id FROM ({" UNION ALL ".join(f"({source})" for source in sources)}) AS source
             ORDER BY message_id DESC LIMIT {WINDOW + 1}
            """  # noqa: S608  constants, and references to arguments

    def _of_state(self, state: State) -> str:
        return f"""
            SELECT d.message_id FROM deliveries AS d
             WHERE d.project_id = {self._project} AND d.sandbox = {self._sandbox} AND d.state = '{state}' AND {_FEW}
               AND d.message_id >= {self._first} AND d.message_id < {self._end} {self._of_channels("d")}
             ORDER BY d.message_id DESC LIMIT {WINDOW + 1}
            """  # noqa: S608  constants, and references to arguments

    def _of_messages(self, condition: str) -> str:
        return f"""
            SELECT m.id AS message_id FROM messages AS m
             WHERE m.project_id = {self._project} AND m.sandbox = {self._sandbox} {condition}
               AND m.id >= {self._first} AND m.id < {self._end}
             ORDER BY m.id DESC LIMIT {WINDOW + 1}
            """  # noqa: S608  constants, and references to arguments

    def _of_channels(self, alias: str) -> str:
        channels = self._filters.channels
        return "" if channels is None else f"AND {alias}.channel = ANY ({self._bind(list(channels), 'text[]')})"

    def _condition(self) -> str:
        status = self._filters.status
        if status is None:
            return "true"
        states = ", ".join(repr(state.value) for state in STATES[status])
        condition = f"d.state IN ({states})"
        if status is LogStatus.REJECTED:
            return f"{condition} AND {_REJECTED}"
        if status is LogStatus.FAILED:
            return f"{condition} AND NOT (d.state = 'FAILED' AND {_REJECTED})"
        return condition


_REJECTED = """EXISTS (SELECT FROM attempts a WHERE a.delivery_id = d.id AND a.number = d.attempt_count
                                     AND a.outcome = 'recipient_rejected')"""


def _entries(ids: str) -> str:
    """The query of :class:`LogEntry` for the deliveries in the CTE ``ids``."""
    return f"""
        SELECT d.id, d.message_id, d.project_id, d.channel, d.recipient, d.state, d.attempt_count,
               coalesce({taken_by("d")}, d.provider_id) AS provider_id,
               d.state = 'FAILED' AND {_REJECTED} AS rejected, m.template_id, m.created_at,
               CASE WHEN d.state IN ('FAILED', 'EXPIRED', 'UNCONFIRMED', 'CANCELLED', 'BOUNCED', 'SOFT_BOUNCE')
                    THEN coalesce((SELECT nullif(a.error, '') FROM attempts a
                                    WHERE a.delivery_id = d.id AND a.outcome <> 'accepted'
                                    ORDER BY a.number DESC LIMIT 1),
                                  (SELECT e.detail FROM events e
                                    WHERE e.delivery_id = d.id AND e.state = d.state
                                    ORDER BY e.sequence DESC LIMIT 1))
               END AS error
          FROM {ids} AS wanted
          JOIN deliveries d ON d.id = wanted.id
          JOIN messages m ON m.id = d.message_id
    """  # noqa: S608  constants of this package


def _entry(row: Any) -> LogEntry:
    values = dict(row)
    status = LogStatus.REJECTED if values["rejected"] else _STATUS_OF[State(values["state"])]
    values |= {"status": status, "channel": Channel(values["channel"])}
    return LogEntry(**{field.name: values[field.name] for field in fields(LogEntry)})


async def find_entry(db: Db, project: ProjectScope, delivery_id: UUID) -> tuple[LogEntry, Sequence[Attempt]] | None:
    """A delivery with its attempts, in order; None if the project has no such delivery."""
    row = await db.fetchrow(
        f"""
        WITH wanted AS (
            SELECT id FROM deliveries WHERE id = $1 AND project_id = $2 AND sandbox = $3
        )
        {_entries("wanted")}
        """,  # noqa: S608  constants of this file
        delivery_id,
        *project,
    )
    if row is None:
        return None
    attempts = await db.fetch(
        """
        SELECT number, provider_id, outcome, error, provider_message_id, started_at, finished_at
          FROM attempts WHERE delivery_id = $1 ORDER BY number
        """,
        delivery_id,
    )
    return _entry(row), [Attempt(**attempt) for attempt in attempts]


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """Deliveries by what becomes of them, each up to :data:`WINDOW`."""

    pending: int
    processing: int
    failed: int
    completed: int


async def count_queue(
    db: Connection, project: ProjectScope, channels: Sequence[Channel], *, since: UUID
) -> QueueStatistics:
    """How many deliveries of these channels wait, are being sent, have failed and are completed.

    The last two are of messages whose id is ``since`` or later. ``db`` is in a transaction.
    """
    await db.execute("SET LOCAL plan_cache_mode = force_custom_plan")
    waiting = await _count(db, _Query(project, LogFilters(tuple(channels))), STATES[LogStatus.PENDING])
    recent = _Query(project, LogFilters(tuple(channels), first=since))
    ended = await _count(db, recent, (*STATES[LogStatus.FAILED], *STATES[LogStatus.BOUNCED]))
    completed = _Query(project, LogFilters(tuple(channels), LogStatus.SENT, first=since))
    return QueueStatistics(
        pending=waiting.get(State.QUEUED, 0),
        processing=waiting.get(State.SENDING, 0),
        failed=sum(ended.values()) - ended.get(State.CANCELLED, 0),
        completed=await db.fetchval(completed.count_taken(), *completed.arguments),
    )


async def _count(db: Connection, query: _Query, states: Sequence[State]) -> dict[State, int]:
    rows = await db.fetch(query.count(states), *query.arguments)
    return {State(row["state"]): row["size"] for row in rows}
