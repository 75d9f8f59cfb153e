"""Plans: the index of the list's states serves the list, and no statement that settles deliveries."""

import pytest

from tests.examples import PROJECT

PLAN = """
    EXPLAIN SELECT message_id FROM deliveries
     WHERE project_id = '{project}' AND sandbox IS NOT DISTINCT FROM false AND {condition}
"""


async def uses_state_index(pool, condition):
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        rows = await connection.fetch(PLAN.format(project=PROJECT, condition=condition))
    return any("state" in row[0] and "idx" in row[0] for row in rows)


@pytest.mark.parametrize("states", ["'QUEUED', 'SENDING'", "'QUEUED'", "'UNKNOWN', 'FAILED'"])
async def test_states_alone_do_not_open_the_index_of_the_list(pool, states):
    assert not await uses_state_index(pool, f"state IN ({states})")


async def test_the_list_reads_its_index(pool):
    assert await uses_state_index(pool, "state = 'QUEUED' AND (state IN ('SENT', 'DELIVERED')) IS FALSE")
