"""The customer: an endpoint that records every webhook it gets, and the check that none is missing (I11)."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import asyncpg
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.model.webhook_secret import new_secret, secret_text
from sluice.model.webhooks import WebhookType, event_id, webhook_type
from sluice.runtime.settings import read_key_file
from sluice.store import webhooks
from sluice.store.cancellation import REVOKED
from sluice.store.cipher import CredentialCipher
from sluice.store.projects import ProjectScope
from sluice.store.webhooks import EndpointSettings
from tests.chaos.cluster import Cluster
from tests.chaos.db_snapshot import DbSnapshot
from tests.chaos.ledgers import Ledger, now, read
from tests.chaos.oracle import Findings, Span

OF_MESSAGES = tuple(type_ for type_ in WebhookType if type_ is not WebhookType.PROVIDER_HEALTH_CHANGED)
WEBHOOKS = "webhooks.jsonl"
_FAILING = 0.05  # share of the requests that are answered with 500
_SENT_TYPES = sorted({type_.value for type_ in EventType if webhook_type(Channel.EMAIL, type_) is not None})

UNSENT = f"""
    SELECT count(*) FROM events e JOIN deliveries d ON d.id = e.delivery_id
     WHERE NOT d.sandbox AND e.type IN ({", ".join(f"'{name}'" for name in _SENT_TYPES)})
       AND NOT (e.type = 'read' AND d.channel = 'sms') AND e.detail <> '{REVOKED}'
       AND NOT EXISTS (SELECT FROM webhook_deliveries w WHERE w.delivery_id = e.delivery_id
                          AND w.sequence = e.sequence AND w.status = 'DELIVERED')
"""
"""The number of events that should have become a webhook and that the customer has not accepted yet."""


class _Server(threading.Thread):
    """The endpoint, in a thread of this process, which the nemesis does not kill."""

    def __init__(self, ledger: Ledger, secret: str) -> None:
        super().__init__(name="customer", daemon=True)
        self._ledger = ledger
        self._webhook = Webhook(secret)
        self._random = random.Random(7)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self.url = ""

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        self._loop.run_until_complete(self._serve())

    def wait(self) -> str:
        """The address, once the endpoint accepts connections."""
        if not self._ready.wait(30):
            raise RuntimeError("the customer's endpoint did not start")
        return self.url

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self.join(10)

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._receive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/gone":
            return web.Response(status=410)
        try:
            self._webhook.verify(body, dict(request.headers))
            valid = True
        except WebhookVerificationError:
            valid = False
        status = 500 if self._random.random() < _FAILING else 200
        self._ledger.write(id=request.headers.get("webhook-id"), valid=valid, status=status, body=body.decode())
        return web.Response(status=status)


@contextmanager
def customer(cluster: Cluster) -> Iterator[None]:
    """The endpoint of the cluster's project, for events of every type, while the block runs."""
    ledger, secret = cluster.ledger(WEBHOOKS), new_secret()
    server = _Server(ledger, secret_text(secret))
    server.start()
    try:
        cluster.customer_url = server.wait()
        asyncio.run(_configure(cluster, secret))
        yield
    finally:
        server.stop()
        ledger.close()


async def _configure(cluster: Cluster, secret: bytes) -> None:
    cipher = CredentialCipher(partial(read_key_file, cluster.key_file))
    connection = await asyncpg.connect(cluster.postgres)
    try:
        endpoint = await webhooks.create_endpoint(
            connection,
            ProjectScope(cluster.project.id, sandbox=False),
            EndpointSettings(url=f"{cluster.customer_url}/hook", events=OF_MESSAGES),
            limit=1,
            now=now(),
        )
        assert endpoint is not None
        await webhooks.add_secret(connection, cipher, endpoint, secret, older_expire_at=now())
    finally:
        await connection.close()


def check_webhooks(path: Path, snapshot: DbSnapshot, faults: Sequence[Span]) -> Findings:
    """Every event that an endpoint asks for was accepted by the customer: I11.

    No fault reaches the customer, and its own failures are fewer than the retries: an exhausted one is a fault, too.
    Every request had a valid signature, and one body for each id. Events that Kafka lost with its data before the
    event-worker read them are counted apart.
    """
    findings = Findings()
    bodies: dict[str, set[str]] = defaultdict(set)
    accepted: Counter[str] = Counter()
    for line in read(path):
        findings.counts["webhook_requests"] += 1
        bodies[line["id"]].add(line["body"])
        accepted[line["id"]] += line["status"] == 200
        if not line["valid"]:
            findings.add("I11", f"{line['id']}: the signature is wrong")
    for one, different in bodies.items():
        if len(different) > 1:
            findings.add("I11", f"{one}: {len(different)} bodies for one id")
    _check_events(findings, snapshot, accepted, faults)
    return findings


def _check_events(findings: Findings, snapshot: DbSnapshot, accepted: Counter[str], faults: Sequence[Span]) -> None:
    wipes = [fault.end for fault in faults if (fault.kind, fault.target) == ("wipe", "kafka")]
    statuses = {event_id(row["delivery_id"], row["sequence"]): row["status"] for row in snapshot.webhooks}
    for delivery in snapshot.by_id.values():
        for event in delivery.events:
            if delivery.sandbox or webhook_type(Channel(delivery.channel), EventType(event["type"])) is None:
                continue
            if event["detail"] == REVOKED:  # its sender got 503: there is no such message
                continue
            one = event_id(event["delivery_id"], event["sequence"])
            status = statuses.pop(one, None)
            findings.counts["webhooks"] += 1
            if status is None and any(event["occurred_at"] <= wiped for wiped in wipes):
                findings.counts["webhooks_of_wiped_events"] += 1
            elif status != "DELIVERED":
                findings.add("I11", f"{one}: the webhook is {status}")
            elif not accepted[one]:
                findings.add("I11", f"{one}: recorded as delivered, and the customer accepted none")
    for one in statuses:
        findings.add("I11", f"{one}: a webhook without an event")
