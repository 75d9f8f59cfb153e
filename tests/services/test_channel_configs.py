"""Channel configurations: what a disabled group refuses, in every API."""

import pytest

from sluice.model.channel_group import ChannelGroup
from sluice.model.message import Channel
from sluice.store import channel_configs
from sluice.store.channel_configs import ChannelConfig
from tests.examples import NOON, a_body, as_json
from tests.polling import wait_until
from tests.services import test_bulk
from tests.services.test_gateway import error_of

SMS = {"channel": "sms", "from": "Shop", "to": ["+14155551234"], "text": "Your code is 483921"}


async def configure(gateway, group, *, enabled):
    """A configuration of the first project, as it counts at the gateway."""
    project_id = await gateway.pool.fetchval("SELECT id FROM projects")
    channel = group.channels[0]
    config = ChannelConfig(project_id, group, enabled, None, None, created_at=NOON, updated_at=NOON)
    if not await channel_configs.create_config(gateway.pool, config):
        await channel_configs.update_config(gateway.pool, config)
    await wait_until(lambda: gateway.config.channel_config(project_id, channel) == config)


async def test_a_disabled_group_refuses_new_messages_of_its_channels_only(gateway):
    await configure(gateway, ChannelGroup.EMAIL, enabled=False)

    refused = await gateway.post()
    sms = await gateway.post(as_json(SMS))

    error = error_of(refused, 409, "CHANNEL_DISABLED")
    assert "email-config" in error["message"]
    assert sms.status_code == 201
    assert await gateway.count() == 1


async def test_a_group_that_is_enabled_again_sends(gateway):
    await configure(gateway, ChannelGroup.EMAIL, enabled=False)
    await configure(gateway, ChannelGroup.EMAIL, enabled=True)

    assert (await gateway.post()).status_code == 201


async def test_a_repeat_of_an_accepted_request_gets_the_first_answer_while_the_group_is_disabled(gateway):
    first = await gateway.post(idempotency_key="order-7")
    await configure(gateway, ChannelGroup.EMAIL, enabled=False)

    again = await gateway.post(idempotency_key="order-7")
    other = await gateway.post(idempotency_key="order-8")

    assert (again.status_code, again.json()["id"]) == (first.status_code, first.json()["id"])
    error_of(other, 409, "CHANNEL_DISABLED")


async def test_in_a_batch_only_the_messages_of_the_disabled_group_are_refused(gateway):
    await configure(gateway, ChannelGroup.MESSAGE, enabled=False)

    answer = await gateway.ask("POST", "/v1/messages/batch", json={"messages": [a_body(), SMS]})

    mail, sms = answer.json()["data"]
    assert mail["id"].startswith("msg_")
    assert sms["error"]["code"] == "CHANNEL_DISABLED"


async def test_the_rows_of_a_bulk_job_are_refused_while_the_group_is_disabled(gateway):
    await configure(gateway, ChannelGroup.MESSAGE, enabled=False)
    created = await test_bulk.upload(gateway, test_bulk.SMS, test_bulk.numbers(2))

    done = await test_bulk.finished(gateway, created.json())

    assert (done["accepted"], done["rejected"]) == (0, 2)
    errors = {row["error"]["code"] for row in await test_bulk.results_of(gateway, created.json())}
    assert errors == {"CHANNEL_DISABLED"}


@pytest.mark.parametrize("group", ChannelGroup)
def test_every_channel_belongs_to_one_group(group):
    assert set(group.channels) <= set(Channel)
    assert sorted(channel for one in ChannelGroup for channel in one.channels) == sorted(Channel)
