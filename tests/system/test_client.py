"""The client of the API, both forms, on the running system."""

import asyncio
from datetime import timedelta

import pytest
from sluice.client import AsyncSluice, AuthenticationError, ConflictError, InvalidRequestError, NotFoundError, Sluice

from sluice.runtime.clock import utc_now
from tests.polling import wait_until
from tests.system.testbed import smtp_at

MAIL = {
    "channel": "email",
    "from_": "shop@example.com",
    "to": ["ada@example.com"],
    "subject": "Hello",
    "text": "Hello.",
}


@pytest.fixture
def address(testbed):
    return testbed.system.addresses["gateway"]


async def test_a_message_is_sent_read_and_not_sent_twice(testbed, fake_provider, address):
    async with AsyncSluice(testbed.key, base_url=address) as sluice:
        first = await sluice.messages.send(idempotency_key="order-1", **MAIL)
        again = await sluice.messages.send(idempotency_key="order-1", **MAIL)
        assert first["id"] == again["id"]

        async def sent():
            message = await sluice.messages.get(first["id"])
            return message if message["status"] == "SENT" else None

        message = await wait_until(sent, 30)
        with pytest.raises(ConflictError) as caught:
            await sluice.messages.cancel(first["id"])

    assert message["provider"]["name"] == "simulator"
    assert caught.value.code == "MESSAGE_NOT_CANCELLABLE"
    assert len(fake_provider.calls) == 1


async def test_the_synchronous_client_cancels_and_names_what_is_wrong(testbed, address):
    await testbed.add_provider("mailbox", smtp_at("127.0.0.1", 1))

    def ask():
        with Sluice(testbed.key, base_url=address) as sluice:
            later = sluice.messages.send(**MAIL, send_at=(utc_now() + timedelta(days=1)).isoformat())
            assert sluice.messages.cancel(later["id"])["status"] == "CANCELLED"
            with pytest.raises(InvalidRequestError) as wrong:
                sluice.messages.send(**{**MAIL, "to": ["ada"]})
            with pytest.raises(NotFoundError):
                sluice.messages.get("msg_00000000000000000000000000")
        with Sluice("sp_live_wrong", base_url=address) as sluice, pytest.raises(AuthenticationError):
            sluice.messages.get(later["id"])
        return wrong.value

    error = await asyncio.to_thread(ask)
    assert (error.code, error.field) == ("VALIDATION_ERROR", "to.0")
