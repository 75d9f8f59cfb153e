"""F12: an operator can match the members of a group with the log lines of their processes."""

import os
import socket

from tests.bus.bus import Handler, consuming
from tests.polling import wait_until


async def client_ids(admin, group):
    (response,) = await admin.describe_consumer_groups([group])
    ((_, _, _, _, _, members, *_),) = response.groups
    return [member[1] for member in members]


async def test_f12_a_member_of_a_group_has_the_instance_of_its_log_lines(kafka_bootstrap, admin, topic, group):
    async with consuming(kafka_bootstrap, topic, group, Handler()):
        found = await wait_until(lambda: client_ids(admin, group))

    assert found == [f"sluice-{group}@{socket.gethostname()}:{os.getpid()}"]
