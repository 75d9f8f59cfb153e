"""The first provider refuses in each documented way, the second is healthy: every message is SENT through the second.

Router, worker, health monitor and database are the real ones, in one process; the providers are the simulator's. After
each refusal the first provider accepts again: an ordinary message shows whether the refusal counted against it.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from router.handler import RoutingHandler
from sluice.bus.messages import AttemptReport
from sluice.delivery.settings import WorkerPolicy
from sluice.delivery.settlement import SettlementWriter
from sluice.delivery.worker import Worker
from sluice.health.breaker import _PRIOR_RATE, HealthThresholds
from sluice.health.monitor import HealthMonitor
from sluice.model.message import Channel, DeliveryClass
from sluice.providers.kit.smtp_types import Phase
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice.transports.opening import open_transports
from sluice.transports.settings import TransportSettings
from sluice_cli.verification import verify
from sluice_simulator import Behaviour, EndpointScenario, Rule, Scenario, Simulator
from sluice_simulator.smtp_server import SmtpSettings
from tests.examples import a_message, a_provider, a_task, an_email, seconds
from tests.loopback import LOOPBACK_NETWORKS
from tests.polling import wait_until
from tests.services.fakes import FakePublisher, FakeRecord
from tests.services.test_worker import CIPHER, StubConfig
from tests.store.conftest import store_pool  # noqa: F401  (fixture)
from tests.transports.conftest import certificate  # noqa: F401  (fixture)
from tests.unit.providers.examples import an_sms

MESSAGES = 20
# No suspension and no pause before a probe ends within a test, however busy the machine is.
LASTING = HealthThresholds(default_throttle=3600.0, auth_suspension=3600.0, initial_backoff=3600.0, max_backoff=3600.0)
UNMOVED, UNHEALTHY, SUSPENDED = "unmoved", "unhealthy", "suspended"
GREETING, EHLO, AUTH = Phase.GREETING, Phase.EHLO, Phase.AUTH
MAIL, RCPT, DATA, DOT = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.END_OF_DATA


@dataclass(frozen=True)
class Refusal:
    """One way to refuse, and what it does to the health of the account."""

    dialect: str
    rule: Rule
    health: str
    credentials: dict[str, Any] = field(default_factory=dict)  # of the first account
    server: SmtpSettings = field(default_factory=SmtpSettings)  # the first one's capabilities
    content: dict[str, Any] = field(default_factory=dict)
    delivery_class: DeliveryClass = DeliveryClass.STANDARD
    secure: bool = False  # the first server has a certificate
    host: str = "127.0.0.1"  # of the first account, in the form of a URL

    def __str__(self) -> str:
        code = "".join(one if one.isalnum() else "-" for one in self.rule.code or self.rule.behaviour)
        return f"{self.dialect}-{self.rule.phase or 'response'}-{code[:60]}-{self.health}"


def smtp(phase: Phase, reply: str, health: str, **changes: Any) -> Refusal:
    return Refusal("smtp", Rule(behaviour=Behaviour.DECLINE, code=reply, phase=phase), health, **changes)


def login(reply: str, health: str) -> Refusal:
    account = {"auth": {"user": "u", "pass": "p"}, "tls": {"rejectUnauthorized": False}}
    return smtp(AUTH, reply, health, credentials=account, secure=True)


def capability(server: SmtpSettings, **content: Any) -> Refusal:
    return Refusal("smtp", Rule(), UNMOVED, server=server, content=content)


def resend(status: int, name: str, health: str, **changes: Any) -> Refusal:
    body = json.dumps({"statusCode": status, "name": name, "message": "In the provider's words."})
    return Refusal("resend", Rule(behaviour=Behaviour.DECLINE, code=f"{status} {body}"), health, **changes)


def twilio(status: int, code: int, health: str, **changes: Any) -> Refusal:
    body = json.dumps({"status": status, "code": code, "message": "In the provider's words."})
    return Refusal("twilio", Rule(behaviour=Behaviour.DECLINE, code=f"{status} {body}"), health, **changes)


URGENT = DeliveryClass.URGENT
NUMBER = {"from": "+15005550006"}
ENVELOPE_FROM = {"envelopeFrom": "bounces@example.com"}
SERVICE = {"messagingServiceSid": "MG" + "0" * 32}

SMTP = [
    # The server, its view of this client, and TLS.
    smtp(GREETING, "421 4.3.2 Service not available", UNHEALTHY),
    smtp(GREETING, "554 5.7.1 Service unavailable; client host [192.0.2.1] blocked using a list", UNHEALTHY),
    smtp(GREETING, "554 No SMTP service here", UNHEALTHY),
    smtp(GREETING, "421 4.7.0 Too many concurrent SMTP connections", SUSPENDED),
    smtp(EHLO, "504 5.5.2 <vm>: Helo command rejected: need fully-qualified hostname", UNHEALTHY),
    smtp(EHLO, "550 5.7.1 Helo command rejected: Host not found", UNHEALTHY),
    smtp(EHLO, "421 4.3.0 closing", UNHEALTHY),
    Refusal("smtp", Rule(), SUSPENDED, credentials={"requireTLS": True}),
    Refusal("smtp", Rule(), SUSPENDED, credentials={"requireTLS": True}, secure=True),
    # AUTH
    login("535 5.7.8 Authentication credentials invalid", SUSPENDED),
    login("535 Account not subscribed to SES", SUSPENDED),
    login("530 5.7.0 Authentication required", SUSPENDED),
    login("534 5.7.9 Mechanism too weak", SUSPENDED),
    login("538 5.7.11 Encryption required", SUSPENDED),
    login("432 4.7.12 A password transition is needed", SUSPENDED),
    login("451 Authentication failed: Maximum credits exceeded", SUSPENDED),
    login("454 4.7.0 Temporary authentication failure", UNHEALTHY),
    login("421 4.3.0 try later", UNHEALTHY),
    # MAIL
    smtp(MAIL, "550 5.7.1 Sender not allowed for this account", UNMOVED),
    smtp(MAIL, "553 5.7.1 <shop@example.com>: Sender address rejected: not owned by user", UNMOVED),
    smtp(MAIL, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", UNMOVED),
    smtp(MAIL, "553 5.1.8 Sender address rejected: Domain not found", UNMOVED),
    smtp(MAIL, "553 5.1.7 Bad sender syntax", UNMOVED),
    smtp(MAIL, "403 You are not authorized to send from that email address", UNMOVED),
    smtp(MAIL, "530 5.7.0 Must issue a STARTTLS command first", SUSPENDED),
    smtp(MAIL, "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied", UNHEALTHY),
    smtp(MAIL, "552 Message is too long.", UNMOVED),
    smtp(MAIL, "552 5.3.4 Message size exceeds fixed limit", UNMOVED),
    smtp(MAIL, "553 5.6.7 SMTPUTF8 is required", UNMOVED),
    smtp(MAIL, "555 5.5.4 Unsupported option: BODY=8BITMIME", UNMOVED),
    smtp(MAIL, "451 4.3.0 Temporary service failure", UNHEALTHY),
    smtp(MAIL, "452 4.3.1 Insufficient system storage", UNHEALTHY),
    smtp(MAIL, "450 4.7.1 slow down", SUSPENDED),
    capability(SmtpSettings(size=3000), text="x" * 9000),
    capability(SmtpSettings(utf8=False), to=("jörg@example.com",)),
    smtp(MAIL, "553 5.7.1 Sender address rejected: not owned by user", UNHEALTHY, credentials=ENVELOPE_FROM),
    # RCPT
    smtp(RCPT, "504 5.5.2 <vm>: Helo command rejected: need fully-qualified hostname", UNHEALTHY),
    smtp(RCPT, "554 5.7.1 Client host blocked using zen.spamhaus.org", UNHEALTHY),
    smtp(RCPT, "550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using Spamhaus", UNHEALTHY),
    smtp(RCPT, "550 5.7.1 Unfortunately, messages from [192.0.2.1] were not sent: part of their block list", UNHEALTHY),
    smtp(RCPT, "550 5.7.1 <shop@example.com>: Sender address rejected: not owned by user me", UNMOVED),
    smtp(RCPT, "550 5.7.26 Unauthenticated email is not accepted due to the domain's DMARC policy", UNMOVED),
    smtp(RCPT, "550 5.4.5 Daily user sending limit exceeded", UNHEALTHY),
    smtp(RCPT, "550 5.5.3 Too many recipients", UNMOVED),
    smtp(RCPT, "554 5.7.1 <ada@example.com>: Relay access denied", SUSPENDED),
    smtp(RCPT, "530 Authentication required", SUSPENDED),
    smtp(RCPT, "554 5.7.1 Recipient address rejected: policy", UNMOVED),
    smtp(RCPT, "521 5.3.2 The host does not accept mail", UNMOVED),
    smtp(RCPT, "450 4.2.0 <ada@example.com>: Recipient address rejected: Greylisted", UNMOVED),
    smtp(RCPT, "451 4.7.1 Greylisting in action, please come back later", UNMOVED),
    smtp(RCPT, "450 4.1.2 <ada@example.com>: Recipient address rejected: Domain not found", UNMOVED),
    smtp(RCPT, "452 4.5.3 Too many recipients", UNMOVED),
    smtp(RCPT, "452 4.2.2 The mailbox is over its quota", UNMOVED),
    smtp(RCPT, "452 4.3.1 Insufficient system storage", UNHEALTHY),
    smtp(RCPT, "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", SUSPENDED),
    smtp(RCPT, "550 Your IP address 192.0.2.1 is not allowed to send mail here", UNHEALTHY),
    smtp(RCPT, "550 Protocol violation: invalid command sequence", UNMOVED),
    # DATA and the final dot
    smtp(DOT, "452 4.2.2 Mailbox full", UNMOVED),
    smtp(DOT, "451 4.7.1 Greylisting in action, please come back later", UNMOVED),
    smtp(DATA, "554 5.5.1 No valid recipients", UNMOVED),
    smtp(DATA, "451 4.3.0 Temporary service failure", UNHEALTHY),
    smtp(DOT, "552 5.2.3 Message exceeds the administrative limit", UNMOVED),
    smtp(DOT, "554 5.3.4 Message too big for system", UNMOVED),
    smtp(DOT, "554 5.6.0 Malformed content", UNMOVED),
    smtp(DOT, "554 5.6.1 Media not supported", UNMOVED),
    smtp(DOT, "550 5.7.1 The content looks like spam", UNMOVED),
    smtp(DOT, "554 5.7.1 Message refused by policy", UNMOVED),
    smtp(DOT, "554 Message rejected: Email address is not verified.", UNMOVED),
    smtp(DOT, "554 Message rejected: Email address is not verified.", UNMOVED, credentials=ENVELOPE_FROM),
    smtp(DOT, "550 5.7.26 This mail has been blocked because the sender is unauthenticated", UNMOVED),
    smtp(DOT, "554 5.7.1 You have exceeded your daily sending limit", UNHEALTHY),
    smtp(DOT, "550 5.4.5 Daily user sending limit exceeded", UNHEALTHY),
    smtp(DOT, "554 Access denied: User is not authorized", SUSPENDED),
    smtp(DOT, "500 no", UNMOVED),
    smtp(DOT, "421 4.4.2 timeout", UNHEALTHY),
    smtp(DOT, "451 Temporary service failure", UNHEALTHY),
    smtp(DOT, "454 Temporary service failure", UNHEALTHY),
    smtp(DOT, "454 Throttling failure: Maximum sending rate exceeded.", SUSPENDED),
    smtp(DOT, "454 Throttling failure: Daily message quota exceeded.", SUSPENDED),
    smtp(DOT, "452 4.3.1 Insufficient system storage", UNHEALTHY),
]
RESEND = [
    resend(400, "validation_error", UNMOVED),
    resend(400, "invalid_idempotency_key", UNMOVED),
    resend(401, "missing_api_key", SUSPENDED),
    resend(401, "restricted_api_key", UNMOVED),
    resend(403, "invalid_api_key", SUSPENDED),
    resend(403, "suspended_api_key", SUSPENDED),
    resend(403, "invalid_permission", SUSPENDED),
    resend(403, "validation_error", UNMOVED),
    resend(403, "invalid_from_address", UNMOVED),
    resend(404, "not_found", SUSPENDED),
    resend(405, "method_not_allowed", SUSPENDED),
    resend(409, "concurrent_idempotent_requests", UNHEALTHY, delivery_class=URGENT),
    resend(413, "", UNMOVED),
    resend(422, "missing_required_field", UNMOVED),
    resend(422, "invalid_parameter", UNMOVED),
    resend(422, "invalid_attachment", UNMOVED),
    resend(422, "validation_error", UNMOVED),
    resend(422, "invalid_from_address", UNMOVED),
    resend(422, "invalid_access", SUSPENDED),
    resend(422, "invalid_region", SUSPENDED),
    resend(429, "rate_limit_exceeded", SUSPENDED),
    resend(429, "daily_quota_exceeded", SUSPENDED),
    resend(429, "monthly_quota_exceeded", SUSPENDED),
    resend(451, "security_error", UNMOVED),
    resend(500, "application_error", UNHEALTHY),
    resend(500, "internal_server_error", UNHEALTHY),
    resend(503, "service_unavailable", UNHEALTHY),
    resend(502, "bad_gateway", UNHEALTHY, delivery_class=URGENT),
]
TWILIO = [
    twilio(401, 20003, SUSPENDED),
    twilio(403, 20005, SUSPENDED),
    twilio(403, 20006, SUSPENDED),
    twilio(403, 20008, SUSPENDED),
    twilio(404, 20404, SUSPENDED),
    twilio(400, 21609, SUSPENDED),
    *(twilio(400, code, UNHEALTHY) for code in (10002, 21607, 21608, 21219)),
    *(twilio(400, code, UNMOVED) for code in (20001, 20422, 21602, 21604, 21618, 21620, 21624, 90007, 30045)),
    *(twilio(400, code, UNMOVED) for code in (21653, 21910, 21605, 21617, 21408, 21612)),
    twilio(405, 20004, UNMOVED),
    *(twilio(400, code, UNMOVED) for code in (21212, 21213, 21603, 21606, 21616, 21601, 21657, 21659, 21660)),
    *(twilio(400, code, UNHEALTHY, credentials=NUMBER) for code in (21212, 21606, 21659)),
    *(twilio(400, code, UNHEALTHY, credentials=SERVICE) for code in (21701, 21702, 21703, 21704, 21705)),
    *(twilio(400, code, UNMOVED) for code in (21708, 21709)),
    *(twilio(400, code, UNHEALTHY, credentials=SERVICE) for code in (21711, 21712)),
    twilio(429, 20429, SUSPENDED),
    twilio(429, 21611, UNMOVED),
    twilio(400, 14107, UNMOVED),
    twilio(410, 20410, UNHEALTHY),
    twilio(503, 20503, UNHEALTHY),
    twilio(500, 21619, UNHEALTHY),
    twilio(503, 21730, UNHEALTHY),
    twilio(500, 20500, UNHEALTHY, delivery_class=URGENT),
    twilio(409, 20409, UNHEALTHY, delivery_class=URGENT),
]
REFUSALS = [*SMTP, *RESEND, *TWILIO]


class Bus(FakePublisher):
    """A bus that hands each record on at once."""

    def __init__(self):
        super().__init__()
        self.consumers = {}
        self.tasks = TaskSet()

    def publish(self, topic, key, value, headers=None):
        if str(topic) in self.consumers:
            record = FakeRecord(value, topic=str(topic))
            self.tasks.spawn(self.consumers[str(topic)]([record]))
        return super().publish(topic, key, value, headers)


class Installation:
    """Two providers, a router, a worker and the health of the providers."""

    def __init__(self, store, refusal, stack, folder):
        self.store, self.refusal, self._stack, self._folder = store, refusal, stack, folder
        self.bus = Bus()
        self.health = {}
        self.monitor = HealthMonitor(LASTING)
        self.first = self.second = self.simulator = None

    async def start(self, context):
        refusal = self.refusal
        server = replace(refusal.server, tls=context) if refusal.secure else refusal.server
        endpoints = {"first": refusal.dialect, "second": refusal.dialect}
        self.simulator = await self._stack.enter_async_context(
            Simulator(endpoints=endpoints, smtp={"first": server, "second": SmtpSettings()}, log_dir=self._folder)
        )
        self.refuse(refusal.rule)
        self.first, self.second = self._provider("first", 1, refusal.credentials), self._provider("second", 2, {})
        config = StubConfig(self.first, self.second)
        limits = TransportSettings(outgoing_allow=LOOPBACK_NETWORKS, smtp_ehlo_name="test.example")
        transports = await self._stack.enter_async_context(open_transports(limits=limits))
        settlements = await self._stack.enter_async_context(SettlementWriter(self.store.worker, self.bus).running())
        policy = WorkerPolicy(provider_queue_timeout=0.3)
        worker = Worker(
            db=self.store.worker,
            config=config,
            cipher=CIPHER,
            transports=transports,
            publisher=self.bus,
            settlements=settlements,
            policy=policy,
            health=self.health,
        )
        await self._stack.enter_async_context(worker.running())
        routing = RoutingHandler(
            config=config, health=self.health, publisher=self.bus, settlements=settlements, policy=policy
        )
        self.bus.consumers = {
            "deliveries.reroute": routing.handle_batch,
            f"deliveries.{self.first.channel.value}": worker.handle_batch,
        }
        self._routing = routing

    def refuse(self, rule):
        """The first provider follows this rule from the next call on; its connections stay."""
        self.simulator.apply_scenario(Scenario(endpoints={"first": EndpointScenario.model_validate(rule.model_dump())}))

    def _provider(self, endpoint, priority, credentials):
        host = self.refusal.host if endpoint == "first" else "127.0.0.1"
        port = self.simulator.endpoints[endpoint].port
        url = f"http://{host}:{port}"
        fields = {
            "smtp": {"host": host, "port": port, "secure": False, "requireTLS": False},
            "resend": {"apiKey": "re_1", "baseUrl": url},
            "twilio": {"accountSid": "AC" + "0" * 32, "authToken": "t", "baseUrl": url},
        }[self.refusal.dialect]
        channel = Channel.SMS if self.refusal.dialect == "twilio" else Channel.EMAIL
        row = a_provider(priority, package=f"provider-{self.refusal.dialect}", channel=channel, name=endpoint)
        text = json.dumps(fields | credentials).encode()
        return replace(row, encrypted_credentials=CIPHER.encrypt(text, project_id=row.project_id, provider_id=row.id))

    async def send(self, count, **content):
        """Send messages; once they are settled, the health service has seen their attempts."""
        messages = [self._message(content) for _ in range(count)]
        await self.store.accept(*messages)
        tasks = [
            a_task(
                delivery_id=message.deliveries[0].id,
                message_id=message.id,
                channel=message.channel,
                delivery_class=message.delivery_class,
                enqueued_at=message.created_at,
                expires_at=message.expires_at,
            )
            for message in messages
        ]
        seen = len(self.bus.on("delivery.events"))
        await self._routing.handle_batch([FakeRecord(task.encode()) for task in tasks])
        ids = [task.delivery_id for task in tasks]
        await wait_until(lambda: self._settled(ids))
        await wait_until(lambda: self._final_events(seen) >= count)
        reports = [AttemptReport.model_validate_json(value) for value in self.bus.on("delivery.events")[seen:]]
        self.monitor.record_attempts(reports, utc_now())
        return ids

    async def _settled(self, ids):
        query = "SELECT count(*) FROM deliveries WHERE id = ANY($1) AND state IN ('QUEUED', 'SENDING')"
        return await self.store.pool.fetchval(query, ids) == 0

    def _final_events(self, seen):
        events = [json.loads(value) for value in self.bus.on("delivery.events")[seen:]]
        return sum(event["type"] in ("sent", "failed") for event in events)

    def _message(self, content):
        now = utc_now()
        sms = self.first.channel is Channel.SMS
        body = an_sms(**content) if sms else an_email(**content)
        return a_message(
            now,
            to=("+4915112345678",) if sms else ("ada@example.com",),
            channel=self.first.channel,
            content=body.model_dump_json(),
            delivery_class=self.refusal.delivery_class,
            expires_at=now + seconds(3600),
        )

    async def providers_of(self, ids):
        """State and provider of each delivery."""
        query = "SELECT state, provider_id FROM deliveries WHERE id = ANY($1)"
        names = {self.first.id: "first", self.second.id: "second"}
        return {(row["state"], names[row["provider_id"]]) for row in await self.store.pool.fetch(query, ids)}

    def apply_health(self):
        """The router and the worker see the statuses that the health service would publish."""
        self.health.update({one.provider_id: one for one in self.monitor.statuses(utc_now())})

    @property
    def first_health(self):
        found = {one.provider_id: one for one in self.monitor.statuses(utc_now())}
        health = found.get(self.first.id)
        if health is None:
            return UNMOVED
        if health.suspended_until is not None and health.suspended_until > utc_now():
            return SUSPENDED
        if health.error_rate == _PRIOR_RATE:  # what a provider without evidence has
            return UNMOVED
        return UNHEALTHY if health.status == "unhealthy" else health.status


@pytest.fixture
async def make_installation(store, certificate, tmp_path):  # noqa: F811
    async with AsyncExitStack() as stack:

        async def make(refusal):
            installation = Installation(store, refusal, stack, tmp_path)
            await installation.start(certificate.context)
            return installation

        yield make
    report = await verify(
        store.operator,
        now=utc_now(),
        at_rest=True,
        grace=seconds(60),
        call_logs=[tmp_path / "calls.jsonl"],
        progress=lambda _: None,
    )
    assert report.faults == []


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
async def test_f2_f3_f5_whatever_the_first_provider_refuses_the_second_one_sends(make_installation, refusal):
    installation = await make_installation(refusal)

    sent = await installation.send(MESSAGES, **refusal.content)

    assert await installation.providers_of(sent) == {("SENT", "second")}
    assert installation.first_health == refusal.health

    installation.refuse(Rule())
    installation.apply_health()
    ordinary = await installation.send(1)

    takes = "first" if refusal.health == UNMOVED else "second"
    assert await installation.providers_of(ordinary) == {("SENT", takes)}


# The form is no address of LOOPBACK_NETWORKS; the first server would see a connection to it.
@pytest.mark.parametrize("dialect", ["smtp", "resend", "twilio"])
async def test_an_account_at_an_address_that_is_not_allowed_is_suspended_and_the_next_one_sends(
    make_installation, dialect
):
    installation = await make_installation(Refusal(dialect, Rule(), SUSPENDED, host="[::ffff:127.0.0.1]"))

    sent = await installation.send(MESSAGES)

    assert await installation.providers_of(sent) == {("SENT", "second")}
    assert installation.first_health == SUSPENDED
    assert {call["endpoint"] for call in installation.simulator.calls} == {"second"}
    events = [json.loads(value) for value in installation.bus.on("delivery.events")]
    failed = [event["detail"] for event in events if event["type"] == "attempt_failed"]
    assert len(failed) == MESSAGES
    assert all("SLUICE_OUTGOING_ALLOW does not allow it" in detail for detail in failed)
