"""Templates and suppressions through the whole system."""

from tests.polling import wait_until


async def test_a_refused_recipient_is_suppressed_and_the_next_message_costs_no_call(testbed, fake_provider):
    to = "reject+suppressed@example.com"
    first = await testbed.settled(await testbed.send(to=[to]))
    assert (first["status"], first["attempts"]) == ("FAILED", 1), first["events"]
    headers = {"x-sendpipe-key": testbed.key}

    async def suppressed():
        answer = await testbed.answered(testbed.api.get, "/v1/suppressions", headers=headers)
        return answer.json()["data"]

    await wait_until(suppressed, within=20)
    (row,) = await suppressed()
    second = await testbed.settled(await testbed.send(to=[f"Again <{to}>"]))

    assert (row["address"], row["reason"], row["source"]["message_id"]) == (to, "hard_bounce", first["id"])
    assert (second["status"], second["attempts"]) == ("FAILED", 0)
    assert second["events"][-1]["reason"] == "suppressed"
    assert len(fake_provider.calls) == 1


async def test_a_mail_is_made_from_a_template(testbed, mailbox):
    headers = {"x-sendpipe-key": testbed.key}
    source = {"name": "x", "kind": "email", "subject": "For {{name}}", "html": "<p>{{name}}</p>"}
    template = (await testbed.answered(testbed.api.post, "/v1/templates", headers=headers, json=source)).json()
    changes = {"subject": None, "text": None, "template_id": template["id"], "variables": {"name": "Ada & Bob"}}

    message = await testbed.settled(await testbed.send(**changes))
    (mail,) = await testbed.mails_about("For Ada & Bob")

    assert message["template"] == {"id": template["id"], "version": 1}
    assert b"Ada &amp; Bob" in mail
