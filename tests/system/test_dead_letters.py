"""Dead letters on the whole system: listed, and replayed under the identity that they had."""

import asyncio
import json

from tests.examples import a_body, as_json
from tests.polling import wait_until
from tests.system.test_end_to_end import about
from tests.system.testbed import sluice


async def letters_of(testbed, offset):
    """The letters of a record of send.requests, once there is one."""

    async def found():
        printed = (await asyncio.to_thread(sluice, testbed.system, "dead-letters", "list", "--all", "--json")).stdout
        rows = [json.loads(line) for line in printed.splitlines()]
        return [row for row in rows if (row["topic"], row["partition"], row["offset"]) == ("send.requests", 0, offset)]

    return await wait_until(found)


async def test_a_refused_record_is_listed_and_replayed_once_its_cause_is_gone(testbed, mailbox):
    subject = about("replayed")
    body = a_body(subject=subject)
    del body["from"]
    offset = await testbed.publish(as_json(body))
    (letter,) = await letters_of(testbed, offset)
    assert (letter["status"], letter["project_id"][:5]) == ("open", "proj_")
    shown = await asyncio.to_thread(sluice, testbed.system, "dead-letters", "show", letter["id"])
    assert json.loads(json.loads(shown.stdout)["record"]["value"])["subject"] == subject

    await testbed.db.execute(
        "UPDATE projects SET default_sender = 'shop@example.com' WHERE id = $1", testbed.project.id
    )
    for _ in range(2):
        replayed = await asyncio.to_thread(sluice, testbed.system, "dead-letters", "replay", letter["id"])
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr

    assert len(await testbed.mails_about(subject)) == 1
    await testbed.publish(as_json(a_body(subject=about("after"))))
    await testbed.mails_about(about("after"))
    assert len(await testbed.mails_about(subject)) == 1
    (letter,) = await letters_of(testbed, offset)
    assert letter["status"] == "replayed"


async def test_a_letter_is_discarded(testbed):
    offset = await testbed.publish(b"{]")
    (letter,) = await letters_of(testbed, offset)

    done = await asyncio.to_thread(sluice, testbed.system, "dead-letters", "discard", letter["id"])

    assert (done.returncode, "discarded" in done.stdout) == (0, True)
    (letter,) = await letters_of(testbed, offset)
    assert letter["status"] == "discarded"
