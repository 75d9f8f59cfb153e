"""An event-worker that is killed while it sends a webhook: the webhook is sent again with its id, and never lost."""

import base64
import os
import sys
from asyncio.subprocess import create_subprocess_exec

import pytest

from sluice.store.logins import EVENT_WORKER
from tests.engine import as_login
from tests.loopback import LOOPBACK_NETWORKS
from tests.polling import wait_until
from tests.services.test_webhooks import endpoint, hooks, verified  # noqa: F401  (fixtures)

KILLED = 137


@pytest.mark.parametrize(
    ("point", "requests"),
    [("webhook.claimed", 1), ("webhook.before_call", 1), ("webhook.answered", 2), ("webhook.recorded", 1)],
)
async def test_a_killed_process_loses_no_webhook(hooks, endpoint, store_database, tmp_path, point, requests):  # noqa: F811
    """``requests``: how many the customer gets: two if the first was answered and not recorded."""
    hook = await hooks.create()
    await hooks.event()
    armed = tmp_path / "failpoint"
    armed.write_text(f"{point}:1")
    environment = {
        **os.environ,
        "SLUICE_POSTGRES_DSN": as_login(store_database, EVENT_WORKER),
        "SLUICE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "SLUICE_ENCRYPTION_KEY": base64.b64encode(bytes(32)).decode(),
        "SLUICE_OUTGOING_ALLOW": LOOPBACK_NETWORKS,
        "SLUICE_FAILPOINTS_FILE": str(armed),
        "SLUICE_WEBHOOK_POLL_INTERVAL": "0.5",
    }

    async def start(*, timeout, lease):
        limits = {"SLUICE_WEBHOOK_TIMEOUT": str(timeout), "SLUICE_WEBHOOK_LEASE": str(lease)}
        arguments = (sys.executable, "-m", "tests.services.webhook_process")
        return await create_subprocess_exec(*arguments, env=environment | limits)

    first = await start(timeout=1, lease=2)
    assert await first.wait() == KILLED
    second = await start(timeout=30, lease=60)  # a call that a busy machine delays is no second request
    try:
        await hooks.settled(hook)
        await wait_until(lambda: len(endpoint.received) >= requests)
    finally:
        second.kill()
        await second.wait()

    (recorded,) = await hooks.settled(hook)
    assert recorded["status"] == "DELIVERED"
    assert len(endpoint.received) == requests
    assert {request.id for request in endpoint.received} == {recorded["event_id"]}
    for request in endpoint.received:
        verified(request, hook["secret"])
