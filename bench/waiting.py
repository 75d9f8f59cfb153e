"""How long `POST /email/send` takes, which waits until a provider has taken the message, over two gateways."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import asyncpg
import httpx

from bench.clock import now
from bench.processes import Child, Failed
from bench.report import print_line
from sluice.model.ids import uuid7
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.runtime.percentile import percentile
from sluice.runtime.settings import read_key_file
from sluice.store import api_keys, projects, providers
from sluice.store.cipher import CredentialCipher
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.process_info import free_port
from sluice_launcher.roles import ROLES, SERVICES
from sluice_simulator.scenario import Latency, Rule, Scenario
from sluice_simulator.simulator import Simulator

GOALS_MS = {"p50": 60.0, "p99": 250.0}
_WARM_UP = 5.0  # seconds whose answers do not count
_PROVIDER = 0.020  # seconds that the provider takes


async def measure_waiting(options: argparse.Namespace) -> int:
    """Start the system with a second gateway, send at a rate, with Redis and without it; print the figures as JSON."""
    scenario = Scenario(default=Rule(latency=Latency(median=_PROVIDER, sigma=0.0)))
    with tempfile.TemporaryDirectory() as folder:
        roles = tuple(role.name for role in ROLES)
        with LocalStack(Path(folder), services=SERVICES, roles=roles, testing=False) as stack:
            async with Simulator(scenario, endpoints={"resend": "resend"}) as simulator:
                key = await _project(stack, simulator.endpoints["resend"].port)
                second = _second_gateway(stack, Path(folder))
                try:
                    urls = [stack.addresses["gateway"], second[1]]
                    found = await _measure(urls, key, options, stack)
                finally:
                    second[0].end()
    document = {"rate": options.rate, "gateways": 2, "provider_ms": _PROVIDER * 1000, "goals_ms": GOALS_MS, **found}
    print_line(json.dumps(document))
    slow = [name for name, goal in GOALS_MS.items() if found["redis"][name] > goal]
    if slow or any(part["failed"] for part in found.values()):
        print(f"too slow: {', '.join(slow)}" if slow else "requests have failed", file=sys.stderr)
        return 1
    return 0


async def _project(stack: LocalStack, port: int) -> str:
    """A project with one provider and a sender; returns its key."""
    cipher = CredentialCipher(partial(read_key_file, Path(stack.environment["SLUICE_ENCRYPTION_KEY_FILE"])))
    connection = await asyncpg.connect(stack.addresses["postgres"])
    try:
        project = await projects.create_project(
            connection, organization="Bench", slug="bench", name="Bench", now=utc_now()
        )
        await connection.execute(
            "UPDATE projects SET default_sender = 'bench@sluice.example' WHERE id = $1", project.id
        )
        provider_id = uuid7()
        credentials = {"apiKey": "re_bench", "baseUrl": f"http://127.0.0.1:{port}"}
        await providers.create_provider(
            connection,
            provider_id,
            project.id,
            package="provider-resend",
            channel=Channel.EMAIL,
            name="resend",
            encrypted_credentials=cipher.encrypt_credentials(
                credentials, project_id=project.id, provider_id=provider_id
            ),
            now=utc_now(),
        )
        return await api_keys.create_key(connection, project.id, name="bench", is_test=False, now=utc_now())
    finally:
        await connection.close()


def _second_gateway(stack: LocalStack, folder: Path) -> tuple[Child, str]:
    port = free_port()
    environment = {**stack.environment_of("gateway"), "SLUICE_PORT": str(port)}
    child = Child([sys.executable, "-O", "-m", "gateway"], log=folder / "second-gateway.log", environment=environment)
    return child, f"http://127.0.0.1:{port}"


async def _measure(
    urls: Sequence[str], key: str, options: argparse.Namespace, stack: LocalStack
) -> dict[str, Mapping[str, float]]:
    async with httpx.AsyncClient(timeout=60.0, headers={"x-api-key": key}, trust_env=False) as client:
        template = await _template(client, urls, key)
        with_redis = await _load(client, urls, template, options.rate, options.seconds)
        await asyncio.to_thread(stack.control.stop, "redis")
        without = await _load(client, urls, template, options.rate, options.seconds)
    return {"redis": with_redis, "without_redis": without}


async def _template(client: httpx.AsyncClient, urls: Sequence[str], key: str) -> str:
    """The id of a template, once every gateway answers.

    Raises:
        Failed: a gateway does not.
    """
    body = {"name": "welcome", "kind": "email", "subject": "Hello {{name}}", "html": "<p>Hello {{name}}</p>"}
    for _ in range(120):
        try:
            answers = [
                await client.post(f"{url}/v1/templates", json=body, headers={"x-sendpipe-key": key}) for url in urls
            ]
        except httpx.TransportError:
            answers = []
        if answers and all(answer.status_code == 201 for answer in answers):
            return str(answers[0].json()["id"])
        await asyncio.sleep(0.25)
    raise Failed("a gateway does not answer")


async def _load(
    client: httpx.AsyncClient, urls: Sequence[str], template: str, rate: float, seconds: float
) -> dict[str, float]:
    """Requests at random moments, whatever becomes of those before; milliseconds from each one's moment."""
    draw = random.Random(1)  # noqa: S311  the same moments in every run
    begin = now() + 0.2
    moments: list[float] = []
    at = 0.0
    while (at := at + draw.expovariate(rate)) < _WARM_UP + seconds:
        moments.append(at)
    tasks = []
    for number, moment in enumerate(moments):
        await asyncio.sleep(max(0.0, begin + moment - now()))
        body = {"templateId": template, "to": f"user{number}@load.example", "variables": {"name": "Ada"}}
        tasks.append(asyncio.create_task(_send(client, urls[number % len(urls)], body, begin + moment)))
    answers = await asyncio.gather(*tasks)
    counted = [answer for answer, moment in zip(answers, moments, strict=True) if moment >= _WARM_UP]
    times = [took for status, took in counted if status == 200]
    statuses = Counter(status for status, _ in counted)
    figures = {f"p{share}": round(percentile(times, share / 100) or 0.0, 1) for share in (50, 90, 99)}
    return {**figures, "requests": len(counted), "failed": len(counted) - statuses[200]}


async def _send(client: httpx.AsyncClient, url: str, body: Mapping[str, object], at: float) -> tuple[int, float]:
    try:
        answer = await client.post(f"{url}/email/send", json=body)
    except httpx.TransportError:
        return 0, 0.0
    return answer.status_code, (now() - at) * 1000
