"""Small workloads that make the roles hit their failpoints, and the table of the workload of each failpoint."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

import asyncpg

from sluice.bus.messages import VERSION_HEADER
from sluice.health.breaker import HEALTHY, UNHEALTHY
from sluice_launcher.process_info import Identity, process_tree
from sluice_launcher.state import read_state
from tests.chaos.client_session import ClientSession, in_future

Workload = Callable[[ClientSession, str], Awaitable[None]]
"""One round of work on a channel; repeated until the failpoint was hit."""

# Recipient prefixes that select a behaviour of the simulator.
FAULT = {"email": "fault+", "sms": "+1999004"}
HANG = {"email": "hang+", "sms": "+1999005"}
NO_RESPONSE = {"email": "accept-then-never-answer+", "sms": "+1999009"}
FIRST = {"email": "resend-a", "sms": "twilio-a"}  # the endpoint of a provider of the sweep
SLOW = {"email": "slow+", "sms": "+1777"}  # of the sweep's scenario


async def http(client: ClientSession, channel: str) -> None:
    """Three messages, one of them with a key."""
    await client.send(channel)
    await client.send(channel, key=True)
    await client.send(channel, delivery_class="urgent")


async def bus(client: ClientSession, channel: str) -> None:
    """Three records, one of them with a key."""
    for key in (False, True, False):
        await client.publish(channel, key=key)
        await asyncio.sleep(0.05)


async def bad_record(client: ClientSession, channel: str) -> None:
    """Records of an unknown schema version."""
    for _ in range(3):
        await client.put(b"{", **{VERSION_HEADER: "99"})
        await asyncio.sleep(0.05)


async def bad_request(client: ClientSession, channel: str) -> None:
    """Invalid requests of a known project."""
    for _ in range(3):
        _, document = client.request(channel)
        await client.put(b'{"channel":"%s","to":[]}' % document["channel"].encode())
        await asyncio.sleep(0.05)


async def cancel(client: ClientSession, channel: str) -> None:
    """Scheduled messages, cancelled."""
    for _ in range(2):
        await client.cancel(await client.send(channel, send_at=in_future(8)))
    await client.cancel(await client.send(channel))


async def bulk(client: ClientSession, channel: str) -> None:
    """Bulk jobs of a few recipients, one of them cancelled."""
    await client.upload(channel, 4)
    job_id = await client.upload(channel, 4, to_cancel=True)
    if job_id is not None:
        await client.cancel_upload(job_id)
    await asyncio.sleep(0.5)


async def receipt(client: ClientSession, channel: str) -> None:
    """Messages through the providers that progress what became of them."""
    preferred = client.cluster.project.named("resend-a" if channel == "email" else "twilio-a")
    for _ in range(3):
        await client.send(channel, preferred_provider=preferred)
        await asyncio.sleep(0.25)


async def scheduled(client: ClientSession, channel: str) -> None:
    """Messages that only the recovery loop can enqueue."""
    for wait in (0.3, 0.8, 1.3):
        await client.send(channel, send_at=in_future(wait))
    await asyncio.sleep(1.5)


async def overtaken(client: ClientSession, channel: str) -> None:
    """Assignments that their paused worker does not read in time."""
    worker = read_state(client.cluster.data_dir).get(f"{channel}-worker")
    if worker is None:
        return
    worker.kill(signal.SIGSTOP)
    for _ in range(2):
        await client.send(channel)
    await asyncio.sleep(3.2)
    worker.kill(signal.SIGCONT)


async def exhausted(client: ClientSession, channel: str) -> None:
    """Messages that fail at every provider, until no round is left."""
    for _ in range(3):
        await client.send(channel, FAULT[channel])
    await asyncio.sleep(0.5)


async def divided(client: ClientSession, channel: str) -> None:
    """Mails of which one recipient is refused, whatever the channel: no other one has envelopes.

    A refused recipient is suppressed, so each mail has another one.
    """
    del channel
    preferred = client.cluster.project.named("smtp-a")
    for _ in range(3):
        await client.send("email", preferred_provider=preferred, cc=[f"reject+{uuid4().hex}@far.example"])
    await asyncio.sleep(0.3)


async def expiry(client: ClientSession, channel: str) -> None:
    """Messages that expire as soon as they are due."""
    for wait in (0.5, 0.9, 1.3):
        await client.send(channel, send_at=in_future(wait), expires_at=in_future(wait + 0.02))
    await asyncio.sleep(1.8)


async def expired_lease(client: ClientSession, channel: str) -> None:
    """Calls in flight whose worker is killed."""
    for _ in range(3):
        await client.send(channel, NO_RESPONSE[channel])
    await asyncio.sleep(0.6)
    worker = read_state(client.cluster.data_dir).get(f"{channel}-worker")
    if worker is not None:
        worker.kill(signal.SIGKILL)
    await asyncio.sleep(4.0)


async def slow(client: ClientSession, channel: str) -> None:
    """Calls that outlast a lease renewal, so that others wait for a slot."""
    await asyncio.gather(*(client.send(channel, SLOW[channel]) for _ in range(5)))
    await asyncio.sleep(1.0)


async def in_doubt(client: ClientSession, channel: str) -> None:
    """Requests whose commit is in doubt, because PostgreSQL is paused meanwhile."""
    postgres = read_state(client.cluster.data_dir).get("postgres")
    if postgres is None:
        return
    sending = [asyncio.create_task(client.send(channel)) for _ in range(3)]
    members = [found for pid in process_tree(postgres.pid) if (found := Identity.of(pid)) is not None]
    for member in members:
        member.kill(signal.SIGSTOP)
    sending += [asyncio.create_task(client.send(channel)) for _ in range(3)]
    await asyncio.sleep(1.1)
    for member in members:
        member.kill(signal.SIGCONT)
    await asyncio.gather(*sending)
    await asyncio.sleep(1.5)


async def stale_outbox(client: ClientSession, channel: str) -> None:
    """An outbox row whose events the broker has already."""
    await client.send(channel)
    connection = await asyncpg.connect(client.cluster.postgres)
    try:
        await connection.execute(
            "INSERT INTO event_outbox (retry_at, delivery_ids, sequences)"
            " SELECT now(), ARRAY[delivery_id], ARRAY[sequence] FROM events ORDER BY occurred_at DESC LIMIT 1"
        )
    finally:
        await connection.close()
    await asyncio.sleep(0.5)


async def suppressed(client: ClientSession, channel: str) -> None:
    """Mails of which one recipient is suppressed before they are due, whatever the channel; another one each time."""
    del channel
    suppression_id = uuid4()
    address = f"{suppression_id.hex}@far.example"
    for wait in (0.8, 1.3):
        await client.send("email", send_at=in_future(wait), cc=[address])
    connection = await asyncpg.connect(client.cluster.postgres)
    try:
        await connection.execute(
            "INSERT INTO suppressions (id, project_id, channel, address, reason, detail, created_at)"
            " SELECT $1, id, 'email', $2, 'manual', '', now() FROM projects LIMIT 1",
            suppression_id,
            address,
        )
        await connection.execute("UPDATE projects SET has_suppressions = true")
    finally:
        await connection.close()
    await asyncio.sleep(1.8)


async def mixed(client: ClientSession, channel: str) -> None:
    """Good and bad outcomes, so that the health status changes."""
    await client.send(channel)
    await client.send(channel, FAULT[channel])
    await asyncio.sleep(1.0)


async def outage(client: ClientSession, channel: str) -> None:
    """An incident that opens, touches messages and is resolved, by the statuses of a provider."""
    await client.publish_health(channel, FIRST[channel], UNHEALTHY)
    await asyncio.sleep(1.0)
    for _ in range(3):  # a process knows a new incident after two seconds
        await client.send(channel)
        await asyncio.sleep(1.0)
    await client.publish_health(channel, FIRST[channel], HEALTHY)
    await asyncio.sleep(1.0)


async def gone(client: ClientSession, channel: str) -> None:
    """A webhook endpoint that asks for no more events."""
    del channel
    await client.call("POST", "/v1/webhooks", {"url": f"{client.cluster.customer_url}/gone", "events": ["sent"]})
    hooks = (await client.call("GET", "/v1/webhooks")).get("data", [])
    for hook in hooks:
        if hook["url"].endswith("/gone") and hook["enabled"]:
            await client.call("POST", f"/v1/webhooks/{hook['id']}/test")
    await asyncio.sleep(1.0)
    for hook in hooks:
        if hook["url"].endswith("/gone"):
            await client.call("DELETE", f"/v1/webhooks/{hook['id']}")


POINTS: Mapping[str, Workload] = {
    "accept.before_commit": http,
    "accept.committed": http,
    "accept.before_publish": http,
    "accept.published": http,
    "revoke.before_write": in_doubt,
    "revoke.written": in_doubt,
    "ingress.before_accept": bus,
    "ingress.accepted": bus,
    "ingress.before_answer": bus,
    "ingress.answered": bus,
    "ingress.before_reject": bad_request,
    "ingress.rejected": bad_request,
    "dead_letter.before_publish": bad_record,
    "dead_letter.published": bad_record,
    "letters.before_write": bad_record,
    "letters.written": bad_record,
    "bulk.before_complete": bulk,
    "bulk.completed": bulk,
    "bulk.before_commit": bulk,
    "bulk.committed": bulk,
    "bulk.before_cancel": bulk,
    "cancel.before_write": cancel,
    "cancel.written": cancel,
    "receipts.before_write": receipt,
    "receipts.written": receipt,
    "consumer.polled": http,
    "consumer.before_commit": http,
    "consumer.committed": http,
    "route.before_publish": http,
    "route.published": http,
    "route.before_settle": exhausted,
    "route.settled": exhausted,
    "route.dead_letter": exhausted,
    "recovery.low_watermarks": overtaken,
    "recovery.dequeued": scheduled,
    "recovery.requeued": overtaken,
    "recovery.enqueued": scheduled,
    "recovery.before_lease_expired": expired_lease,
    "recovery.before_expired": expiry,
    "recovery.suppressed_divided": suppressed,
    "recovery.before_suppressed": suppressed,
    "recovery.before_republish": stale_outbox,
    "recovery.republished": stale_outbox,
    "recovery.outbox_deleted": stale_outbox,
    "recovery.before_partitions": http,
    "recovery.partitions_made": http,
    "claim.before_write": http,
    "claim.written": http,
    "call.before": http,
    "call.answered": http,
    "reroute.before_publish": slow,
    "reroute.published": slow,
    "lease.before_renew": slow,
    "lease.renewed": slow,
    "settle.before_write": http,
    "settle.written": http,
    "settle.divided": divided,
    "settle.before_reroute": exhausted,
    "settle.rerouted": exhausted,
    "outbox.published": http,
    "outbox.acknowledged": http,
    "outbox.deleted": http,
    "webhook.before_project": http,
    "webhook.projected": http,
    "analytics.before_count": http,
    "analytics.counted": http,
    "webhook.before_claim": http,
    "webhook.claimed": http,
    "webhook.before_call": http,
    "webhook.answered": http,
    "webhook.before_record": http,
    "webhook.recorded": http,
    "webhook.before_disable": gone,
    "webhook.disabled": gone,
    "health.received": http,
    "health.before_publish": mixed,
    "health.published": mixed,
    "incidents.before_record": mixed,
    "incidents.recorded": mixed,
    "incidents.before_write": outage,
    "incidents.written": outage,
    "incidents.before_touch": outage,
    "incidents.touched": outage,
    "health.before_snapshot": http,
}
