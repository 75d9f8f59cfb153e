"""Generated requests in quantity, to the whole system: ``python -m tests.fuzz [--requests 20000]``.

The last line is one JSON object. Exit code 1 where an answer was wrong or the gateway kept memory.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from gateway.openapi import APIS
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.plan import default_roles
from sluice_launcher.state import read_state
from tests.fuzz.openapi_fuzz import ApiFuzzer, Findings
from tests.progress import progress

EACH = 10  # allowed and forbidden requests of each operation in a round
WARM = 0.3  # of the requests, before memory is measured: caches, pools and compiled validators are filled by then
MAX_GROWTH = 0.1  # of the memory at that time
# Each request comes from an address of its own, so that the limit of attempts to log in does not answer for the routes.
_ENVIRONMENT = {"SLUICE_CLIENT_PROXIES": "1"}


def main() -> int:
    """Run, print what was found, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--requests", type=int, default=20_000, help="at least, beside the seeds (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same requests for the same seed (default: %(default)s)"
    )
    options = parser.parse_args()
    os.environ.update(_ENVIRONMENT)
    with (
        tempfile.TemporaryDirectory(prefix="sluice-fuzz-") as folder,
        LocalStack(Path(folder), roles=default_roles(), testing=False, progress=progress) as stack,
    ):
        memory = psutil.Process(read_state(Path(folder))["gateway"].pid).memory_info
        found = asyncio.run(_fuzz(stack, options.requests, options.seed, lambda: memory().rss >> 20))
    print(json.dumps(found), flush=True)
    return 1 if found["faults"] or found["growth"] > MAX_GROWTH else 0


async def _fuzz(stack: LocalStack, requests: int, seed: int, memory_mib: Callable[[], int]) -> dict[str, Any]:
    warm = None
    timeout = httpx.Timeout(30.0)
    async with (
        asyncpg.create_pool(stack.addresses["postgres"], min_size=1, max_size=2) as pool,
        httpx.AsyncClient(base_url=stack.addresses["gateway"], timeout=timeout, trust_env=False) as client,
    ):
        found = Findings(report=progress)
        fuzzers = [ApiFuzzer(client, pool, number=seed, api=api, findings=found) for api in APIS]
        for fuzzer in fuzzers:
            await fuzzer.seeds()
        progress(f"seeds: {found.requests} requests, {len(found.faults)} faults")
        seeds = found.requests
        number = 0
        while found.requests < seeds + requests:
            await fuzzers[number % len(fuzzers)].round(number, EACH, progress)
            number += 1
            if warm is None and found.requests >= seeds + WARM * requests:
                warm = memory_mib()
    last = memory_mib()
    return {
        "requests": found.requests,
        "operations": len(found.operations),
        "statuses": dict(sorted(found.statuses.items())),
        "never_succeeded": sorted(name for name, statuses in found.operations.items() if min(statuses) >= 300),
        "memory_mib": [warm, last],
        "growth": round(last / (warm or last) - 1, 3),
        "faults": found.faults,
    }


if __name__ == "__main__":
    sys.exit(main())
