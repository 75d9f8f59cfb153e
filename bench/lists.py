"""How long a page of `GET /v1/messages` takes in a large project: its statements, without HTTP and other load."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from bench import results_db
from bench.report import print_line
from sluice.model.ids import min_id_at
from sluice.model.state import State
from sluice.model.terms import TermKind, term
from sluice.runtime.clock import utc_now
from sluice.runtime.percentile import percentile
from sluice.store import migrations, partitions, projects
from sluice.store.db import Pool, open_pool, rows_of
from sluice.store.logins import GATEWAY, with_login
from sluice.store.message_list import Filters, Position, list_messages
from sluice.store.projects import ProjectScope
from sluice_launcher.local_stack import LocalStack

GOAL_MS = 50.0
_CHUNK = 100_000  # messages written by one statement
_SPREAD = timedelta(days=10)
_LIMIT = 20
_PASSWORD = "of the benchmark"  # noqa: S105  of a server that ends with the command
# Messages of each state, of 100,000: those that are looked for are few.
_STATES = {"DELIVERED": 80_000, "SENT": 15_000, "BOUNCED": 4_900, "FAILED": 99, "QUEUED": 1}
PROVIDERS = (UUID(int=1), UUID(int=2))
SLUG = "x"  # of the project that is filled


async def measure_lists(options: argparse.Namespace) -> int:
    """Fill a database, time pages with each filter, and print the figures as JSON."""
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), services=["postgres"]) as stack:
        server = stack.addresses["postgres"]
        dsn = await results_db.create_database(server, "lists")
        await migrations.apply(dsn, passwords={GATEWAY.name: _PASSWORD})
        project_id = await fill(dsn, options.messages)
        async with open_pool(with_login(dsn, GATEWAY.name, _PASSWORD), size=2, name="bench") as pool:
            scope = ProjectScope(project_id, False)
            found = {
                name: await _measure(pool, scope, filters, options.pages)
                for name, filters in _filters(options.messages).items()
            }
    document = {"messages": options.messages, "pages": options.pages, "limit": _LIMIT, "goal_ms": GOAL_MS, "ms": found}
    print_line(json.dumps(document))
    slow = [name for name, figures in found.items() if figures["p95"] > GOAL_MS]
    if slow:
        print(f"slower than {GOAL_MS:g} ms at p95: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


def _filters(size: int) -> Mapping[str, Filters]:
    def terms(**texts: str) -> tuple[int, ...]:
        return tuple(term(TermKind(kind.rstrip("_")), text, sandbox=False) for kind, text in texts.items())

    now = utc_now()
    return {
        "none": Filters(),
        "channel: most": Filters(channel="email"),
        "channel: few": Filters(channel="sms"),
        "to: one message": Filters(terms=terms(to=f"old{size // 2:09}@load.example"), is_narrow=True),
        "from: all": Filters(terms=terms(from_="bench@sluice.example")),
        "tag: half": Filters(terms=terms(tag="orders")),
        "tag: few": Filters(terms=terms(tag="rare")),
        "to and tag": Filters(terms=terms(to="old000000002@load.example", tag="orders"), is_narrow=True),
        **{f"status: {state}": Filters(status=State(state)) for state in _STATES},
        "status: CANCELLED, none": Filters(status=State.CANCELLED),
        "provider: half": Filters(provider_ids=PROVIDERS[:1]),
        "provider: none": Filters(provider_ids=(UUID(int=9),)),
        "attempted provider: half": Filters(attempted_ids=PROVIDERS[:1]),
        "failed over: few": Filters(failed_over=True),
        "may have arrived twice: few": Filters(may_be_doubled=True),
        "a day, a week ago": Filters(first=min_id_at(now - timedelta(days=7)), end=min_id_at(now - timedelta(days=6))),
        "tag and status": Filters(terms=terms(tag="orders"), status=State.FAILED),
    }


async def _measure(pool: Pool, scope: ProjectScope, filters: Filters, pages: int) -> dict[str, float | int]:
    """Milliseconds of first pages, and of the pages after them, and how many messages a first page has."""
    times: list[float] = []
    shown = 0
    position: Position | None = None
    for number in range(pages):
        started = time.perf_counter()
        async with rows_of(pool, [scope.project_id]) as db:
            page = await list_messages(db, scope, filters, limit=_LIMIT, position=position, now=utc_now())
        times.append((time.perf_counter() - started) * 1000)
        shown = max(shown, len(page.messages))
        position = page.next if number % 2 == 0 else None
    return {
        "p50": round(percentile(times, 0.5) or 0.0, 2),
        "p95": round(percentile(times, 0.95) or 0.0, 2),
        "max": round(max(times), 2),
        "shown": shown,
    }


async def fill(dsn: str, size: int) -> UUID:
    """Write the messages into an empty database with our schema; returns the id of their project."""
    connection = await asyncpg.connect(dsn)
    now = utc_now()
    try:
        for ago in range(3):
            await partitions.ensure(connection, now - timedelta(weeks=ago))
        project = await projects.create_project(connection, organization="x", slug=SLUG, name="x", now=now)
        terms = [term(kind, text, sandbox=False) for kind, text in _SHARED]
        states = [state for state, count in _STATES.items() for _ in range(count)]
        random.Random(1).shuffle(states)  # noqa: S311  no secret
        for low in range(0, size, _CHUNK):
            high = min(size, low + _CHUNK)
            rows = range(low, high)
            to = [term(TermKind.TO, f"old{number:09}@load.example", sandbox=False) for number in rows]
            await connection.execute(
                _FILL, low, high - 1, size, now - _SPREAD, now, project.id, states[: high - low], to, *terms,
                list(PROVIDERS), timeout=900,
            )  # fmt: skip
            print(f"{high} of {size} messages are written", file=sys.stderr)
        await connection.execute("VACUUM ANALYZE", timeout=1800)
    finally:
        await connection.close()
    return project.id


_SHARED = ((TermKind.FROM, "bench@sluice.example"), (TermKind.TAG, "orders"), (TermKind.TAG, "rare"))
_FILL = """
    WITH n AS MATERIALIZED (
        SELECT i, at, i - $1::bigint + 1 AS place,
               lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS clock,
               md5('m' || i) AS one, md5('d' || i) AS other, i % 20000 = 7 AS is_sms, i % 2 = 0 AS is_order,
               i % 100000 = 8 AS is_rare, i % 200 = 9 AS is_failed_over, i % 20000 = 11 AS is_doubled,
               'old' || lpad(i::text, 9, '0') || '@load.example' AS recipient
          FROM generate_series($1::bigint, $2::bigint) AS i,
               LATERAL (SELECT $4::timestamptz + ($5::timestamptz - $4) * (i::float8 / $3::bigint) AS at) AS moment
    ), ids AS MATERIALIZED (
        SELECT *, (clock || '7' || substr(one, 1, 3) || 'a' || substr(one, 4, 15))::uuid AS message_id,
               (clock || '7' || substr(other, 1, 3) || 'a' || substr(other, 4, 15))::uuid AS id
          FROM n
    ), messages_written AS (
        INSERT INTO messages (id, project_id, channel, delivery_class, sender, content, tags, sandbox, expires_at,
                              created_at)
        SELECT message_id, $6::uuid, CASE WHEN is_sms THEN 'sms' ELSE 'email' END, 'standard', 'bench@sluice.example',
               jsonb_build_object('to', jsonb_build_array(recipient), 'subject', 'Order ' || i,
                                  'text', repeat('Your order is on its way. ', 20))::text,
               CASE WHEN is_order THEN '{orders}'::text[] ELSE '{}' END, false, at + interval '72 hours', at
          FROM ids
    ), terms_written AS (
        INSERT INTO message_terms (project_id, term, message_id)
        SELECT $6, t.term, message_id
          FROM ids
         CROSS JOIN LATERAL (VALUES (($8::bigint[])[place], true), ($9::bigint, true), ($10::bigint, is_order),
                                    ($11::bigint, is_rare)) AS t (term, wanted)
         WHERE t.wanted
    ), attempts_written AS (
        INSERT INTO attempts (delivery_id, number, project_id, provider_id, retry_round, client_reference,
                              routing_decision, started_at, finished_at, outcome)
        SELECT id, number, $6, ($12::uuid[])[CASE number WHEN 2 THEN 1 + i % 2 ELSE 2 - i % 2 END], 1, one || number,
               '{}', at, at,
               CASE WHEN number = 2 THEN 'accepted' WHEN is_doubled THEN 'unknown' ELSE 'provider_fault' END
          FROM ids CROSS JOIN generate_series(1, 2) AS number
         WHERE is_failed_over OR is_doubled
    )
    INSERT INTO deliveries (id, message_id, project_id, channel, delivery_class, recipient, sandbox, state,
                            attempt_count, unknown_attempts, provider_id, due_at, expires_at)
    SELECT id, message_id, $6, CASE WHEN is_sms THEN 'sms' ELSE 'email' END, 'standard', recipient, false,
           ($7::text[])[place], CASE WHEN is_failed_over OR is_doubled THEN 2 ELSE 1 END, is_doubled::integer,
           ($12::uuid[])[1 + i % 2],
           CASE WHEN ($7::text[])[place] = 'QUEUED' THEN at + interval '30 days' END, at + interval '72 hours'
      FROM ids
"""
