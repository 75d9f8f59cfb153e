"""The list of a project's messages, newest first, with filters.

A page is one statement over candidates: messages in the order of an index, to which the filters apply that no index
has. Where the messages that fit are rare among them, a page ends after ``MAX_SCANNED`` candidates, so that its cost is
bounded whatever the project has stored.

Ids sort by the time at which a message was made, shortly before it is committed, and commits overtake one another. A
walk through the pages misses none of them: a position has the newest id that the walk covers and the snapshot of the
page before, and what that snapshot did not contain comes on the next page, although newer messages were shown already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sluice.model.ids import millisecond_range, min_id_at
from sluice.model.state import MESSAGE_ORDER, State
from sluice.store.db import Connection
from sluice.store.projects import ProjectScope
from sluice.store.taken import taken_by

MAX_SCANNED = 3_500
"""Candidates that one page reads at most."""

LATEST_COMMIT = timedelta(seconds=20)
"""No message is committed later than this after its id was made; the gateway gives up long before."""

_MOST = (State.SENT, State.DELIVERED)  # of most messages: no index has them
_LOWEST, _HIGHEST = UUID(int=0), UUID(int=(1 << 128) - 1)
_EPOCH_BITS = -1 << 32  # of a transaction id of 64 bits, beside those that a row contains


@dataclass(frozen=True, slots=True)
class Filters:
    """What the messages of a list have in common; by default nothing.

    ``terms``: see :mod:`sluice.model.terms`; a message has all of them, the rarest is the first. ``is_narrow``: few
    messages have the first one, such as a recipient's. ``provider_ids``: one of them made the newest
    attempt of a delivery; None for any; ``attempted_ids``: one of them made any attempt. ``failed_over``: whether
    several providers were called for a delivery; ``may_be_doubled``: whether one may have arrived twice. ``first`` and
    ``end``: the range of ids, without its end.
    """

    channel: str | None = None
    status: State | None = None
    terms: tuple[int, ...] = ()
    is_narrow: bool = False
    provider_ids: tuple[UUID, ...] | None = None
    attempted_ids: tuple[UUID, ...] | None = None
    failed_over: bool | None = None
    may_be_doubled: bool | None = None
    incident_id: UUID | None = None
    template_id: UUID | None = None
    first: UUID = _LOWEST
    end: UUID = _HIGHEST

    @property
    def is_indexed(self) -> bool:
        """Whether every candidate fits."""
        others = (self.provider_ids, self.attempted_ids, self.failed_over, self.may_be_doubled, self.template_id)
        return (
            self.status is None
            and all(other is None for other in (*others, self.incident_id))
            and (not self.terms or self.channel is None)
        )

    @property
    def fits_nothing(self) -> bool:
        """Whether no message can fit: the project has no such provider."""
        return self.provider_ids == () or self.attempted_ids == ()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a walk stands: the next page begins ``before`` this id.

    ``started_at``: when the first page was read; ``snapshot``: of the page before, the text of a ``pg_snapshot``. Where
    more came late than one page has, ``late_before`` is the last of them that was shown, and ``late_snapshot``
    contained all.
    """

    before: UUID
    started_at: datetime
    snapshot: str
    late_before: UUID | None = None
    late_snapshot: str | None = None

    @property
    def newest(self) -> UUID:
        """The newest id that the walk covers."""
        return millisecond_range(min_id_at(self.started_at))[1]


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message of a list. ``taken_by``: the provider that has its last delivery that was taken."""

    id: UUID
    project_id: UUID
    channel: str
    delivery_class: str
    sender: str | None
    subject: str | None
    recipients: tuple[str, ...]
    tags: tuple[str, ...]
    metadata: str | None
    template_id: UUID | None
    template_version: int | None
    created_at: datetime
    state: State
    attempts: int
    taken_by: UUID | None
    failed_over: bool
    may_be_doubled: bool


class MessagePage(NamedTuple):
    """Some messages, and where the next page begins; None at the end."""

    messages: list[MessageRow]
    next: Position | None


async def list_messages(
    db: Connection, project: ProjectScope, filters: Filters, *, limit: int, position: Position | None, now: datetime
) -> MessagePage:
    """One page of at most ``limit`` messages; ``db`` is in a transaction that has read nothing.

    A page may be shorter, or empty, although there is a next one: see :data:`MAX_SCANNED`.

    Raises:
        asyncpg.DataError: the snapshot of the position is none.
    """
    if filters.fits_nothing:
        return MessagePage([], None)
    # All statements of the page see the same, and the next page knows what it was. The values decide which index
    # leaves the fewest candidates: a generic plan read a whole project for a channel of a few messages.
    await db.execute(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan"
    )
    snapshot: str = await db.fetchval("SELECT pg_current_snapshot()::text")
    search = _Search(db, project, filters)
    if position is None:
        position, late = Position(filters.end, now, snapshot), []
    else:
        late = await search.late(position, snapshot, now, limit=limit + 1)
        if len(late) > limit:
            contained = position.late_snapshot or snapshot
            return MessagePage(late[:limit], replace(position, late_before=late[limit - 1].id, late_snapshot=contained))
        if position.late_snapshot is not None:
            # What follows is read by a newer snapshot than these.
            return MessagePage(late, Position(position.before, position.started_at, position.late_snapshot))
    rows = await search.before(position.before, limit=limit + 1 - len(late))
    shown = rows[: limit - len(late)]
    end: UUID | None
    if len(rows) > len(shown):
        end = shown[-1].id if shown else position.before
    else:
        end = await search.last_candidate(position.before)
    return MessagePage(late + shown, None if end is None else Position(end, position.started_at, snapshot))


class _Search:
    """The statements of one page."""

    def __init__(self, db: Connection, project: ProjectScope, filters: Filters) -> None:
        self._db = db
        self._project = project
        self._filters = filters

    async def before(self, end: UUID, *, limit: int) -> list[MessageRow]:
        """The newest messages that are older than ``end``."""
        scan = limit if self._filters.is_indexed else MAX_SCANNED
        return await self._fetch(_Range(self._filters.first, min(end, self._filters.end), scan), limit=limit)

    async def late(self, position: Position, snapshot: str, now: datetime, *, limit: int) -> list[MessageRow]:
        """The messages that the walk has passed and that were committed after the snapshot of the position."""
        if now - position.started_at > LATEST_COMMIT and position.late_snapshot is None:
            return []
        within = _Range(
            max(self._filters.first, min_id_at(position.started_at - LATEST_COMMIT), position.before),
            min(self._filters.end, position.late_before or position.newest),
            None,
            since=position.snapshot,
            until=position.late_snapshot or snapshot,
            transaction=int(snapshot.split(":")[1]),
        )
        return await self._fetch(within, limit=limit)

    async def last_candidate(self, end: UUID) -> UUID | None:
        """The id of the last candidate that :meth:`before` has read, if there may be more."""
        if self._filters.is_indexed:
            return None
        query = _Query(self._project, self._filters, _Range(self._filters.first, min(end, self._filters.end), None))
        found: UUID | None = await self._db.fetchval(
            f"SELECT id FROM ({query.candidates}) AS candidate ORDER BY id DESC OFFSET {MAX_SCANNED - 1} LIMIT 1",  # noqa: S608
            *query.arguments,
        )
        return found

    async def _fetch(self, within: _Range, *, limit: int) -> list[MessageRow]:
        if within.first >= within.end or limit < 1:
            return []
        query = _Query(self._project, self._filters, within)
        rows = await self._db.fetch(query.page(limit), *query.arguments)
        return [_message_row(row) for row in rows]


class _Range(NamedTuple):
    """Ids from ``first`` to before ``end``, of which ``scan`` are candidates (None: all).

    ``since``: only what the snapshot ``until`` contains and this one does not; ``transaction``: a newer transaction id.
    """

    first: UUID
    end: UUID
    scan: int | None
    since: str | None = None
    until: str | None = None
    transaction: int = 0


class _Query:
    """The statement of a page; values are arguments, and only constants of this file are part of its text."""

    def __init__(self, project: ProjectScope, filters: Filters, within: _Range) -> None:
        self.arguments: list[Any] = []
        self._filters = filters
        self._within = within
        self._project = self._bind(project.project_id, "uuid")
        self._sandbox = project.sandbox
        self._first, self._end = self._bind(within.first, "uuid"), self._bind(within.end, "uuid")
        self._terms = [self._bind(term, "bigint") for term in filters.terms]
        self._unseen = ""
        if within.since is not None:
            since, until = self._bind(within.since, "text"), self._bind(within.until, "text")
            epoch = self._bind(within.transaction & _EPOCH_BITS, "bigint")
            newest = self._bind(within.transaction, "bigint")
            # A row has the low 32 bits of the id of its transaction.
            low = f"({epoch} + r.xmin::text::bigint)"
            written_by = f"({low} - CASE WHEN {low} > {newest} THEN 1::bigint << 32 ELSE 0 END)::text::xid8"
            self._unseen = (
                f"AND NOT pg_visible_in_snapshot({written_by}, {since}::pg_snapshot)"
                f" AND pg_visible_in_snapshot({written_by}, {until}::pg_snapshot)"
            )

    def _bind(self, value: Any, type_: str) -> str:
        self.arguments.append(value)
        return f"${len(self.arguments)}::{type_}"

    def _bind_sandbox(self) -> str:
        return self._bind(self._sandbox, "boolean")  # terms are of test or of live messages

    def _with_terms(self, terms: Sequence[str]) -> str:
        return "".join(
            f" AND EXISTS (SELECT FROM message_terms o WHERE o.project_id = {self._project} AND o.term = {term}"
            " AND o.message_id = r.message_id)"
            for term in terms
        )

    @property
    def candidates(self) -> str:
        """Ids in the order of the list, by the index that leaves the fewest."""
        limit = "" if self._within.scan is None else f"LIMIT {self._within.scan}"
        return f"{self._source()} ORDER BY id DESC {limit}"

    def _source(self) -> str:
        filters = self._filters
        if filters.incident_id is not None and not self._unseen:
            return f"""
                SELECT DISTINCT r.message_id AS id FROM incident_deliveries AS r
                 WHERE r.project_id = {self._project} AND r.incident_id = {self._bind(filters.incident_id, "uuid")}
                   AND r.message_id >= {self._first} AND r.message_id < {self._end} {self._with_terms(self._terms)}
                """  # noqa: S608  references to arguments
        by_status = filters.status is not None and filters.status not in _MOST and not self._unseen
        by_mark = bool(filters.failed_over or filters.may_be_doubled) and not self._unseen
        if self._terms and (filters.is_narrow or not (by_status or by_mark)):
            return f"""
                SELECT r.message_id AS id FROM message_terms AS r
                 WHERE r.project_id = {self._project} AND r.term = {self._terms[0]}
                   AND r.message_id >= {self._first} AND r.message_id < {self._end}
                       {self._with_terms(self._terms[1:])} {self._unseen}
                """  # noqa: S608  references to arguments
        if by_status or by_mark:
            few = f"r.state = '{filters.status}' AND (r.state IN ('SENT', 'DELIVERED')) IS FALSE"
            return f"""
                SELECT DISTINCT r.message_id AS id FROM deliveries AS r
                 WHERE r.project_id = {self._project} AND r.sandbox = {self._bind_sandbox()}
                   AND {few if by_status else _RETRIED}
                   AND r.message_id >= {self._first} AND r.message_id < {self._end}
                   AND r.id >= {_millisecond(self._first, "0")} AND r.id <= {_millisecond(self._end, "f")}
                       {self._with_terms(self._terms)}
                """  # noqa: S608  a constant, and references to arguments
        channel = self._filters.channel
        of_channel = "" if channel is None else f"AND r.channel = {self._bind(channel, 'text')}"
        return f"""
            SELECT r.id FROM messages AS r
             WHERE r.project_id = {self._project} AND r.sandbox = {self._bind_sandbox()} {of_channel}
               AND r.id >= {self._first} AND r.id < {self._end} {self._unseen}
            """  # noqa: S608  references to arguments

    def _of_others(self) -> list[str]:
        """The conditions that rows of other tables decide."""
        conditions, filters = [], self._filters
        if filters.template_id is not None:
            template = self._bind(filters.template_id, "uuid")
            conditions.append(f"(SELECT template_id = {template} FROM messages WHERE id = candidate.id LIMIT 1)")  # noqa: S608
        if filters.incident_id is not None and self._unseen:
            incident = self._bind(filters.incident_id, "uuid")
            conditions.append(
                f"EXISTS (SELECT FROM incident_deliveries WHERE project_id = {self._project}"
                f" AND incident_id = {incident} AND message_id = candidate.id)"
            )
        return conditions

    def page(self, limit: int) -> str:
        """The statement for ``limit`` messages: of the candidates only what decides, of the page everything."""
        filters = self._filters
        conditions = ["d.state IS NOT NULL"]
        if filters.status is not None:
            conditions.append(f"d.state = {self._bind(MESSAGE_ORDER.index(filters.status), 'integer')}")
        if filters.channel is not None:
            conditions.append(f"d.channel = {self._bind(filters.channel, 'text')}")
        found = {}
        if filters.provider_ids is not None:
            found["fits"] = f"provider_id = ANY ({self._bind(list(filters.provider_ids), 'uuid[]')})"
            conditions.append("d.fits")
        if filters.attempted_ids is not None:
            found["attempted"] = _ATTEMPTED.format(ids=self._bind(list(filters.attempted_ids), "uuid[]"))
            conditions.append("d.attempted")
        for name, wanted in (("failed_over", filters.failed_over), ("may_be_doubled", filters.may_be_doubled)):
            if wanted is not None:
                found[name] = DELIVERY_MARKS[name]
                conditions.append(f"d.{name}" if wanted else f"NOT d.{name}")
        conditions += self._of_others()
        marks = ", ".join(f"bool_or({mark}) AS {name}" for name, mark in DELIVERY_MARKS.items())
        decisive = "".join(f", bool_or({condition}) AS {name}" for name, condition in found.items())
        return f"""
            SELECT page.*, m.*, d.*
              FROM (SELECT candidate.id, d.state
                      FROM ({self.candidates}) AS candidate
                     CROSS JOIN LATERAL (
                           SELECT min(array_position({_ORDER}, state)) - 1 AS state, min(channel) AS channel
                                  {decisive}
                             FROM deliveries WHERE {_of_message("candidate.id")}) AS d
                     WHERE {" AND ".join(conditions)}
                     ORDER BY candidate.id DESC
                     LIMIT {limit}) AS page
             CROSS JOIN LATERAL (
                   SELECT project_id, channel, delivery_class, sender, tags, metadata, template_id, template_version,
                                  created_at,
                          coalesce(c.subject, c.title) AS subject, c."to"
                     FROM messages, json_to_record({_CONTENT}) AS c (subject text, title text, "to" text[])
                    WHERE id = page.id LIMIT 1) AS m
             CROSS JOIN LATERAL (
                   SELECT sum(attempt_count) AS attempts, array_agg(recipient ORDER BY id) AS recipients,
                          (array_remove(array_agg({taken_by("deliveries")} ORDER BY id DESC), NULL))[1]
                          AS taken_by, {marks}
                     FROM deliveries WHERE {_of_message("page.id")}) AS d
             ORDER BY page.id DESC
            """  # noqa: S608  constants, and references to arguments


def _of_message(identifier: str) -> str:
    """The condition of a message's deliveries, whose ids are of its millisecond; for aggregates and subqueries only."""
    low, high = _millisecond(identifier, "0"), _millisecond(identifier, "f")
    return f"id BETWEEN {low} AND {high} AND message_id = {identifier}"


def deliveries_of(identifier: str, columns: str, *, where: str = "true") -> str:
    """The deliveries of a message that a column names, as the subquery of a ``CROSS JOIN LATERAL``.

    ``OFFSET 0`` keeps the planner from making the subquery a part of the whole statement: with row-level security a
    bound that is computed from a column does not get to the index otherwise, and all deliveries are read.
    """
    return f"(SELECT {columns} FROM deliveries WHERE {_of_message(identifier)} AND {where} OFFSET 0)"  # noqa: S608


# PostgreSQL's functions refuse JSON with NUL, which messages may contain that are older than the check of requests.
_CONTENT = r"replace(content, '\u0000', '\ufffd')::json"
_RETRIED = "(r.attempt_count <= 1) IS FALSE"  # as in the index deliveries_retried_idx
# Of a delivery. Few have several attempts, and of those few have an unknown one.
_ATTEMPTED = """(provider_id = ANY ({ids}) OR attempt_count > 1 AND EXISTS (
    SELECT FROM attempts a WHERE a.delivery_id = deliveries.id AND a.provider_id = ANY ({ids})))"""
DELIVERY_MARKS = {
    "failed_over": """(attempt_count > 1 AND (
        SELECT count(DISTINCT a.provider_id) > 1 FROM attempts a WHERE a.delivery_id = deliveries.id))""",
    "may_be_doubled": """(unknown_attempts > 0 AND attempt_count > 1 AND (
        SELECT count(DISTINCT a.client_reference) > 1 FROM attempts a WHERE a.delivery_id = deliveries.id
           AND (a.outcome IS NULL OR a.outcome IN ('accepted', 'unknown'))))""",
}
"""Conditions of a row of ``deliveries``: see :class:`sluice.store.messages.Delivery`."""

_ORDER = f"ARRAY[{', '.join(repr(state.value) for state in MESSAGE_ORDER)}]"


def _millisecond(identifier: str, digit: str) -> str:
    """The smallest (0) or largest (f) id of the millisecond of an id: see ``sluice.model.ids.millisecond_range``."""
    rest = "-".join(digit * length for length in (4, 4, 12))
    return f"(substr({identifier}::text, 1, 13) || '-{rest}')::uuid"


def _message_row(row: Any) -> MessageRow:
    fields = dict(row)
    to = fields.pop("to")
    return MessageRow(
        **fields
        | {
            "recipients": tuple(to or fields["recipients"]),
            "tags": tuple(fields["tags"]),
            "state": MESSAGE_ORDER[fields["state"]],
        }
    )
