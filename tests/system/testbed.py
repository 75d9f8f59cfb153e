"""The running system as users and operators see it."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import policy
from email.parser import BytesParser
from functools import partial
from pathlib import Path

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from sluice.bus.connection import KafkaConnection
from sluice.bus.messages import SCHEMA_VERSION
from sluice.model.ids import uuid7
from sluice.model.message import Channel
from sluice.model.state import SETTLED
from sluice.runtime.clock import utc_now
from sluice.runtime.settings import read_key_file
from sluice.store import api_keys, projects, providers
from sluice.store.cipher import CredentialCipher
from sluice_simulator.mailbox import list_mails
from tests.examples import a_body
from tests.polling import wait_until


def smtp_at(host, port):
    """The credentials of an SMTP server without authentication."""
    return {"host": host, "port": port, "secure": False, "requireTLS": False}


DEAD = smtp_at("127.0.0.1", 1)


@dataclass
class Testbed:
    """One project of the system: its keys, its providers, its messages."""

    system: object
    db: asyncpg.Pool
    project: projects.Project
    key: str
    sandbox_key: str
    api: httpx.AsyncClient

    # -- setting up ----------------------------------------------------------------------------------------------

    async def add_provider(
        self, name, credentials, *, package="provider-smtp", channel=Channel.EMAIL, project_id=None, **options
    ):
        """Add a provider behind the existing ones, of another project if ``project_id`` names one."""
        project_id = project_id or self.project.id
        cipher = CredentialCipher(partial(read_key_file, Path(self.system.environment["SLUICE_ENCRYPTION_KEY_FILE"])))
        provider_id = uuid7()
        await providers.create_provider(
            self.db,
            provider_id,
            project_id,
            package=package,
            channel=channel,
            name=name,
            encrypted_credentials=cipher.encrypt_credentials(
                credentials, project_id=project_id, provider_id=provider_id
            ),
            now=utc_now(),
            **options,
        )
        return provider_id

    # -- requests ------------------------------------------------------------------------------------------------

    async def post(self, key=None, *, idempotency_key=None, **changes):
        """The response to a send request."""
        headers = {"x-sendpipe-key": key or self.key}
        if idempotency_key:
            headers["idempotency-key"] = idempotency_key
        return await self.api.post("/v1/messages/channel", headers=headers, json=a_body(**changes))

    async def answered(self, request, *arguments, **options):
        """The answer to a request, which is repeated while the database is too slow for the gateway (503).

        With an idempotency key it is also repeated when the connection ends without an answer.
        """

        async def ask():
            try:
                answer = await request(*arguments, **options)
            except httpx.TransportError:
                if options.get("idempotency_key") is None:
                    raise
                return None
            return None if answer.status_code == 503 else answer

        return await wait_until(ask, within=60)

    async def send(self, key=None, **changes):
        """The id of an accepted message."""
        answer = await self.answered(self.post, key, **changes)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def send_many(self, count, **changes):
        """The ids of many messages, twenty requests at a time."""
        room = asyncio.Semaphore(20)

        async def one(number):
            async with room:
                return await self.send(subject=f"Number {number}", **changes)

        return await asyncio.gather(*[one(number) for number in range(count)])

    @asynccontextmanager
    async def producer(self):
        producer = AIOKafkaProducer(**KafkaConnection.to(self.system.addresses["kafka"]).options())
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def publish(self, value, *, partition=0, correlation_id=None, **headers):
        """Publish a record to send.requests; returns its offset. A header of None is omitted."""
        defaults = {"x_sendpipe_key": self.key, "schema_version": str(SCHEMA_VERSION)}
        named = {name.replace("_", "-"): text for name, text in (defaults | headers).items()}
        named |= {"correlation_id": correlation_id}
        async with self.producer() as producer:
            record = await producer.send_and_wait(
                "send.requests",
                value,
                key=b"key",
                partition=partition,
                headers=[(name, text.encode()) for name, text in named.items() if text is not None],
            )
            return record.offset

    # -- results -------------------------------------------------------------------------------------------------

    async def message(self, message_id, key=None):
        headers = {"x-sendpipe-key": key or self.key}
        answer = await self.answered(self.api.get, f"/v1/messages/{message_id}", headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def settled(self, message_id, within=30.0, *, key=None):
        """The message once it is settled."""

        async def look():
            found = await self.message(message_id, key)
            return found if found["status"] in SETTLED else None

        return await wait_until(look, within)

    async def all_settled(self, message_ids, within=60.0):
        """The final states of these messages, with their numbers; revoked in-doubt messages are not counted."""

        async def look():
            rows = await self.db.fetch(
                "SELECT state, count(*) AS n FROM deliveries WHERE project_id = $1 GROUP BY state", self.project.id
            )
            counts = {row["state"]: row["n"] for row in rows if row["state"] != "CANCELLED"}
            on_their_way = counts.keys() - SETTLED
            return counts if not on_their_way and sum(counts.values()) >= len(message_ids) else None

        return await wait_until(look, within)

    async def mails_about(self, subject, count=1):
        """The raw mails with that subject, once there are ``count``."""

        async def look():
            found = await asyncio.to_thread(
                lambda: [mail.path.read_bytes() for mail in list_mails(self.system.data_dir) if mail.subject == subject]
            )
            return found if len(found) >= count else None

        return await wait_until(look, 30)

    @asynccontextmanager
    async def reader(self, topic):
        """A client that reads a topic from its beginning."""
        options = KafkaConnection.to(self.system.addresses["kafka"]).options()
        reader = AIOKafkaConsumer(topic, **options, auto_offset_reset="earliest")
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()

    async def dead_letter(self, partition, offset):
        """The dead letter of a record of send.requests, once it exists."""
        async with self.reader("dead.letters") as reader, asyncio.timeout(30):
            while True:
                letter = json.loads((await reader.getone()).value)
                if (letter.get("partition"), letter.get("offset")) == (partition, offset):
                    return letter

    async def events(self, are_there):
        """The project's events on the bus, each with the headers of its record, once ``are_there`` of them."""
        found = []
        async with self.reader("delivery.events") as reader, asyncio.timeout(60):
            while not are_there(found):
                record = await reader.getone()
                event = json.loads(record.value)
                if event["project_id"] == str(self.project.id):
                    found.append((event, {name: value.decode() for name, value in record.headers}))
        return found

    async def answers(self, places):
        """The answers to records of send.requests with their headers, by partition and offset."""

        def by_place(events):
            return {(one[0]["partition"], one[0]["offset"]): one for one in events if "offset" in one[0]}

        return by_place(await self.events(lambda events: by_place(events).keys() >= set(places)))

    # -- faults --------------------------------------------------------------------------------------------------

    async def run_command(self, verb, name, **options):
        """``stop``, ``start`` or ``restart`` a process, without blocking the fake providers in this one."""
        await asyncio.to_thread(getattr(self.system.control, verb), name, **options)

    async def pid(self, name):
        return await asyncio.to_thread(self.system.control.pid, name)


@asynccontextmanager
async def a_testbed(system):
    """A new project on the running system."""
    async with (
        asyncpg.create_pool(system.addresses["postgres"], min_size=0, max_size=4) as db,
        httpx.AsyncClient(base_url=system.addresses["gateway"], timeout=30, trust_env=False) as api,
    ):
        slug = f"test-{uuid.uuid4().hex[:12]}"
        project = await projects.create_project(db, organization="Test", slug=slug, name="Test", now=utc_now())
        keys = [
            await api_keys.create_key(db, project.id, name="test", is_test=sandbox, now=utc_now())
            for sandbox in (False, True)
        ]
        yield Testbed(system, db, project, *keys, api)


def parsed(raw):
    """A mail as the standard library reads it."""
    return BytesParser(policy=policy.default).parsebytes(raw)


def sluice(system, *words):
    """The command line, with the addresses of the running system."""
    return subprocess.run(
        [sys.executable, "-m", "sluice_cli.main", *words],
        env={**os.environ, **system.environment, "SLUICE_API_URL": system.addresses["gateway"]},
        capture_output=True,
        text=True,
        check=False,
    )
