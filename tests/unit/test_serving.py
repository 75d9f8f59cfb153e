"""How every role runs: what it does when one of its lasting tasks dies."""

import asyncio
import json
import sys

ROLE = """
import asyncio
from sluice.runtime.http_server import run_role, configure_logging, shutdown_event
from sluice.runtime.tasks import cancel_and_wait, supervised

async def dying():
    raise LookupError("gone")

async def main():
    configure_logging("info", "role")
    stopped = shutdown_event({grace})
    task = supervised(dying(), name="keeper")
    await {work}
    print("stopping", flush=True)
    await cancel_and_wait(task)

run_role(main)
"""


async def run(*, grace, work):
    """A role as a process of its own: how it ended, and its lines."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ROLE.format(grace=grace, work=work), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode().splitlines()


async def test_a_role_whose_task_has_died_stops_and_says_why():
    code, (line, *rest) = await run(grace=60, work="stopped.wait()")

    said = json.loads(line)
    assert (said["level"], said["event"], said["task"]) == ("critical", "supervised_task_died", "keeper")
    assert "LookupError: gone" in said["exception"]
    assert (code, rest) == (1, ["stopping"])


async def test_a_role_that_waits_for_what_is_dead_ends_all_the_same():
    code, (line, *rest) = await run(grace=0.1, work="asyncio.Event().wait()")

    assert json.loads(line)["task"] == "keeper"
    assert (code, rest) == (1, [])
