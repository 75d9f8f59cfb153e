"""The frame of a role: it ends when one of its tasks ends, and reports why."""

import asyncio
import json
import sys

import pytest

SUPERVISED = """
import asyncio
from sluice.bootstrap import run_role
from sluice.runtime.logs import configure_logging
from sluice.runtime.signals import shutdown_event
from sluice.runtime.tasks import cancel_and_wait, supervised

async def failing():
    raise LookupError("gone")

async def main():
    configure_logging("info", "role")
    shutdown = shutdown_event({timeout})
    task = supervised(failing(), name="leases")
    await {work}
    print("stopping", flush=True)
    await cancel_and_wait(task)

run_role(main)
"""

ROLE = """
import asyncio, os, signal
from sluice.bootstrap import role, run_role
from sluice.runtime.settings import Settings

class Consumer:
    stopped = asyncio.Event()

    async def run(self):
        print("consuming", flush=True)
        {consumer}
        print("drained", flush=True)

    def stop(self):
        self.stopped.set()

    def readiness(self):
        return None

async def loop():
    {loop}

class Resource:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        print("closed", flush=True)

def terminate():
    os.kill(os.getpid(), signal.SIGTERM)

async def main():
    settings = Settings(postgres_dsn="postgresql://nowhere", kafka_bootstrap_servers="nowhere:1")
    async with role("test", settings) as process:
        await process.enter(Resource())
        await process.run(Consumer(), loops=[loop()])

run_role(main)
"""


async def run(source):
    """A role as a process of its own: its exit code, the lines of its output, and the text on stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode().splitlines(), err.decode()


async def test_a_role_stops_and_logs_why_when_a_supervised_task_fails():
    code, (line, *rest), _ = await run(SUPERVISED.format(timeout=60, work="shutdown.wait()"))

    entry = json.loads(line)
    assert (entry["level"], entry["event"], entry["task"]) == ("critical", "supervised_task_died", "leases")
    assert "LookupError: gone" in entry["exception"]
    assert (code, rest) == (1, ["stopping"])


async def test_a_role_that_waits_for_a_failed_task_exits_after_the_timeout():
    code, (line, *rest), _ = await run(SUPERVISED.format(timeout=0.1, work="asyncio.Event().wait()"))

    assert json.loads(line)["task"] == "leases"
    assert (code, rest) == (1, [])


FOR_EVER = "await asyncio.Event().wait()"
UNTIL_STOPPED = "await self.stopped.wait()"


async def test_a_signal_drains_the_consumer_cancels_the_loops_and_closes_everything():
    code, lines, err = await run(ROLE.format(consumer=UNTIL_STOPPED, loop="terminate(); " + FOR_EVER))

    assert (code, lines, err) == (0, ["consuming", "drained", "closed"], "")


@pytest.mark.parametrize(
    "end", ["pass", "asyncio.current_task().cancel(); await asyncio.sleep(0)"], ids=["returns", "is cancelled"]
)
async def test_a_role_ends_when_its_consumer_ends_by_itself(end):
    code, lines, err = await run(ROLE.format(consumer=end, loop=FOR_EVER))

    assert (code, lines[-1]) == (1, "closed")
    assert err == "sluice: test stops because consumer ended before the shutdown\n"


async def test_a_role_ends_when_a_loop_returns_and_drains_its_consumer():
    code, lines, err = await run(ROLE.format(consumer=UNTIL_STOPPED, loop="pass"))

    assert (code, lines) == (1, ["consuming", "drained", "closed"])
    assert "test-loop ended before the shutdown" in err


async def test_a_role_raises_the_error_of_a_loop_after_the_drain():
    code, lines, err = await run(ROLE.format(consumer=UNTIL_STOPPED, loop="raise LookupError('gone')"))

    assert code == 1
    assert [line for line in lines if not line.startswith("{")] == ["consuming", "drained", "closed"]
    assert "LookupError: gone" in err


WAITING = """
import asyncio, os, signal, socket
from sluice.bootstrap import role, run_role
from sluice.runtime.settings import Settings

async def main():
    silent = socket.create_server(("127.0.0.1", 0))  # accepts connections and never answers
    dsn = f"postgresql://sluice@127.0.0.1:{silent.getsockname()[1]}/none"
    async with role("test", Settings(postgres_dsn=dsn, kafka_bootstrap_servers="nowhere:1")) as process:
        asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGTERM)
        await process.open_pool()

run_role(main)
"""


async def test_a_role_that_waits_for_postgresql_ends_at_a_signal():
    code, lines, err = await run(WAITING)

    assert (code, err) == (0, "sluice: test was stopped before it was ready\n")
    assert lines == []


PAGE = """
import asyncio, sys
sys.path[:0] = {path!r}
from sluice.runtime import metrics
from sluice.bootstrap import role, run_role
from sluice.runtime.http_server import ops_app
from sluice.runtime.settings import Settings
from starlette.testclient import TestClient

async def main():
    settings = Settings(postgres_dsn="postgresql://nowhere", kafka_bootstrap_servers="nowhere:1")
    async with role("test", settings) as process:
        print(TestClient(ops_app(process.readiness)).get("/metrics").text)

run_role(main)
"""


async def test_a_role_shows_its_version_and_which_checks_pass():
    code, lines, err = await run(PAGE.format(path=sys.path))

    assert (code, err) == (0, "")
    assert 'sluice_build_info{role="test",version="0.1.0"} 1.0' in lines
    assert 'sluice_ready{check="role"} 1.0' in lines
    assert 'sluice_ready{check="kafka"} 0.0' in lines
