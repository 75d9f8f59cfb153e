"""Sends generated requests to a gateway by every kind of caller, and collects what is wrong with the answers."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import httpx
from argon2 import PasswordHasher

from gateway.openapi import document
from sluice.runtime.clock import utc_now
from sluice.store import api_keys, projects, sessions, users
from tests.fuzz.openapi_requests import CREDENTIALS, FORBIDDEN_BODY, Attempt, RequestSource
from tests.services import openapi_check
from tests.services.people import PASSWORD, a_person

Headers = dict[str, str]
_PASSWORD_HASH = PasswordHasher(memory_cost=64, time_cost=1, parallelism=1).hash(PASSWORD)  # quickly checked


@dataclass
class Findings:
    """What the answers were: how many of each status, by operation.

    ``faults``: each kind of fault of an operation, with its first request. ``report`` is called with each new kind.
    """

    requests: int = 0
    operations: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    faults: dict[str, str] = field(default_factory=dict)
    report: Callable[[str], None] = lambda _: None

    @property
    def statuses(self) -> Counter[int]:
        """Of all operations."""
        return sum(self.operations.values(), start=Counter())

    def fault(self, attempt: Attempt, answer: httpx.Response | None, text: str) -> None:
        request = attempt.request
        got = "" if answer is None else f"\n  {answer.status_code} {answer.text[:500]}"
        name = f"{attempt.operation}, {attempt.kind}: {text.splitlines()[0][:200]}"
        url = f"{request.url.raw_path.decode('latin-1')[:500]}"
        if name not in self.faults:
            self.faults[name] = f"{request.method} {url}\n  {request.content[:1000]!r}{got}"
            self.report(f"{name}\n  {self.faults[name]}")


class ApiFuzzer:
    """Fuzzes one API of the gateway behind ``client``; ``pool``: its database, for the owner."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        pool: Any,
        *,
        number: int = 0,
        api: str = "v1",
        findings: Findings | None = None,
    ) -> None:
        self._client, self._pool, self._api = client, pool, api
        self.source = RequestSource(document(api), number)
        self.findings = Findings() if findings is None else findings
        self._person: Any = None
        self._sign_ins = 0

    async def round(self, number: int, each: int, progress: Callable[[str], None] = lambda _: None) -> None:
        """Every example once, then ``each`` allowed and ``each`` forbidden requests of every operation."""
        callers = await self._new_callers(number)
        for attempt in self.source.examples():
            await self._send(attempt, {"person": callers["person"]})
        operation = None
        async for attempt in self.source.round(number, each):
            if attempt.operation != operation:
                callers["person"] = await self._new_session()
                operation = attempt.operation
            await self._send(attempt, callers)
        progress(f"round {number}: {self.findings.requests} requests, {len(self.findings.faults)} faults")

    async def seeds(self, chosen: Callable[[httpx.Request], bool] = lambda _: True) -> None:
        """Every seed in every field, or the chosen ones, by a person."""
        person = {"person": (await self._new_callers(-1))["person"]}
        for attempt in self.source.seeds():
            if chosen(attempt.request):
                await self._send(attempt, person)

    async def _new_callers(self, number: int) -> dict[str, Headers]:
        """A project ``shop`` of which they are, whatever became of the last one."""
        await self._pool.execute(
            "UPDATE projects SET slug = $1 WHERE slug = 'shop'", f"shop-before-{number}-{self._api}"
        )
        owner = SimpleNamespace(pool=self._pool, client=self._client, accounts=None)
        self._person = (await a_person(owner, f"fuzz{number}-{self._api}@example.com", shop="owner")).user
        project = await projects.find_project_by_slug(self._pool, "shop")
        assert project is not None
        self.source.own = {"slug": "shop"} if self._api == "v1" else {"projectId": str(project.id)}
        keys = [
            await api_keys.create_key(self._pool, project.id, name="fuzz", is_test=is_test, now=utc_now())
            for is_test in (False, True)
        ]
        header = "x-sendpipe-key" if self._api == "v1" else "x-api-key"
        return {
            "person": await self._new_session(),
            "key": {header: keys[0]},
            "test key": {header: keys[1]},
            "none": {},
        }

    async def _new_session(self) -> Headers:
        """Of the person: requests of the last operation may have ended it."""
        if self._api == "project":
            return await self._sign_in()
        token, _, _ = await sessions.create_session(
            self._pool, self._person.id, address=None, user_agent=None, now=utc_now()
        )
        return {"authorization": f"Bearer {token}", "x-sendpipe-project": "shop"}

    async def _sign_in(self) -> Headers:
        """An access token is signed by the gateway only."""
        await users.set_password(self._pool, self._person.id, _PASSWORD_HASH)
        body = {"email": self._person.email, "password": PASSWORD}
        self._sign_ins += 1
        address = f"10.1.{self._sign_ins // 250 % 250}.{self._sign_ins % 250}"
        answer = await self._client.post("/auth/signin", json=body, headers={"x-forwarded-for": address})
        return {"authorization": f"Bearer {answer.raise_for_status().json()['accessToken']}"}

    async def _send(self, attempt: Attempt, callers: Mapping[str, Headers]) -> None:
        """Send a request by one of the callers in turn, and check its answer."""
        caller, credentials = list(callers.items())[self.findings.requests % len(callers)]
        attempt = replace(attempt, kind=f"{attempt.kind} by {caller}", request=self._by(attempt.request, credentials))
        self.findings.requests += 1
        try:
            answer = await self._client.send(attempt.request, stream=True)
        except httpx.TransportError as error:
            self.findings.fault(attempt, None, f"no answer: {type(error).__name__}: {error}")
            return
        try:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                self.findings.operations[attempt.operation][answer.status_code] += 1
                return  # it does not end
            await answer.aread()
            self._check(attempt, answer)
        finally:
            await answer.aclose()

    def _by(self, request: httpx.Request, credentials: Headers) -> httpx.Request:
        """The request with these credentials, those that were generated if there are none, from a new address."""
        kept = [
            (name, value)
            for name, value in request.headers.raw
            if not credentials or name.decode("latin-1").lower() not in CREDENTIALS
        ]
        address = f"10.0.{self.findings.requests // 250 % 250}.{self.findings.requests % 250}"
        own = {**credentials, "x-forwarded-for": address}
        return httpx.Request(
            request.method,
            self._client.base_url.join(request.url.raw_path.decode("latin-1")),
            headers=[*kept, *((name.encode(), value.encode()) for name, value in own.items())],
            content=request.content,
        )

    def _check(self, attempt: Attempt, answer: httpx.Response) -> None:
        self.findings.operations[attempt.operation][answer.status_code] += 1
        self.source.learn(answer.text, attempt.operation)
        if answer.status_code == 414:  # of the HTTP server; no route has seen the request
            return
        if answer.status_code >= 500:
            self.findings.fault(attempt, answer, f"{answer.status_code}")
            return
        try:
            openapi_check.check(answer, self._api)
        except Exception as error:
            self.findings.fault(attempt, answer, f"{type(error).__name__}: {error}")
        if attempt.kind.startswith(FORBIDDEN_BODY) and answer.status_code < 300 and not _has_errors(answer):
            self.findings.fault(attempt, answer, "it was accepted")


def _has_errors(answer: httpx.Response) -> bool:
    """Whether it is that to a batch, some messages of which were refused."""
    items = answer.json().get("data", [])
    return any(isinstance(item, dict) and "error" in item for item in items)
