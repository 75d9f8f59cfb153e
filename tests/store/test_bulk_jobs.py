"""Bulk jobs: which of them the expanders find."""

import json
from uuid import UUID

from sluice.store import bulk_jobs
from tests.examples import NOON, an_id, seconds

ONE, OTHER, THIRD = (UUID(int=number) for number in (1, 2, 3))


async def jobs(pool, project_id, count, *, status="EXPANDING", age=0):
    """Jobs of the project; the id of the first one."""
    ids = [an_id(NOON - seconds(age - at)) for at in range(count)]
    await pool.execute(
        "INSERT INTO bulk_jobs (id, project_id, sandbox, status, message, recipients, created_at, served_at)"
        " SELECT id, $2, false, $3, '{}', 1, $4, $4 FROM unnest($1::uuid[]) AS n (id)",
        *(ids, project_id, status, NOON),
    )
    return ids[0]


async def test_many_jobs_of_one_project_hide_no_job_of_another(pool, role_pools):
    """Jobs were found in the order of their ids, a thousand at most: those of one project were all of them."""
    first = await jobs(pool, ONE, 2_000, age=9_000)
    await jobs(pool, OTHER, 1, status="UPLOADING", age=800)
    await jobs(pool, OTHER, 1, status="COMPLETED", age=700)
    second = await jobs(pool, OTHER, 3, status="CANCELLING", age=600)
    third = await jobs(pool, THIRD, 1)

    found = await bulk_jobs.list_open_jobs(role_pools.gateway)

    assert {job.project_id: job.id for job in found} == {ONE: first, OTHER: second, THIRD: third}
    assert len(found) == 3


class Explained:
    """Explains statements instead of running them, and collects their plans."""

    def __init__(self, pool):
        self.pool, self.plans = pool, []

    async def fetch(self, statement):
        [row] = await self.pool.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        self.plans.append(json.loads(row[0])[0]["Plan"])
        return []


def rows_read(plan):
    """How many rows the steps of a plan have read from tables."""
    read = sum(plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter")) * plan["Actual Loops"]
    own = read if "Relation Name" in plan else 0
    return own + sum(map(rows_read, plan.get("Plans", ())))


async def test_the_jobs_of_a_project_are_not_read_to_find_its_oldest(pool, role_pools):
    await jobs(pool, ONE, 5_000, age=9_000)
    await jobs(pool, OTHER, 5_000, age=9_000)
    await jobs(pool, THIRD, 5_000, age=9_000, status="COMPLETED")
    await pool.execute("ANALYZE bulk_jobs")
    explained = Explained(role_pools.gateway)

    await bulk_jobs.list_open_jobs(explained)

    assert rows_read(explained.plans[0]) < 100, explained.plans
