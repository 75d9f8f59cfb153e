"""Projects that refuse e-mail from a domain that is not verified: ``verified_senders_only``."""

import json

import pytest

from gateway.bulk import expander
from gateway.domains.checker import Purpose
from sluice.model.ids import decode_id
from sluice.runtime.clock import utc_now
from sluice.store import domains
from tests.examples import a_body, as_json
from tests.polling import wait_until
from tests.services.fakes import FakeRecord
from tests.services.people import a_person
from tests.services.test_bulk import EMAIL, finished, upload
from tests.services.test_gateway import error_of

REFUSAL = "from: the domain {} is not verified, and this project sends from verified domains only"
ALL_FOUND = dict.fromkeys(Purpose, "verified")


@pytest.fixture
async def ada(gateway):
    return await a_person(gateway, "ada@example.com", shop="owner")


@pytest.fixture
async def project_id(gateway):
    return await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")


@pytest.fixture
async def strict(gateway, ada, project_id):
    """The project of the gateway's key has the setting."""
    await set_to(gateway, ada, project_id, verified_senders_only=True)


async def set_to(gateway, ada, project_id, **settings):
    answer = await ada.ask("PATCH", "/v1/projects/shop", json=settings)
    assert answer.status_code == 200, answer.text

    def is_known():
        project = gateway.config.projects.get(project_id)
        return all(getattr(project, name, None) == value for name, value in settings.items())

    await wait_until(is_known)


async def add(gateway, domain):
    answer = await gateway.ask("POST", "/v1/domains", json={"domain": domain})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def check_finds(gateway, project_id, created, statuses):
    """A check has found this, and the gateway knows it."""
    checked = await domains.record_check(
        gateway.pool, project_id, decode_id("dom", created["id"]), statuses=statuses, now=utc_now()
    )
    await wait_until(lambda: gateway.config.domain_statuses(project_id, created["domain"]) == checked.statuses)


async def verify(gateway, project_id, domain):
    created = await add(gateway, domain)
    await check_finds(gateway, project_id, created, ALL_FOUND)
    return created


async def send_from(gateway, sender, *, key=None, **headers):
    return await gateway.post(as_json(a_body(**{"from": sender})), key=key, **headers)


def check_refused(answer, domain):
    error = error_of(answer, 400, "VALIDATION_ERROR")
    assert (error["field"], error["message"]) == ("from", REFUSAL.format(domain))


async def test_by_default_any_sender_is_accepted(gateway, ada):
    await add(gateway, "shop.example")

    for sender in ("hello@shop.example", "hello@other.example"):
        assert (await send_from(gateway, sender)).status_code == 201
    assert (await ada.ask("GET", "/v1/projects/shop")).json()["verified_senders_only"] is False


async def test_with_the_setting_the_status_of_the_domain_decides(gateway, strict, project_id):
    unknown = await send_from(gateway, "hello@shop.example")
    created = await add(gateway, "shop.example")
    pending = await send_from(gateway, "hello@shop.example")
    await check_finds(gateway, project_id, created, ALL_FOUND | {"dkim": "missing"})
    failed = await send_from(gateway, "hello@shop.example")
    await check_finds(gateway, project_id, created, ALL_FOUND)
    verified = await send_from(gateway, "hello@shop.example")
    shown = await gateway.ask("GET", f"/v1/domains/{created['id']}")
    await gateway.ask("DELETE", f"/v1/messages/{verified.json()['id']}/cancel")
    await gateway.ask("DELETE", f"/v1/domains/{created['id']}")
    await wait_until(lambda: not gateway.config.domain_statuses(project_id, "shop.example"))
    deleted = await send_from(gateway, "hello@shop.example")

    for answer in (unknown, pending, failed, deleted):
        check_refused(answer, "shop.example")
    assert (verified.status_code, shown.json()["status"]) == (201, "verified")


async def test_without_the_setting_again_any_sender_is_accepted(gateway, ada, strict, project_id):
    await set_to(gateway, ada, project_id, verified_senders_only=False)

    assert (await send_from(gateway, "hello@other.example")).status_code == 201


async def test_a_verified_domain_of_another_project_does_not_count(gateway, strict, project_id):
    eve = await a_person(gateway, "eve@example.com", evil="owner")
    created = (await eve.ask("POST", "/v1/domains", project="evil", json={"domain": "shop.example"})).json()
    await eve.ask("PATCH", "/v1/projects/evil", json={"verified_senders_only": True})
    evil = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'evil'")
    await check_finds(gateway, evil, created, ALL_FOUND)

    check_refused(await send_from(gateway, "hello@shop.example"), "shop.example")


@pytest.mark.parametrize(
    "sender", ["Shop <hello@Bücher.Example>", "hello@xn--bcher-kva.example", '"a@b.example" <hello@BÜCHER.example>']
)
async def test_each_spelling_of_a_verified_domain_is_accepted(gateway, strict, project_id, sender):
    await verify(gateway, project_id, "bücher.example")

    assert (await send_from(gateway, sender)).status_code == 201


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ("hello@news.shop.example", "news.shop.example"),
        ("hello@example", "example"),
        ("hello@myshop.example", "myshop.example"),
        ('"hello@shop.example" <eve@evil.example>', "evil.example"),
        ('"hello@shop.example"@evil.example', "evil.example"),
        ("hello@shoρ.example", "xn--sho-kzc.example"),
    ],
)
async def test_a_verified_domain_is_none_of_its_subdomains_and_none_that_resembles_it(
    gateway, strict, project_id, sender, domain
):
    await verify(gateway, project_id, "shop.example")

    check_refused(await send_from(gateway, sender), domain)


async def test_the_default_sender_is_checked(gateway, ada, strict, project_id):
    await set_to(gateway, ada, project_id, default_sender="Shop <hello@shop.example>")
    refused = await send_from(gateway, None)
    await verify(gateway, project_id, "shop.example")

    check_refused(refused, "shop.example")
    assert (await send_from(gateway, None)).status_code == 201


async def test_a_test_message_is_checked_as_a_live_one(gateway, strict, project_id):
    key = await gateway.another_key(is_test=True)
    refused = await send_from(gateway, "hello@shop.example", key=key)
    await verify(gateway, project_id, "shop.example")

    check_refused(refused, "shop.example")
    assert (await send_from(gateway, "hello@shop.example", key=key)).status_code == 201


async def test_other_channels_have_no_domain(gateway, strict):
    answer = await gateway.post(as_json({"channel": "sms", "to": "+14155550100", "from": "Shop", "text": "x"}))

    assert answer.status_code == 201, answer.text


async def test_a_repeat_gets_the_first_answer(gateway, ada, project_id):
    first = await send_from(gateway, "hello@shop.example", idempotency_key="order-7")
    await set_to(gateway, ada, project_id, verified_senders_only=True)

    again = await send_from(gateway, "hello@shop.example", idempotency_key="order-7")

    assert (again.status_code, again.json()["id"]) == (first.status_code, first.json()["id"])
    check_refused(await send_from(gateway, "hello@shop.example", idempotency_key="order-8"), "shop.example")


async def test_in_a_batch_each_message_has_its_answer(gateway, strict, project_id):
    await verify(gateway, project_id, "shop.example")
    messages = [a_body(**{"from": f"hello@{domain}"}) for domain in ("shop.example", "other.example")]

    answer = await gateway.ask("POST", "/v1/messages/batch", json={"messages": messages})

    accepted, refused = answer.json()["data"]
    assert accepted["id"].startswith("msg_")
    assert (refused["error"]["field"], refused["error"]["message"]) == ("from", REFUSAL.format("other.example"))


async def test_each_row_of_a_bulk_job_is_refused(gateway, strict, monkeypatch):
    monkeypatch.setattr(expander, "_POLL_INTERVAL", 0.05)
    answer = await upload(gateway, EMAIL, [{"to": "ada@example.com", "variables": {"name": "Ada"}}])

    job = await finished(gateway, answer.json())

    results = await gateway.ask("GET", f"/v1/messages/bulk/{job['id']}/results")
    assert (job["accepted"], job["rejected"], await gateway.count()) == (0, 1, 0)
    assert REFUSAL.format("example.com") in results.text


async def test_a_record_on_kafka_is_rejected(gateway, strict):
    record = FakeRecord(as_json(a_body()), headers=(("x-sendpipe-key", gateway.key.encode()),))

    await gateway.ingress.handle_batch([record])
    await wait_until(lambda: record.acked)

    (event,) = map(json.loads, gateway.bus.on("delivery.events"))
    assert (event["type"], event["code"], event["field"]) == ("request_rejected", "VALIDATION_ERROR", "from")


async def test_the_setting_is_true_or_false_and_a_change_is_in_the_audit_log(gateway, ada, strict):
    for value in (None, "maybe"):
        refused = await ada.ask("PATCH", "/v1/projects/shop", json={"verified_senders_only": value})
        error_of(refused, 400, "VALIDATION_ERROR")

    (entry,) = (await ada.ask("GET", "/v1/audit", project="shop", params={"noun": "project"})).json()["data"]
    assert entry["changes"] == {"verified_senders_only": True}
