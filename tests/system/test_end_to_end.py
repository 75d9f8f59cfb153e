"""Messages from the request to the mailbox: HTTP, Kafka, failover."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest

from sluice.bus.messages import SCHEMA_VERSION
from sluice.model.message import Channel
from sluice.providers.registry import PACKAGES
from sluice.runtime.clock import utc_now
from sluice.runtime.settings import read_key_file
from sluice.store import providers
from sluice.store.cipher import CredentialCipher
from tests.examples import a_body, as_json
from tests.system.testbed import DEAD, parsed, sluice

TEXT = "Grüße aus Köln,\n\n.ein Punkt am Anfang\nFrom hier\n\u20ac \U0001f600\n" + "lang " * 400
HTML = "<!doctype html>\n<p>Grüße &amp; <b>\u20ac</b></p>\n"


def about(test):
    return f"{test}: Grüße aus Köln \U0001f600 und noch ein wenig mehr, damit die Zeile lang wird"


async def test_a_mail_in_the_mailbox_equals_the_request(testbed, mailbox):
    await testbed.send(subject=about("HTTP"), text=TEXT, html=HTML, to=["Ada Lövelace <ada@example.com>"])

    (raw,) = await testbed.mails_about(about("HTTP"))
    mail = parsed(raw)
    assert mail["subject"] == about("HTTP")
    assert mail["from"] == "Shop <shop@example.com>"
    assert mail["to"] == "Ada Lövelace <ada@example.com>"
    assert same(mail.get_body(["plain"]).get_content(), TEXT)
    assert same(mail.get_body(["html"]).get_content(), HTML)


def same(found, requested):
    """Byte for byte, except that mail has CRLF and a final line end."""
    return found.replace("\r\n", "\n").removesuffix("\n") == requested.removesuffix("\n")


async def test_a_message_goes_through_the_second_provider_when_the_first_is_dead(testbed, mailbox):
    message = await testbed.settled(await testbed.send())

    assert message["status"] == "SENT"
    assert [(event["type"], event["provider"] and event["provider"]["name"]) for event in message["events"]] == [
        ("accepted", None),
        ("sending", "dead-smtp"),
        ("attempt_failed", "dead-smtp"),
        ("sending", "mailbox-smtp"),
        ("sent", "mailbox-smtp"),
    ]


async def test_an_attachment_arrives_whole(testbed, mailbox):
    content = bytes(range(256)) * 300
    await testbed.send(
        subject=about("file"), attachments=[{"filename": "größe.bin", "content": content.hex(), "encoding": "utf-8"}]
    )

    (raw,) = await testbed.mails_about(about("file"))
    (attachment,) = parsed(raw).iter_attachments()
    assert attachment.get_filename() == "größe.bin"
    assert attachment.get_content() == content.hex().encode()


async def test_the_message_arrives_the_same_way_through_kafka(testbed, mailbox):
    await testbed.publish(as_json(a_body(subject=about("Kafka"), text=TEXT, html=HTML)))

    (raw,) = await testbed.mails_about(about("Kafka"))
    mail = parsed(raw)
    message = await testbed.settled(mail["x-sluice-message-id"])
    assert (message["status"], message["attempts"]) == ("SENT", 2)
    assert same(mail.get_body(["plain"]).get_content(), TEXT)
    assert same(mail.get_body(["html"]).get_content(), HTML)


BAD = {
    "no JSON": (b"{]", {}, "VALIDATION_ERROR"),
    "no key": (as_json(a_body()), {"x_sendpipe_key": None}, "UNAUTHORIZED"),
    "a wrong key": (as_json(a_body()), {"x_sendpipe_key": "sp_live_" + "a" * 48}, "UNAUTHORIZED"),
    "an unknown version": (as_json(a_body()), {"schema_version": str(SCHEMA_VERSION + 1)}, "schema version"),
    "nothing": (None, {}, "empty"),
    "a wrong field": (as_json(a_body(to=["not-an-address"])), {}, "to.0"),
    "NaN": (as_json(a_body(metadata={"a": float("nan")})), {}, "Number"),
    "100,000 brackets": (b"[" * 100_000, {}, "VALIDATION_ERROR"),
    "a header of control characters": (b"{]", {"name": "\x00" * 300_000}, "VALIDATION_ERROR"),
}


@pytest.mark.parametrize(("value", "headers", "reason"), BAD.values(), ids=BAD)
async def test_a_bad_record_is_dead_lettered_and_the_next_good_one_delivered(
    testbed, mailbox, value, headers, reason, request
):
    subject = about(request.node.callspec.id)

    offset = await testbed.publish(value, partition=3, **headers)
    await testbed.publish(as_json(a_body(subject=subject)), partition=3)

    letter = await testbed.dead_letter(3, offset)
    assert (letter["topic"], letter["kind"]) == ("send.requests", "invalid_record")
    assert reason in letter["reason"]
    assert len(await testbed.mails_about(subject)) == 1


async def test_a_dead_letter_does_not_contain_the_api_key(testbed):
    offset = await testbed.publish(b"{]")

    letter = await testbed.dead_letter(0, offset)

    assert testbed.key not in str(letter)


async def test_a_record_that_is_published_twice_with_its_key_is_one_message(testbed, mailbox):
    record = as_json(a_body(subject=about("twice"), idempotency_key="order-7"))
    for partition in (0, 1, 0):
        await testbed.publish(record, partition=partition)
    await testbed.publish(as_json(a_body(subject=about("after"))), partition=0)
    await testbed.publish(as_json(a_body(subject=about("after"))), partition=1)

    await testbed.mails_about(about("after"), 2)

    assert len(await testbed.mails_about(about("twice"))) == 1


async def test_fifty_requests_at_once_with_one_key_are_one_message(testbed, mailbox):
    asking = [testbed.answered(testbed.post, idempotency_key="order-7", subject=about("fifty")) for _ in range(50)]
    answers = await asyncio.gather(*asking)

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers].count(None) == 1
    assert await testbed.db.fetchval("SELECT count(*) FROM messages WHERE project_id = $1", testbed.project.id) == 1


async def test_a_test_key_sends_nothing(testbed, mailbox):
    message_id = await testbed.send(testbed.sandbox_key, subject=about("sandbox"))

    message = await testbed.settled(message_id, key=testbed.sandbox_key)

    assert (message["status"], message["provider"]["name"]) == ("SENT", "sandbox")
    captured = await testbed.db.fetchval(
        "SELECT content FROM sandbox_messages WHERE project_id = $1", testbed.project.id
    )
    assert about("sandbox") in captured


async def test_a_refused_recipient_fails_at_once(testbed, fake_provider):
    message = await testbed.settled(await testbed.send(to=["reject+ada@example.com"]))

    assert (message["status"], message["attempts"]) == ("FAILED", 1)
    assert "ada" not in message["events"][-1]["detail"]


async def test_a_project_without_a_provider_fails_with_that_reason(testbed):
    message = await testbed.settled(await testbed.send())

    assert message["status"] == "FAILED"
    assert message["events"][-1]["detail"] == "the project has no enabled provider for email"


async def test_a_message_that_was_cancelled_in_time_is_never_sent(testbed, fake_provider):
    soon = (utc_now() + timedelta(seconds=2)).isoformat()
    message_id = await testbed.send(send_at=soon)

    path, headers = f"/v1/messages/{message_id}/cancel", {"x-sendpipe-key": testbed.key}
    answer = await testbed.answered(testbed.api.delete, path, headers=headers)
    other = await testbed.settled(await testbed.send(send_at=(utc_now() + timedelta(seconds=2.5)).isoformat()))

    assert (answer.status_code, answer.json()["status"]) == (200, "CANCELLED")
    assert (other["status"], len(fake_provider.calls)) == ("SENT", 1)


async def test_the_encryption_key_changes_while_messages_are_sent(testbed, mailbox):
    """The workers have the credentials in memory or read them again with whichever key encrypts them."""
    rotations = [(), (), ("--remove-old",)]
    for options in rotations:
        output = await asyncio.to_thread(sluice, testbed.system, "rotate-encryption-key", *options)
        assert output.returncode == 0, output.stderr
        await testbed.add_provider(f"new-{len(options)}", DEAD, priority=99)

        assert (await testbed.settled(await testbed.send()))["status"] == "SENT"

    key_file = Path(testbed.system.environment["SLUICE_ENCRYPTION_KEY_FILE"])
    assert len(read_key_file(key_file)) == 1
    assert "removed" in output.stdout
    cipher = CredentialCipher(lambda: read_key_file(key_file))
    assert await providers.count_stale_credentials(testbed.db, cipher) == 0


async def test_the_demo_of_all_packages_shows_each_of_them_arrive(system):
    done = await asyncio.to_thread(sluice, system, "demo", "--all", "--json")

    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["package"]: row for row in json.loads(done.stdout)}
    # The tests' installation has an SMS link, which a demonstration does not use.
    assert {name for name, row in rows.items() if row["arrived"] is None} == {"provider-messagepipe"}
    assert rows.keys() == {name for name, package in PACKAGES.items() if len(package.channels) < len(Channel)}
    assert rows["provider-resend"]["path"] == "broken attempt_failed, working sent"
    assert rows["provider-resend"]["state"] == "DELIVERED"


@pytest.mark.timeout(400)
async def test_a_game_day_loses_nothing_in_an_outage(system):
    done = await asyncio.to_thread(sluice, system, "game-day", "outage", "--rate", "10", "--seconds", "8", "--json")

    assert done.stdout, done.stderr
    found = json.loads(done.stdout)["faults"]["outage"]
    assert found["messages"] > 0
    assert (found["lost"], found["duplicates"], found["failed"]) == (0, 0, 0)
    assert found["answers"].keys() == {"201"}
    assert done.returncode == (1 if found["broken"] else 0)
