"""An email-worker beside those of the supervisor, as an operator starts one by hand: it is not restarted."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from sluice_launcher import parent_death_signal
from sluice_launcher.process_info import free_port
from tests.engine import QUICK
from tests.polling import wait_until


@dataclass
class AnotherWorker:
    """A running email-worker; ``url`` of its ops endpoints."""

    process: asyncio.subprocess.Process
    url: str

    async def kill(self):
        """End it with SIGKILL."""
        self.process.kill()
        await self.process.wait()

    async def metric(self, name):
        """The sum of the series of a metric."""
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            lines = (await client.get(f"{self.url}/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@asynccontextmanager
async def another_worker(system, log, **environment):
    """An email-worker of the running system, ready, until the block ends; it writes to ``log``."""
    port = str(free_port())
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    settings = {"SLUICE_ROLE": "email-worker", "SLUICE_HOST": "127.0.0.1", "SLUICE_PORT": port}
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *parent_death_signal.prefix(signal.SIGKILL),
            *(sys.executable, "-O", "-m", "email_worker"),
            env={**own, **QUICK, **system.worker_environment, **settings, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    worker = AnotherWorker(process, f"http://127.0.0.1:{port}")
    try:
        await wait_until(lambda: _ready(worker, log), within=120)
        yield worker
    finally:
        if process.returncode is None:
            await worker.kill()


async def _ready(worker, log):
    assert worker.process.returncode is None, log.read_text()
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            return (await client.get(f"{worker.url}/readyz")).status_code == 200
    except httpx.TransportError:
        return False
