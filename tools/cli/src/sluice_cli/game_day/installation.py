"""What a game day uses of the running installation: a project of its own, requests, health, the record."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import httpx

from sluice.model import ids
from sluice.model.message import Channel
from sluice_cli.context import api_url, database
from sluice_cli.game_day.figures import Sent
from sluice_cli.simulated_projects import ProviderPlan, SimulatedProject, create_project, credential_cipher
from sluice_simulator import EndpointScenario, Receipts, Rule, Scenario, Simulator
from sluice_simulator.accounts import Account, every_account

PACKAGES = {Channel.EMAIL: "provider-resend", Channel.SMS: "provider-twilio"}
PLACES = ("first", "second")
LATENCY = 0.05  # seconds; median of every call
_RECEIPTS = Receipts(kinds=("delivered",), delay=0.5)
_REQUEST_TIMEOUT = 15.0  # seconds

_SENT = """
    SELECT d.recipient, d.channel, d.state, m.created_at,
           min(a.finished_at) FILTER (WHERE a.outcome = 'accepted') AS taken_at
      FROM messages m
      JOIN deliveries d ON d.message_id = m.id
      LEFT JOIN attempts a ON a.delivery_id = d.id
     WHERE m.project_id = $1
     GROUP BY d.id, d.recipient, d.channel, d.state, m.created_at
"""
_OPEN = """
    SELECT count(*) FROM deliveries d JOIN messages m ON m.id = d.message_id
     WHERE m.project_id = $1 AND d.due_at IS NOT NULL
"""


def endpoint(channel: Channel, place: str) -> str:
    """The name of the endpoint of a provider."""
    return f"{channel}-{place}"


def endpoints() -> dict[str, str]:
    """Two endpoints for each channel, by name, with their dialects."""
    accounts = every_account()
    return {
        endpoint(channel, place): accounts[package].dialect for channel, package in PACKAGES.items() for place in PLACES
    }


class Installation:
    """``async with Installation(simulator) as installation``: a project with two providers a channel."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._accounts = every_account()
        self._client = httpx.AsyncClient(base_url=api_url(), timeout=_REQUEST_TIMEOUT, trust_env=False)
        self.answers: Counter[str] = Counter()
        self._project: SimulatedProject | None = None
        self._providers: dict[str, str] = {}

    async def __aenter__(self) -> Installation:
        cipher = credential_cipher()
        async with database() as connection, connection.transaction():
            self._project = await create_project(
                connection, cipher, slug="game-day", name="Game day", providers=self._plans()
            )
        self._providers = {
            name: ids.encode_id("prv", one) for name, one in zip(endpoints(), self._project.providers, strict=True)
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @property
    def project(self) -> SimulatedProject:
        """The project of this game day."""
        assert self._project is not None
        return self._project

    def _plans(self) -> list[ProviderPlan]:
        plans = []
        for channel, package in PACKAGES.items():
            for place in PLACES:
                name = endpoint(channel, place)
                credentials = self._accounts[package].credentials_at(*self._simulator.address(name))
                plans.append(ProviderPlan(package, channel, name, credentials))
        return plans

    def apply(self, rules: Mapping[str, Rule]) -> None:
        """Every provider behaves well, but those with a rule."""
        found: dict[str, EndpointScenario] = {}
        for name, provider in self._providers.items():
            account = self._account(name)
            receipts_at = f"{api_url()}/v1/receipts/{provider}"
            own = rules[name].model_dump(exclude_unset=True) if name in rules else {}
            found[name] = EndpointScenario.model_validate(
                {"latency": {"median": LATENCY, "sigma": 0.3}, "receipts": _RECEIPTS}
                | own
                | {"webhooks": account.webhooks(receipts_at)}
            )
        self._simulator.apply_scenario(Scenario(endpoints=found))

    def _account(self, name: str) -> Account:
        return self._accounts[PACKAGES[Channel(name.partition("-")[0])]]

    async def send(self, channel: Channel, number: int) -> None:
        """Send one message; no two have the same recipient. ``answers`` counts the statuses."""
        recipient = f"guest{number}@example.org" if channel is Channel.EMAIL else f"+1555{number:07}"
        request = {**self._accounts[PACKAGES[channel]].request, "to": [recipient]}
        try:
            answer = await self._client.post(
                "/v1/messages/channel", json=request, headers={"x-sendpipe-key": self.project.key}
            )
            self.answers[str(answer.status_code)] += 1
        except httpx.HTTPError:
            self.answers["no answer"] += 1

    async def health(self, name: str) -> dict[str, Any]:
        """The health of the provider at an endpoint, as the API shows it."""
        answer = await self._client.get(
            f"/v1/providers/{self._providers[name]}", headers={"x-sendpipe-key": self.project.key}
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()["health"]
        return found

    async def settled(self, within: float) -> bool:
        """Wait until no delivery of the project is open."""
        deadline = asyncio.get_running_loop().time() + within
        async with database() as connection:
            while await connection.fetchval(_OPEN, self.project.id):
                if asyncio.get_running_loop().time() > deadline:
                    return False
                await asyncio.sleep(0.5)
        return True

    async def sent(self) -> list[Sent]:
        """What became of every acknowledged message."""
        async with database() as connection:
            rows = await connection.fetch(_SENT, self.project.id)
        return [
            Sent(row["recipient"], row["channel"], row["created_at"], row["taken_at"], row["state"]) for row in rows
        ]
