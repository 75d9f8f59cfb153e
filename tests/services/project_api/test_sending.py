"""Sending: the answer says what became of the message."""

import asyncio

import pytest

from gateway.errors import SendCancelled
from gateway.messages.sending import failure_of
from sluice.bus.messages import ProviderHealth
from sluice.model.ids import decode_id, encode_id, uuid7
from sluice.model.message import Channel
from sluice.model.outcome import AuthFailed, ProviderFault, RecipientRejected, Unknown
from sluice.model.reasons import Reason
from sluice.model.state import State
from sluice.model.suppression import SuppressionReason
from sluice.runtime.clock import utc_now
from sluice.store import suppressions
from sluice.store.messages import DeliveryResult
from sluice.store.suppressions import NewSuppression, Recipient
from tests.examples import seconds
from tests.polling import wait_until
from tests.services.project_api.conftest import error_of

HTML = "<p>Hello {{firstName}}, from {{companyName}}: {{activationUrl}}</p>"
EMAIL = {
    "to": "user@example.com",
    "subject": "Welcome to Our Platform",
    "variables": {
        "firstName": "John",
        "companyName": "Nobu",
        "activationUrl": "https://app.example.com/activate?token=xyz",
    },
}
BULK = {
    "subject": "Monthly Newsletter",
    "recipients": ["user1@example.com", "user2@example.com"],
    "variables": {"companyName": "Nobu", "monthYear": "January 2024"},
}


async def a_template(api, **sources):
    """The id of a template of the project, as this API has it."""
    body = {"name": "welcome", "kind": "email", "html": HTML} | sources
    body = {name: value for name, value in body.items() if value is not None}
    answer = await api.gateway.ask("POST", "/v1/templates", json=body)
    assert answer.status_code == 201, answer.text
    return str(decode_id("tpl", answer.json()["id"]))


async def a_text(api, text="Your code is {{code}}"):
    return await a_template(api, kind="text", html=None, text=text)


def known_project(api):
    """The project as the gateway has it in memory; None for a moment while it is read."""
    return api.gateway.config.projects.get(api.project_id)


async def with_a_sender(api):
    await api.gateway.pool.execute("UPDATE projects SET default_sender = 'shop@example.com' WHERE slug = 'shop'")
    await wait_until(lambda: getattr(known_project(api), "default_sender", None))


@pytest.fixture
async def mail(api, deliverer):
    """The id of a template, in a project with two providers of e-mail and a sender."""
    await with_a_sender(api)
    await deliverer.add_provider("provider-sendgrid", "email")
    await deliverer.add_provider("provider-mailgun", "email")
    return await a_template(api)


async def send(api, template, path="/email/send", *, headers=None, key=None, **changes):
    body = {"templateId": template} | (EMAIL if path == "/email/send" else {}) | changes
    body = {name: value for name, value in body.items() if value is not None}
    return await api.ask_with_key("POST", path, json=body, headers=headers, key=key)


# -- one e-mail ----------------------------------------------------------------------------------------------------


async def test_the_documented_e_mail_gets_the_documented_answer(api, deliverer, mail):
    answer = await send(api, mail)

    assert answer.status_code == 200, answer.text
    fields = answer.json()
    assert fields["message"] == "Email sent successfully"
    assert set(fields) == {"message", "messageId", "provider", "deliveryLogId"}
    assert fields["provider"] == "sendgrid"
    assert deliverer.calls == [("provider-sendgrid", "user@example.com")]
    message = await api.gateway.ask("GET", f"/v1/messages/{encode_id('msg', decode_id('msg', fields['messageId']))}")
    assert (message.json()["status"], message.json()["subject"]) == ("SENT", "Welcome to Our Platform")


async def test_the_sender_is_that_of_the_e_mail_configuration(api, deliverer, mail):
    config = {"senderEmail": "hello@example.com", "senderName": "Nobu"}
    created = await api.ask("POST", "/email-config", project_id=api.project_id, json=config)
    assert created.status_code == 201, created.text
    await wait_until(lambda: api.gateway.config.channel_config(api.project_id, Channel.EMAIL))

    answer = await send(api, mail)

    assert answer.status_code == 200, answer.text
    message = await api.gateway.ask(
        "GET", f"/v1/messages/{encode_id('msg', decode_id('msg', answer.json()['messageId']))}"
    )
    assert message.json()["from"] == "Nobu <hello@example.com>"


async def test_a_sender_of_a_domain_that_is_not_verified_is_refused_where_the_project_says_so(api, deliverer, mail):
    config = {"senderEmail": "hello@shop.example", "senderName": "Nobu"}
    await api.ask("POST", "/email-config", project_id=api.project_id, json=config)
    await api.gateway.pool.execute("UPDATE projects SET verified_senders_only = true WHERE slug = 'shop'")
    await wait_until(lambda: api.gateway.config.channel_config(api.project_id, Channel.EMAIL))
    await wait_until(lambda: getattr(known_project(api), "verified_senders_only", None))

    answer = await send(api, mail)

    assert "the domain shop.example is not verified" in error_of(answer, 400)
    assert deliverer.calls == []


async def test_a_person_names_the_project_in_the_body(api, deliverer, mail):
    body = {"templateId": mail, **EMAIL}

    answer = await api.ask("POST", "/email/send", json=body | {"projectId": str(api.project_id)})

    assert answer.json()["message"] == "Email sent successfully"
    assert "projectId" in error_of(await api.ask("POST", "/email/send", json=body), 400)


async def test_a_test_key_sends_to_the_sandbox(api, deliverer, mail):
    key = await api.gateway.another_key(is_test=True)

    answer = await send(api, mail, key=key, preferredProvider="ses")

    assert answer.json()["provider"] == "sandbox"


async def test_a_missing_template_is_the_documented_error(api, deliverer, mail):
    for template in (str(uuid7()), "template-uuid"):
        answer = await send(api, template)
        assert answer.json() == {"message": "Template not found", "error": "Template not found", "statusCode": 404}
        assert answer.status_code == 404
    assert deliverer.calls == []


async def test_a_template_of_another_kind_is_refused(api, deliverer, mail):
    assert "templateId" in error_of(await send(api, await a_text(api)), 400)


async def test_the_subject_is_required_where_the_template_has_none(api, deliverer, mail):
    assert "subject" in error_of(await send(api, mail, subject=None), 400, "Bad Request")

    own = await a_template(api, subject="Hello {{firstName}}")
    assert (await send(api, own, subject=None)).status_code == 200
    assert (
        await api.gateway.pool.fetchval("SELECT content::json ->> 'subject' FROM messages ORDER BY id DESC LIMIT 1")
        == "Hello John"
    )


async def test_when_a_provider_fails_the_next_one_sends(api, deliverer, mail):
    deliverer.answers["provider-sendgrid"] = ProviderFault("503 over capacity")

    answer = await send(api, mail)

    assert answer.json()["provider"] == "mailgun"


async def test_when_all_fail_the_answer_has_the_last_providers_own_error_and_nothing_is_sent_later(
    api, deliverer, mail
):
    deliverer.answers["provider-sendgrid"] = ProviderFault("503 over capacity")
    deliverer.answers["provider-mailgun"] = AuthFailed("401 Forbidden")

    answer = await send(api, mail)

    assert answer.status_code == 500
    assert answer.json() == {
        "message": "All providers failed: 401 Forbidden",
        "error": "Internal Server Error",
        "statusCode": 500,
    }
    assert await api.gateway.pool.fetch("SELECT state, due_at, retry_round FROM deliveries") == [("FAILED", None, 1)]


async def test_a_recipient_that_the_provider_refuses(api, deliverer, mail):
    deliverer.answers["provider-sendgrid"] = RecipientRejected(Reason.UNKNOWN_RECIPIENT, "550 no such user")

    assert error_of(await send(api, mail), 500) == "All providers failed: 550 no such user"
    assert len(deliverer.calls) == 1


async def test_without_a_provider(api, deliverer):
    await with_a_sender(api)

    text = error_of(await send(api, await a_template(api)), 500)

    assert text == "All providers failed: the project has no enabled provider for email"


async def test_while_all_providers_are_suspended_the_caller_does_not_wait(api, deliverer, mail):
    for row in api.gateway.config.providers.values():
        deliverer.health[row.id] = ProviderHealth(
            provider_id=row.id,
            project_id=row.project_id,
            channel=Channel.EMAIL,
            status="unhealthy",
            suspended_until=utc_now() + seconds(600),
            updated_at=utc_now(),
        )

    assert "all providers suspended until" in error_of(await send(api, mail), 500)


async def test_a_suppressed_recipient_is_an_error_and_no_provider_is_called(api, deliverer, mail):
    new = NewSuppression(
        Recipient(api.project_id, Channel.EMAIL, "user@example.com"), SuppressionReason.COMPLAINT, "", None, None, None
    )
    await suppressions.add(api.gateway.pool, [new], now=utc_now())
    await wait_until(lambda: getattr(known_project(api), "has_suppressions", False))

    text = error_of(await send(api, mail), 400)

    assert text == "to: the address is suppressed: complaint"
    assert deliverer.calls == []


async def test_after_the_limit_the_answer_is_202_and_the_message_is_sent_all_the_same(api, deliverer, mail):
    deliverer.gate.clear()
    api.gateway.settled._limit = 0.05

    answer = await send(api, mail)

    assert answer.status_code == 202
    message_id = answer.json()["messageId"]
    assert answer.json() == {"message": "Email queued", "messageId": message_id}
    deliverer.gate.set()
    await wait_until(lambda: deliverer.calls)


async def test_an_unknown_outcome_is_202_and_no_provider_sends_a_duplicate(api, deliverer, mail):
    deliverer.answers["provider-sendgrid"] = Unknown("no answer")
    api.gateway.settled._limit = 0.5

    answer = await send(api, mail)

    assert answer.status_code == 202
    assert len(deliverer.calls) == 1


async def test_a_caller_that_hangs_up_changes_nothing(api, deliverer, mail):
    deliverer.gate.clear()
    caller = asyncio.create_task(send(api, mail))
    await wait_until(lambda: len(api.gateway.settled._waiting))

    caller.cancel()
    await asyncio.wait([caller])
    deliverer.gate.set()

    await wait_until(lambda: api.gateway.pool.fetchval("SELECT count(*) FROM deliveries WHERE state = 'SENT'"))
    assert not api.gateway.settled._waiting


async def test_an_idempotency_key_is_utf_8_as_that_of_every_request(api, deliverer, mail):
    """Its bytes were read as Latin-1: some letters were control characters then."""
    first, again = [await send(api, mail, headers={"idempotency-key": "заказ-А".encode()}) for _ in range(2)]

    assert (first.status_code, again.json()) == (200, first.json())
    for key in ("clé".encode("latin-1"), ("я" * 256).encode()):
        refused = await send(api, mail, headers={"idempotency-key": key})
        assert refused.status_code == 400
        assert "Idempotency-Key" in refused.json()["message"]


async def test_the_same_idempotency_key_sends_once_and_gets_the_first_answer(api, deliverer, mail):
    key = {"idempotency-key": "order-7"}

    first, second = await asyncio.gather(send(api, mail, headers=key), send(api, mail, headers=key))
    third = await send(api, mail, headers=key)
    other = await send(api, mail, headers=key, to="other@example.com")

    assert first.json() == second.json() == third.json()
    assert third.headers["idempotent-replayed"] == "true"
    assert len(deliverer.calls) == 1
    error_of(other, 409, "Conflict")


async def delete_template(api, template):
    answer = await api.gateway.ask("DELETE", f"/v1/templates/{encode_id('tpl', decode_id('tpl', template))}")
    assert answer.status_code == 200, answer.text


async def delete_provider(api, provider_id):
    answer = await api.gateway.ask("DELETE", f"/v1/providers/{encode_id('prv', provider_id)}")
    assert answer.status_code == 200, answer.text
    await wait_until(lambda: api.gateway.config.providers[provider_id].deleted)


@pytest.mark.parametrize("path", ["/email/send", "/email/send-bulk"])
async def test_a_repeat_gets_the_first_answer_although_its_template_is_gone(api, deliverer, mail, path):
    body = EMAIL if path == "/email/send" else BULK | {"recipients": ["ada@example.com", "no address"]}
    key = {"idempotency-key": "order-7"}

    first = await send(api, mail, path, headers=key, **body)
    await delete_template(api, mail)
    again = await send(api, mail, path, headers=key, **body)
    new = await send(api, mail, path, headers={"idempotency-key": "order-8"}, **body)

    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    error_of(new, 404, "Template not found")
    assert len(deliverer.calls) == 1


@pytest.mark.parametrize("path", ["/message/send", "/message/send-bulk"])
@pytest.mark.parametrize("name", ["telegram", "{id}"])
async def test_a_repeat_gets_the_first_answer_although_its_preferred_provider_is_gone(api, deliverer, path, name):
    provider_id = await deliverer.add_provider("provider-telegram", "telegram")
    to = {"to": "123456789"} if path == "/message/send" else {"recipients": ["123456789"] * 2}
    body = to | {"variables": {"code": "7"}, "preferredProvider": name.format(id=provider_id)}
    key, template = {"idempotency-key": "order-7"}, await a_text(api)

    first = await send(api, template, path, headers=key, **body)
    await delete_provider(api, provider_id)
    again = await send(api, template, path, headers=key, **body)
    other = await send(api, template, path, headers=key, **body | {"variables": {"code": "8"}})
    new = await send(api, template, path, **body)

    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert other.status_code in (400, 409)
    assert error_of(new, 400).startswith("preferredProvider: ")
    assert len(deliverer.calls) == 1


async def test_a_message_that_is_cancelled_meanwhile(api, deliverer, mail):
    deliverer.gate.clear()
    sending = asyncio.create_task(send(api, mail))
    message_id = await wait_until(lambda: next(iter(api.gateway.settled._waiting), None))

    await api.gateway.ask("DELETE", f"/v1/messages/{encode_id('msg', message_id)}/cancel")

    assert "cancelled" in error_of(await sending, 409, "Conflict")


def test_a_cancelled_message_is_cancelled_also_where_its_last_recipient_was_suppressed():
    def result(state, reason):
        return DeliveryResult(uuid7(), "a device", state, None, reason, "")

    failure = failure_of([result(State.CANCELLED, None), result(State.FAILED, Reason.SUPPRESSED)])

    assert isinstance(failure, SendCancelled)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"to": "not an address"}, "to"),
        ({"to": None}, "to"),
        ({"to": ["a@example.com"]}, "to"),
        ({"variables": []}, "variables"),
        ({"subject": ""}, "subject"),
        ({"cc": "a@example.com"}, "cc"),
        ({"preferredProvider": "twilio"}, "preferredProvider"),
        ({"preferredProvider": "ses"}, "preferredProvider"),
        ({"preferredProvider": str(uuid7())}, "preferredProvider"),
        ({"templateId": None}, "templateId"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_stored(api, deliverer, mail, changes, field):
    template = changes.get("templateId", mail)

    text = error_of(await send(api, template, **{name: changes[name] for name in changes if name != "templateId"}), 400)

    assert text.startswith(f"{field}: "), text
    assert await api.gateway.count() == 0


# -- many e-mails --------------------------------------------------------------------------------------------------


async def test_the_documented_bulk_gets_the_documented_answer(api, deliverer, mail):
    answer = await send(api, mail, "/email/send-bulk", **BULK)

    assert answer.status_code == 200, answer.text
    fields = answer.json()
    assert (fields["message"], fields["success"]) == ("Bulk email processed: 2 sent, 0 failed", True)
    assert [one["recipient"] for one in fields["results"]] == BULK["recipients"]
    for one in fields["results"]:
        assert set(one) == {"recipient", "success", "messageId", "provider", "deliveryLogId"}
        assert (one["success"], one["provider"]) == (True, "sendgrid")
    assert len({one["messageId"] for one in fields["results"]}) == 2


async def test_of_a_thousand_recipients_three_bad_ones_fail_alone(api, deliverer, mail):
    recipients = [f"user{number}@example.com" for number in range(1000)]
    recipients[10], recipients[500] = "not an address", "user@"
    deliverer.answers[("provider-sendgrid", recipients[999])] = RecipientRejected(Reason.DISABLED, "550 closed")

    answer = await send(api, mail, "/email/send-bulk", subject="News", recipients=recipients)

    fields = answer.json()
    assert answer.status_code == 200
    assert (fields["message"], fields["success"]) == ("Bulk email processed: 997 sent, 3 failed", False)
    failed = {index: one for index, one in enumerate(fields["results"]) if not one["success"]}
    assert set(failed) == {10, 500, 999}
    assert failed[10]["error"].startswith("recipients.10: ")
    assert failed[999]["error"] == "All providers failed: 550 closed"
    assert failed[999]["provider"] == "sendgrid"
    assert len(deliverer.calls) == 998


async def test_a_repeated_recipient_gets_one_mail(api, deliverer, mail):
    recipients = ["ada@example.com", "Ada <ada@example.com>", "ada@example.com"]

    answer = await send(api, mail, "/email/send-bulk", subject="News", recipients=recipients)

    assert len({one["messageId"] for one in answer.json()["results"]}) == 1
    assert [one["recipient"] for one in answer.json()["results"]] == recipients
    assert len(deliverer.calls) == 1


async def test_a_repeated_bulk_with_a_key_sends_nothing_twice(api, deliverer, mail):
    key = {"idempotency-key": "news"}

    first = await send(api, mail, "/email/send-bulk", headers=key, **BULK)
    second = await send(api, mail, "/email/send-bulk", headers=key, **BULK)

    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert len(deliverer.calls) == 2


async def test_a_bulk_that_is_not_done_in_time(api, deliverer, mail):
    deliverer.gate.clear()
    api.gateway.settled._limit = 0.05

    answer = await send(api, mail, "/email/send-bulk", **BULK)

    assert answer.status_code == 202
    assert answer.json()["message"] == "Bulk email processed: 0 sent, 0 failed, 2 queued"
    assert [set(one) for one in answer.json()["results"]] == [{"recipient", "success", "messageId", "queued"}] * 2


@pytest.mark.parametrize("recipients", [[], ["a@example.com"] * 1001, "a@example.com", [7]])
async def test_a_bulk_with_a_wrong_list_is_refused(api, deliverer, mail, recipients):
    assert "recipients" in error_of(await send(api, mail, "/email/send-bulk", subject="S", recipients=recipients), 400)


# -- texts ---------------------------------------------------------------------------------------------------------


async def test_a_text_is_an_sms_unless_the_preferred_provider_says_otherwise(api, deliverer):
    packages = {"twilio": "sms", "meta-cloud": "whatsapp", "telegram": "telegram", "signal": "signal"}
    for package, channel in packages.items():
        await deliverer.add_provider(f"provider-{package}", channel)
    template = await a_text(api)
    wanted = {None: "+14155551234", "whatsapp": "+14155551234", "telegram": "123456789", "signal": "+14155551234"}

    answers = [
        await send(api, template, "/message/send", to=to, variables={"code": "7"}, preferredProvider=provider)
        for provider, to in wanted.items()
    ]

    assert [answer.json()["message"] for answer in answers] == ["Message sent successfully"] * 4
    assert [answer.json()["provider"] for answer in answers] == ["twilio", "whatsapp", "telegram", "signal"]
    rows = await api.gateway.pool.fetch("SELECT content::json ->> 'text' FROM messages")
    assert {row[0] for row in rows} == {"Your code is 7"}


async def test_the_preferred_provider_falls_back_by_priority_within_its_channel(api, deliverer):
    for package, channel in (("termii", "sms"), ("twilio", "sms"), ("meta-cloud", "whatsapp")):
        await deliverer.add_provider(f"provider-{package}", channel)
    template = await a_text(api)
    deliverer.answers["provider-twilio"] = ProviderFault("500")
    deliverer.answers["provider-meta-cloud"] = ProviderFault("131000")
    to = "+14155551234"

    sms = await send(api, template, "/message/send", to=to, preferredProvider="twilio")
    app = await send(api, template, "/message/send", to=to, preferredProvider="whatsapp")

    assert sms.json()["provider"] == "termii"
    assert [package for package, _ in deliverer.calls] == ["provider-twilio", "provider-termii", "provider-meta-cloud"]
    assert error_of(app, 500) == "All providers failed: 131000"


@pytest.mark.parametrize(("to", "provider"), [("12345", None), ("ada@example.com", None), ("1234", "whatsapp")])
async def test_a_number_has_to_be_one(api, deliverer, to, provider):
    await deliverer.add_provider("provider-meta-cloud", "whatsapp")

    answer = await send(api, await a_text(api), "/message/send", to=to, preferredProvider=provider)

    assert error_of(answer, 400).startswith("to: is not a phone number")


async def test_many_texts(api, deliverer):
    await deliverer.add_provider("provider-twilio", "sms")
    recipients = ["+14155550001", "14155550002", "+14155550003"]

    answer = await send(api, await a_text(api), "/message/send-bulk", recipients=recipients, variables={"code": "7"})

    fields = answer.json()
    assert (fields["message"], fields["success"]) == ("Bulk message operation completed", False)
    assert [one["success"] for one in fields["results"]] == [True, False, True]
