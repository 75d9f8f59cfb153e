"""What the processes of the installation export during a game day, kept in a file to test alerts with."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

import httpx

from sluice.runtime.errors import SluiceError
from sluice_cli.context import launcher

INTERVAL = 2.0  # seconds between two reads of a process
_TIMEOUT = 1.5  # seconds; a process that does not answer is missing, as in Prometheus
_OURS = "sluice_"


@asynccontextmanager
async def recording(file: Path) -> AsyncIterator[None]:
    """Append the metrics of every process to ``file`` until the block ends.

    One JSON object a line: ``at`` in seconds since 1970, ``instance`` the name of the process, ``metrics`` its series
    in Prometheus' text format.

    Raises:
        SluiceError: no launcher runs here, or the file cannot be written.
    """
    supervisor = launcher()
    if supervisor is None:
        raise SluiceError("--record-metrics: needs an installation that `sluice up` has started")
    rows = (await asyncio.to_thread(supervisor.status))["processes"]
    places = {row["name"]: f"{row['ops']}/metrics" for row in rows if row["ops"]}
    try:
        output = file.open("a")
    except OSError as error:
        raise SluiceError(f"--record-metrics: {file} cannot be written: {error.strerror}") from None
    with output:
        reading = asyncio.create_task(_read_regularly(places, output))
        try:
            yield
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def _read_regularly(places: Mapping[str, str], output: IO[str]) -> None:
    async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
        while True:
            began = time.monotonic()
            for line in await asyncio.gather(*(_read(client, *place) for place in places.items())):
                output.write(line)
            await asyncio.sleep(max(0.0, began + INTERVAL - time.monotonic()))


async def _read(client: httpx.AsyncClient, instance: str, url: str) -> str:
    at = time.time()
    try:
        text = (await client.get(url)).raise_for_status().text
    except httpx.HTTPError:
        return ""
    series = "\n".join(line for line in text.splitlines() if line.startswith(_OURS))
    return json.dumps({"at": at, "instance": instance, "metrics": series}) + "\n"
