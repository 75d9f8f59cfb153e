"""The SMPP link of a worker on real PostgreSQL, against an SMSC of another project in a process of its own."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from sluice.delivery.smpp_link import SmppLink, open_smpp_link
from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.outcome import AuthFailed, Declined, ProviderFault, RecipientRejected, Throttled
from sluice.providers.adapters.messagepipe import SMPP_LINK, SmppLinkCredentials
from sluice.providers.contract import TransportKind
from sluice.providers.kit.smpp_status import RX_T_APPN, StatusClass
from sluice.providers.sms_link import SmsLinkSettings
from sluice.store.bind_slots import try_slot
from sluice.transports.provider_call import call_provider
from sluice.transports.smpp.contract import Accepted, Refused
from tests.examples import PROJECT, PROVIDER, a_claim, a_message, a_transition
from tests.polling import wait_until
from tests.store.harness import SENT
from tests.transports.smpp.smsc_process import open_smsc
from tests.unit.providers.examples import an_sms, outbound

NUMBER = "+2348012345678"


def link_settings(port, **changes):
    fields = {"kind": "smpp", "host": "127.0.0.1", "port": port, "system_id": "acme", "password": "secret"}
    fields |= {"reconnect_delay": 0.01} | changes
    return SmsLinkSettings.model_validate({f"sms_link_{name}": value for name, value in fields.items()})


class Harness:
    """A link, its SMSC and its database."""

    def __init__(self, store, link, other):
        self.store, self.link, self.other = store, link, other

    async def call(self, content=None, **changes):
        changes = {"recipient": NUMBER} | changes
        message = outbound(content or an_sms(sender="ACME"), **changes)
        transports = {TransportKind.SMPP: self.link.transport}
        return await call_provider(SMPP_LINK, message, SmppLinkCredentials(), transports, deadline=20)

    async def sent(self, *receipt_ids, recipient=NUMBER):
        """The id of a delivery that the link sent under these ids."""
        message = a_message(channel=Channel.SMS, to=(recipient,))
        await self.store.accept(message)
        delivery_id = message.deliveries[0].id
        await self.store.claim(a_claim(delivery_id))
        await self.store.transition(a_transition(delivery_id, SENT, provider_id=PROVIDER, receipt_ids=receipt_ids))
        return delivery_id

    async def deliver(self, text, **fields):
        """The command_status with which a receipt was answered."""
        self.other.order("deliver", {"short_message": text.encode().hex(), "esm_class": 4} | fields)
        return await self.other.event("delivered")


@asynccontextmanager
async def open_link(store, bus, dsn, settings):
    async with open_smpp_link(settings, dsn, store.worker, bus) as link:
        yield link


@pytest.fixture
async def account(store):
    """The row of a provider with the built-in package."""
    await store.pool.execute("INSERT INTO organizations VALUES ($1, 'o', now())", PROJECT)
    await store.pool.execute(
        "INSERT INTO projects (id, organization_id, slug, name, created_at) VALUES ($1, $1, 'p', 'p', now())", PROJECT
    )
    await store.pool.execute(
        """
        INSERT INTO providers (id, project_id, package, channel, name, priority, enabled, encrypted_credentials,
                               settings, created_at, updated_at)
        VALUES ($1, $2, 'provider-messagepipe', 'sms', 'sms', 1, true, '', '{}', now(), now())
        """,
        PROVIDER,
        PROJECT,
    )


@pytest.fixture
async def smsc():
    async with open_smsc() as found:
        yield found


@pytest.fixture
async def harness(store, bus, store_database, account, smsc):
    other, port = smsc
    async with open_link(store, bus, store_database, link_settings(port)) as link:
        await wait_until(lambda: link.ready)
        yield Harness(store, link, other)


async def test_a_text_is_sent_and_its_receipt_moves_it_to_delivered(harness, bus):
    outcome = await harness.call()
    assert (outcome.provider_message_id, outcome.receipt_ids) == ("00000001", ("1",))
    delivery_id = await harness.sent(*outcome.receipt_ids)

    assert await harness.deliver("id:00000001 stat:DELIVRD err:000 text:Hello") == 0

    assert await harness.store.state(delivery_id) == "DELIVERED"
    assert len(bus.on("delivery.events")) == 1
    assert await harness.deliver("id:00000001 stat:DELIVRD err:000 text:Hello") == 0
    assert len(bus.on("delivery.events")) == 1


async def test_a_long_text_is_delivered_when_all_its_parts_are(harness):
    outcome = await harness.call(an_sms(sender="ACME", text="Привет 😀 " * 20))
    assert outcome.receipt_ids == ("1", "2", "3")
    delivery_id = await harness.sent(*outcome.receipt_ids)

    for part in ("00000003", "00000001", "00000001"):
        assert await harness.deliver(f"id:{part} stat:DELIVRD") == 0
        assert await harness.store.state(delivery_id) == "SENT"
    await harness.deliver("id:00000002 stat:DELIVRD")

    assert await harness.store.state(delivery_id) == "DELIVERED"


async def test_a_long_text_fails_with_one_of_its_parts(harness):
    delivery_id = await harness.sent("1", "2")

    await harness.deliver("id:1 stat:DELIVRD")
    await harness.deliver("id:2 stat:UNDELIV err:069")

    assert await harness.store.state(delivery_id) == "FAILED"


@pytest.mark.parametrize(
    ("stat", "tlvs", "state"),
    [
        ("ENROUTE", [], "SENT"),
        ("ACCEPTD", [], "SENT"),
        ("EXPIRED", [], "SOFT_BOUNCE"),
        ("DELETED", [], "FAILED"),
        ("UNDELIV", [], "FAILED"),
        ("UNDELIV", [[0x0425, "01"]], "BOUNCED"),
        ("UNDELIV", [[0x0425, "02"]], "BOUNCED"),
        ("UNDELIV", [[0x0425, "03"]], "FAILED"),
        ("UNKNOWN", [], "SOFT_BOUNCE"),
        ("REJECTD", [], "FAILED"),
        ("FAILED", [], "FAILED"),
        ("REJECTD", [[0x0427, "02"]], "DELIVERED"),  # the TLV wins
    ],
)
async def test_every_state_of_a_receipt(harness, stat, tlvs, state):
    delivery_id = await harness.sent("7B")

    assert await harness.deliver(f"id:7b stat:{stat} err:0A1", tlvs=tlvs) == 0

    assert await harness.store.state(delivery_id) == state


@pytest.mark.parametrize(
    ("form", "sent", "received"),
    [("resp_hex_dlr_dec", "7B", "123"), ("resp_dec_dlr_hex", "123", "7b"), ("asis", "A-00f", "a-00F")],
)
async def test_ids_in_other_bases_are_the_same(store, bus, store_database, account, smsc, form, sent, received):
    other, port = smsc
    async with open_link(store, bus, store_database, link_settings(port, message_id_format=form)) as link:
        await wait_until(lambda: link.ready)
        harness = Harness(store, link, other)
        delivery_id = await harness.sent(*link.transport.receipt_ids((sent,)))

        assert await harness.deliver(f"id:{received} stat:DELIVRD") == 0

        assert await store.state(delivery_id) == "DELIVERED"


async def test_a_receipt_that_overtakes_its_response_is_kept_until_the_attempt_is_written(harness):
    receipt = asyncio.create_task(harness.deliver("id:9 stat:DELIVRD"))
    await asyncio.sleep(0.3)
    delivery_id = await harness.sent("9")

    assert await receipt == 0
    assert await harness.store.state(delivery_id) == "DELIVERED"


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "id:4711 stat:DELIVRD"},  # no message of ours
        {"text": "id:9 stat:DELIVRD", "source_addr": "2348099999999"},  # an id that was used again
        {"text": "id:' OR 1=1 stat:DELIVRD"},
    ],
)
async def test_a_receipt_of_no_message_is_refused_for_now_and_changes_nothing(harness, fields, monkeypatch):
    monkeypatch.setattr("sluice.delivery.session_receipts._LOCATE_PAUSES", (0.01,))
    delivery_id = await harness.sent("9")

    assert await harness.deliver(**fields) == RX_T_APPN

    assert await harness.store.state(delivery_id) == "SENT"


@pytest.mark.parametrize("text", ["", "id:9", "stat:DELIVRD", "id: stat:DELIVRD", "id:9 stat:NOSUCH", "\x00\xff" * 60])
async def test_an_unreadable_receipt_is_acknowledged_and_changes_nothing(harness, text):
    delivery_id = await harness.sent("9")

    assert await harness.deliver(text) == 0

    assert await harness.store.state(delivery_id) == "SENT"


async def test_an_inbound_message_that_looks_like_a_receipt_is_none(harness):
    delivery_id = await harness.sent("9")

    assert await harness.deliver("id:9 stat:DELIVRD", esm_class=0) == 0

    assert await harness.store.state(delivery_id) == "SENT"


async def test_a_receipt_for_a_national_number_fits(harness):
    delivery_id = await harness.sent("9")

    assert await harness.deliver("id:9 stat:DELIVRD", source_addr="08012345678") == 0

    assert await harness.store.state(delivery_id) == "DELIVERED"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(0x58, Throttled), (0x0B, RecipientRejected), (0x01, Declined), (0x0F, AuthFailed), (0x08, ProviderFault)],
)
async def test_a_refusal_is_its_outcome(harness, status, kind):
    await harness.other.prepare(status)

    assert isinstance(await harness.call(), kind)


@pytest.mark.parametrize(
    "content", [an_sms(sender="x" * 30), an_sms(sender="é"), an_sms(sender="A", text="x" * 50_000)]
)
async def test_a_message_that_does_not_fit_is_declined_and_not_sent(harness, content):
    assert isinstance(await harness.call(content), Declined)
    await harness.call()

    (first,) = await harness.other.submits(1)
    assert first["source_addr"] == "ACME"


async def test_a_late_acceptance_is_recorded_with_its_ids(harness):
    message = a_message(channel=Channel.SMS, to=(NUMBER,))
    await harness.store.accept(message)
    delivery_id = message.deliveries[0].id
    await harness.store.claim(a_claim(delivery_id))
    await harness.store.transition(a_transition(delivery_id, "attempt_failed", provider_id=PROVIDER, unknown=True))
    reference = ids.attempt_reference(delivery_id, 1)
    session = harness.link.transport.session

    await session._handler.late_answer(reference, Accepted(("0000000A",)))

    assert await harness.store.state(delivery_id) == "SENT"
    assert [one["provider_message_id"] for one in await harness.store.attempts(delivery_id)] == ["0000000A"]
    assert await harness.deliver("id:0000000A stat:DELIVRD") == 0
    assert await harness.store.state(delivery_id) == "DELIVERED"


async def test_a_late_refusal_makes_the_delivery_due(harness):
    message = a_message(channel=Channel.SMS, to=(NUMBER,))
    await harness.store.accept(message)
    delivery_id = message.deliveries[0].id
    await harness.store.claim(a_claim(delivery_id))
    await harness.store.transition(a_transition(delivery_id, "attempt_failed", provider_id=PROVIDER, unknown=True))

    late = Refused(0x58, StatusClass.THROTTLED)
    await harness.link.transport.session._handler.late_answer(ids.attempt_reference(delivery_id, 1), late)

    assert await harness.store.state(delivery_id) == "SENDING"
    assert (await harness.store.pending(delivery_id))["due_at"] is not None


async def test_a_link_without_a_bind_sends_nothing(store_database):
    link = SmppLink(link_settings(1), store_database)

    outcome = await Harness(None, link, None).call()

    assert isinstance(outcome, ProviderFault)
    assert "holds no bind" in outcome.detail


async def test_two_workers_share_the_limit_of_binds(store, bus, store_database, account, smsc):
    other, port = smsc
    settings = link_settings(port, binds=1)
    async with open_link(store, bus, store_database, settings) as second_stays:
        await wait_until(lambda: second_stays.ready)
        await other.event("bound")
        async with AsyncExitStack() as first:
            link = await first.enter_async_context(open_link(store, bus, store_database, settings))
            await asyncio.sleep(1.5)  # more than one try for a slot
            assert not link.ready
            assert link.transport.session is None
    async with open_link(store, bus, store_database, settings) as next_one:
        await wait_until(lambda: next_one.ready)
        await other.event("bound")


async def test_a_worker_that_loses_its_database_connection_unbinds_and_binds_again(harness):
    await harness.other.event("bound")
    ended = await harness.store.pool.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'sluice-slot'"
    )
    assert ended == 1

    await harness.other.event("unbound")
    await harness.other.event("bound")
    await wait_until(lambda: harness.link.ready)
    assert (await harness.call()).provider_message_id


async def test_slots_are_numbered_and_bounded(store_database):
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(try_slot(store_database, name="n", slots=2)) for _ in range(3)]
        other_name = await stack.enter_async_context(try_slot(store_database, name="m", slots=1))

    assert [slot.number if slot else None for slot in held] == [1, 2, None]
    assert other_name is not None
