"""The delivery log, retries of its entries, and the statistics of queues."""

import asyncio

import pytest

from gateway.errors import Unavailable
from gateway.messages import retry as retrying
from sluice.model.ids import decode_id, encode_id, uuid7
from sluice.model.outcome import ProviderFault, RecipientRejected
from sluice.model.reasons import Reason
from sluice.store import delivery_log
from tests.polling import wait_until
from tests.services.people import a_person
from tests.services.project_api.conftest import error_of
from tests.services.project_api.test_sending import BULK, a_text, mail, send  # noqa: F401  (a fixture)

ENTRY = {
    *("id", "messageId", "messageType", "channel", "recipient", "status", "provider", "templateId", "projectId"),
    *("error", "createdAt"),
}


async def log(api, **filters):
    answer = await api.ask_with_key("GET", "/delivery-log", params=filters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def entry_of(api, **filters):
    [entry] = (await log(api, **filters))["data"]
    return entry


@pytest.fixture
async def failed(api, deliverer, mail):  # noqa: F811
    """The entry of an e-mail that both providers refused."""
    deliverer.answers["provider-sendgrid"] = ProviderFault("503")
    deliverer.answers["provider-mailgun"] = ProviderFault("502")
    await send(api, mail)
    deliverer.answers.clear()
    return await entry_of(api, status="failed")


# -- the log -------------------------------------------------------------------------------------------------------


async def test_the_log_has_the_documented_fields_newest_first(api, deliverer, mail):  # noqa: F811
    await send(api, mail, to="first@example.com")
    await send(api, mail, to="second@example.com")

    found = await log(api, projectId=str(api.project_id), messageType="email", status="sent", page=1, limit=50)

    assert [entry["recipient"] for entry in found["data"]] == ["second@example.com", "first@example.com"]
    entry = found["data"][0]
    assert set(entry) == ENTRY
    assert (entry["status"], entry["provider"], entry["templateId"]) == ("sent", "sendgrid", mail)
    assert (entry["messageType"], entry["projectId"], entry["error"]) == ("email", str(api.project_id), None)
    assert found["meta"] == {
        "total": 2,
        "page": 1,
        "limit": 50,
        "totalPages": 1,
        "hasNextPage": False,
        "hasPreviousPage": False,
        "totalIsExact": True,
    }


async def test_pages_are_numbered_and_have_the_same_total(api, deliverer, mail):  # noqa: F811
    await send(api, mail, "/email/send-bulk", **BULK | {"recipients": [f"user{n}@example.com" for n in range(5)]})

    pages = [await log(api, limit=2, page=page) for page in (1, 2, 3, 4)]

    assert [len(page["data"]) for page in pages] == [2, 2, 1, 0]
    assert {page["meta"]["total"] for page in pages} == {5}
    assert [page["meta"]["hasNextPage"] for page in pages] == [True, True, False, False]
    assert len({entry["id"] for page in pages for entry in page["data"]}) == 5


async def test_every_status_finds_its_deliveries(api, deliverer, mail):  # noqa: F811
    refused = RecipientRejected(Reason.UNKNOWN_RECIPIENT, "550 no such user")
    deliverer.answers[("provider-sendgrid", "rejected@example.com")] = refused
    for package in ("sendgrid", "mailgun"):
        deliverer.answers[(f"provider-{package}", "failed@example.com")] = ProviderFault("503")
    names = ("sent", "failed", "rejected", "delivered", "bounced", "pending")
    await send(api, mail, "/email/send-bulk", **BULK | {"recipients": [f"{name}@example.com" for name in names]})
    for name, state in (("delivered", "DELIVERED"), ("bounced", "BOUNCED"), ("pending", "QUEUED")):
        await api.gateway.pool.execute(
            "UPDATE deliveries SET state = $2 WHERE recipient = $1", f"{name}@example.com", state
        )

    found = {name: [entry["recipient"] for entry in (await log(api, status=name))["data"]] for name in names}

    assert found == {name: [f"{name}@example.com"] for name in names}
    whole = {entry["recipient"].partition("@")[0]: entry for entry in (await log(api))["data"]}
    assert {name: entry["status"] for name, entry in whole.items()} == {name: name for name in names}
    assert (whole["rejected"]["error"], whole["failed"]["error"]) == ("550 no such user", "503")


async def test_the_type_of_a_message_and_the_time(api, deliverer, mail):  # noqa: F811
    for package, channel in (("twilio", "sms"), ("telegram", "telegram"), ("meta-cloud", "whatsapp")):
        await deliverer.add_provider(f"provider-{package}", channel)
    text = await a_text(api)
    await send(api, mail)
    for provider in (None, "telegram", "whatsapp"):
        await send(api, text, "/message/send", to="+14155551234", preferredProvider=provider)

    found = {
        kind: [entry["channel"] for entry in (await log(api, messageType=kind))["data"]]
        for kind in ("email", "sms", "app", "push")
    }

    assert found == {"email": ["email"], "sms": ["sms"], "app": ["whatsapp", "telegram"], "push": []}
    assert (await log(api, **{"to": "2020-01-01T00:00:00Z"}))["data"] == []
    assert len((await log(api, **{"from": "2020-01-01T00:00:00Z"}))["data"]) == 4


async def test_a_log_that_is_longer_than_its_window_says_so(api, deliverer, mail, monkeypatch):  # noqa: F811
    monkeypatch.setattr(delivery_log, "WINDOW", 3)
    await send(api, mail, "/email/send-bulk", **BULK | {"recipients": [f"user{n}@example.com" for n in range(5)]})

    for filters in ({}, {"messageType": "email"}, {"status": "sent"}):
        found = await log(api, **filters)
        assert [entry["recipient"] for entry in found["data"]] == [f"user{n}@example.com" for n in (4, 3, 2)]
        assert (found["meta"]["total"], found["meta"]["totalIsExact"]) == (3, False)


@pytest.mark.parametrize(
    "filters",
    [{"status": "lost"}, {"messageType": "fax"}, {"limit": 101}, {"page": 0}, {"page": 10**9}, {"from": "yesterday"}],
)
async def test_a_wrong_filter_is_named(api, filters):
    [name] = filters

    assert error_of(await api.ask_with_key("GET", "/delivery-log", params=filters), 400).startswith(f"{name}: ")


async def test_an_entry_has_its_attempts(api, failed):
    answer = await api.ask_with_key("GET", f"/delivery-log/{failed['id']}")

    entry = answer.json()
    assert set(entry) == ENTRY | {"attempts"}
    assert (entry["status"], entry["error"]) == ("failed", "502")
    assert [(one["number"], one["provider"], one["outcome"], one["error"]) for one in entry["attempts"]] == [
        (1, "sendgrid", "provider_fault", "503"),
        (2, "mailgun", "provider_fault", "502"),
    ]


async def test_entries_of_others_and_of_test_keys_are_not_visible(api, failed):
    other = await api.gateway.new_project("other")
    test_key = await api.gateway.another_key(is_test=True)
    stranger = await a_person(api.gateway, "stranger@example.com", other="owner")

    for key in (other, test_key):
        error_of(await api.ask_with_key("GET", f"/delivery-log/{failed['id']}", key=key), 404)
        answer = await api.ask_with_key("GET", "/delivery-log", key=key)
        assert answer.json()["data"] == []
    error_of(await stranger.ask_project_api("GET", f"/delivery-log/{failed['id']}"), 404)
    error_of(await api.ask_with_key("GET", "/delivery-log/nonsense"), 404)
    owned = await api.ask("GET", f"/delivery-log/{failed['id']}")
    assert owned.json()["id"] == failed["id"]


async def test_a_message_of_v1_is_in_the_log_with_its_other_form_of_id(api, deliverer, mail):  # noqa: F811
    answer = await api.gateway.post()
    await wait_until(lambda: deliverer.calls)

    entry = (await log(api))["data"][0]

    assert encode_id("msg", decode_id("msg", entry["messageId"])) == answer.json()["id"]


# -- retries -------------------------------------------------------------------------------------------------------


async def retry(api, entry, **changes):
    return await api.ask_with_key("POST", "/email/retry", json={"deliveryLogId": entry["id"]} | changes)


async def content(api, message_id):
    return await api.gateway.pool.fetchval("SELECT content FROM messages WHERE id = $1", decode_id("msg", message_id))


async def test_a_failed_e_mail_is_sent_again_with_the_same_content(api, deliverer, failed):
    calls = len(deliverer.calls)

    answer = await retry(api, failed)

    assert answer.status_code == 200, answer.text
    assert answer.json()["message"] == "Email added to retry queue successfully"
    await wait_until(lambda: len(deliverer.calls) > calls)
    new = answer.json()["messageId"]
    assert new != failed["messageId"]
    assert await content(api, new) == await content(api, failed["messageId"])
    sent = await wait_until(lambda: sent_entry(api))
    assert (sent["messageId"], sent["recipient"], sent["templateId"]) == (
        new,
        failed["recipient"],
        failed["templateId"],
    )


async def sent_entry(api):
    found = (await log(api, status="sent"))["data"]
    return found[0] if found else None


async def test_an_entry_is_retried_once(api, deliverer, failed):
    answers = await asyncio.gather(retry(api, failed), retry(api, failed))

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    [refused] = [answer for answer in answers if answer.status_code == 409]
    [done] = [answer for answer in answers if answer.status_code == 200]
    assert done.json()["messageId"] in error_of(refused, 409, "Conflict")


async def test_only_failed_e_mails_are_retried(api, deliverer, failed):
    await send(api, failed["templateId"])
    sent = await entry_of(api, status="sent")
    await deliverer.add_provider("provider-twilio", "sms")
    deliverer.answers["provider-twilio"] = ProviderFault("500")
    await send(api, await a_text(api), "/message/send", to="+14155551234")
    text = await entry_of(api, messageType="sms")

    error_of(await retry(api, sent), 409, "Conflict")
    error_of(await retry(api, text), 404, "Not Found")
    error_of(await retry(api, {"id": str(uuid7())}), 404)
    error_of(await retry(api, {"id": "nonsense"}), 404)


async def test_an_entry_of_another_project_is_not_retried(api, failed):
    other = await api.gateway.new_project("other")

    answer = await api.ask_with_key("POST", "/email/retry", key=other, json={"deliveryLogId": failed["id"]})

    error_of(answer, 404)


async def test_an_e_mail_whose_content_was_erased_is_not_retried(api, failed):
    await api.gateway.pool.execute("UPDATE messages SET content = '{}'")

    assert "content" in error_of(await retry(api, failed), 409)


async def test_an_e_mail_with_attachments_copies_and_a_link_to_unsubscribe_is_retried_with_them(api, deliverer, failed):
    deliverer.answers["provider-sendgrid"] = RecipientRejected(Reason.FULL, "452 full")
    body = {
        "channel": "email",
        "from": "Shop <shop@example.com>",
        "to": ["ada@example.com"],
        "subject": "Bill",
        "text": "See the file.",
        "unsubscribe": True,
        "tags": ["bills"],
        "attachments": [{"filename": "a.txt", "content": "aGVsbG8="}],
    }
    await api.gateway.ask("POST", "/v1/messages/channel", json=body)
    entry = await wait_until(lambda: rejected_entry(api))

    answer = await retry(api, entry)

    assert answer.status_code == 200, answer.text
    first, second = [
        await api.gateway.pool.fetchrow(
            "SELECT content::jsonb - 'unsubscribe_url' AS rest, content::json ->> 'unsubscribe_url' AS link, tags,"
            " sender FROM messages WHERE id = $1",
            decode_id("msg", message_id),
        )
        for message_id in (entry["messageId"], answer.json()["messageId"])
    ]
    assert (second["rest"], second["tags"], second["sender"]) == (first["rest"], first["tags"], first["sender"])
    assert second["link"] not in (None, first["link"])


async def rejected_entry(api):
    found = (await log(api, status="rejected"))["data"]
    return found[0] if found else None


async def test_several_entries(api, deliverer, failed):
    await send(api, failed["templateId"])
    sent = await entry_of(api, status="sent")
    entries = [failed["id"], sent["id"], str(uuid7()), failed["id"]]

    answer = await api.ask_with_key("POST", "/email/retry-multiple", json={"deliveryLogIds": entries})

    assert answer.status_code == 200, answer.text
    fields = answer.json()
    assert fields["message"] == "Emails processed for retry"
    assert [one["deliveryLogId"] for one in fields["results"]] == entries
    assert [one["success"] for one in fields["results"]] == [True, False, False, True]
    assert fields["results"][0]["messageId"] == fields["results"][3]["messageId"]
    assert fields["results"][2]["error"] == "Delivery log entry not found"


async def test_entries_that_could_not_be_stored_have_an_error_beside_those_that_were(
    api, deliverer, failed, monkeypatch
):
    monkeypatch.setattr(retrying, "_CHUNK", 1)
    entries, send_chunk = [failed["id"], str(uuid7())], retrying._send

    async def once(*args):
        monkeypatch.setattr(retrying, "_send", unavailable)
        return await send_chunk(*args)

    async def unavailable(*args):
        raise Unavailable("Retry later.")

    monkeypatch.setattr(retrying, "_send", once)
    first = await api.ask_with_key("POST", "/email/retry-multiple", json={"deliveryLogIds": entries})
    second = await api.ask_with_key("POST", "/email/retry-multiple", json={"deliveryLogIds": entries})

    results = first.json()["results"]
    assert [(one["success"], one.get("error")) for one in results] == [(True, None), (False, "Retry later.")]
    error_of(second, 503)


@pytest.mark.parametrize("entries", [[], "one", [1], ["x"] * 1001])
async def test_a_wrong_list_of_entries(api, entries):
    answer = await api.ask_with_key("POST", "/email/retry-multiple", json={"deliveryLogIds": entries})

    assert error_of(answer, 400).startswith("deliveryLogIds")


# -- queues --------------------------------------------------------------------------------------------------------


async def test_the_statistics_of_the_queues(api, deliverer, failed):
    await send(api, failed["templateId"])
    await send(api, failed["templateId"])
    deliverer.gate.clear()
    waiting = [asyncio.create_task(send(api, failed["templateId"])) for _ in range(3)]
    await wait_until(lambda: len(api.gateway.settled._waiting) == 3)

    found = {
        group: (await api.ask_with_key("GET", f"/{group}/queue-stats")).json() for group in ("email", "message", "push")
    }
    deliverer.gate.set()
    await asyncio.gather(*waiting)

    nothing = dict.fromkeys(("pending", "processing", "failed", "completed"), 0)
    assert found == {
        "email": {"pending": 3, "processing": 0, "failed": 1, "completed": 2},
        "message": nothing,
        "push": nothing,
    }
