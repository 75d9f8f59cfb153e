"""Sending domains of ``/v1``, checked against a DNS server of this machine."""

import asyncio
from contextlib import asynccontextmanager

import dns.message
import dns.rdatatype
import dns.rrset
import pytest

from gateway.domains.checker import DomainChecker, RecordStatus
from sluice.model.ids import decode_id
from sluice.runtime.errors import SluiceError
from tests.examples import a_body, as_json
from tests.services.people import a_person
from tests.services.test_gateway import error_of

DOMAINS = "/v1/domains"
MAIL_DOMAIN = "mail.sluice.example"


class _DnsServer(asyncio.DatagramProtocol):
    """Answers from ``zone``: texts by (name, type). ``silent``: it does not answer."""

    def __init__(self, zone):
        self.zone, self.silent = zone, False

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        if self.silent:
            return
        query = dns.message.from_wire(data)
        (question,) = query.question
        answer = dns.message.make_response(query)
        texts = self.zone.get((question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)), [])
        if texts:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", question.rdtype, *texts))
        self.transport.sendto(answer.to_wire(), peer)


@asynccontextmanager
async def dns_server(zone):
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _DnsServer(zone), local_addr=("127.0.0.1", 0)
    )
    server.address = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    yield server
    transport.close()


@pytest.fixture
async def server(gateway):
    async with dns_server({}) as server:
        checker = DomainChecker(servers=[server.address], mail_domain=MAIL_DOMAIN)
        object.__setattr__(gateway.services, "domains", checker)
        yield server


async def add(gateway, domain="shop.example"):
    answer = await gateway.ask("POST", DOMAINS, json={"domain": domain})
    assert answer.status_code == 201, answer.text
    return answer.json()


def zone_of(created):
    """The records that the answer asks for."""
    zone = {}
    for record in created["records"]:
        name = created["domain"] if record["host"] == "@" else f"{record['host']}.{created['domain']}"
        text = f'"{record["value"]}"' if record["type"] == "TXT" else f"{record['value']}."
        zone[f"{name}.", record["type"]] = [text]
    return zone


def statuses(answer):
    return {record["purpose"]: record["status"] for record in answer.json()["records"]}


async def test_a_domain_with_all_its_records_is_verified(gateway, server):
    created = await add(gateway)
    path = f"{DOMAINS}/{created['id']}"
    server.zone.update(zone_of(created))

    verified = await gateway.ask("GET", f"{path}/verify")

    assert (created["status"], created["checked_at"]) == ("pending", None)
    assert [(record["type"], record["host"]) for record in created["records"]] == [
        ("TXT", "_sendpipe-verify"),
        ("TXT", "@"),
        ("CNAME", "sendpipe._domainkey"),
        ("TXT", "_dmarc"),
    ]
    assert (verified.json()["status"], set(statuses(verified).values())) == ("verified", {"verified"})
    assert (await gateway.ask("GET", path)).json() == verified.json()
    assert (await gateway.ask("GET", DOMAINS)).json()["data"] == [verified.json()]


SPF, DMARC, DKIM, OWN = (
    ("shop.example.", "TXT"),
    ("_dmarc.shop.example.", "TXT"),
    ("sendpipe._domainkey.shop.example.", "CNAME"),
    ("_sendpipe-verify.shop.example.", "TXT"),
)


@pytest.mark.parametrize(
    ("key", "texts", "purpose", "status"),
    [
        (SPF, [], "spf", "missing"),
        (SPF, ['"v=spf1 -all"'], "spf", "mismatch"),
        (SPF, [f'"v=spf1 include:x{MAIL_DOMAIN} -all"'], "spf", "mismatch"),
        (SPF, [f'"v=spf1 -include:{MAIL_DOMAIN} ~all"'], "spf", "mismatch"),
        (SPF, [f'"v=spf1 include:{MAIL_DOMAIN} -all"', '"v=spf1 -all"'], "spf", "mismatch"),
        (SPF, [f'"v=spf1 include:" "{MAIL_DOMAIN} -all"', '"other"'], "spf", "verified"),
        (DKIM, ["other.example."], "dkim", "mismatch"),
        (DKIM, [f"SendPipe._domainkey.{MAIL_DOMAIN.upper()}."], "dkim", "verified"),
        (DMARC, ['"v=DMARC1; p=reject; rua=mailto:a@shop.example"'], "dmarc", "verified"),
        (DMARC, ['"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'], "dmarc", "mismatch"),
        (OWN, ['"sluice-verify=0"'], "ownership", "mismatch"),
    ],
)
async def test_each_record_has_its_status(gateway, server, key, texts, purpose, status):
    created = await add(gateway)
    server.zone.update(zone_of(created) | {key: texts})

    answer = await gateway.ask("GET", f"{DOMAINS}/{created['id']}/verify")

    assert statuses(answer)[purpose] == status
    assert answer.json()["status"] == ("verified" if status == "verified" else "failed")


async def test_a_silent_dns_server_changes_no_status(gateway, server, monkeypatch):
    monkeypatch.setattr("gateway.domains.checker._LIFETIME", 0.5)
    created = await add(gateway)
    server.zone.update(zone_of(created))
    verified = await gateway.ask("GET", f"{DOMAINS}/{created['id']}/verify")
    server.silent = True

    again = await gateway.ask("GET", f"{DOMAINS}/{created['id']}/verify")

    assert statuses(again) == statuses(verified)


async def test_an_international_domain_is_stored_in_punycode(gateway):
    assert (await add(gateway, "Bücher.Example"))["domain"] == "xn--bcher-kva.example"


@pytest.mark.parametrize("domain", ["x", "a b.example", "a@b.example", "-a.example", "127.0.0.1", "a\nb.example", ""])
async def test_a_bad_domain_is_refused(gateway, domain):
    answer = await gateway.ask("POST", DOMAINS, json={"domain": domain})

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == "domain"


async def test_a_domain_is_added_once_per_project(gateway):
    await add(gateway)
    eve = await a_person(gateway, "eve@example.com", evil="owner")

    again = await gateway.ask("POST", DOMAINS, json={"domain": "SHOP.example."})
    other = await eve.ask("POST", DOMAINS, project="evil", json={"domain": "shop.example"})

    error_of(again, 409, "DOMAIN_ALREADY_EXISTS")
    assert other.status_code == 201


async def test_a_domain_with_messages_under_way_stays(gateway):
    created = await add(gateway, "example.com")
    other = await add(gateway, "ample.com")
    sent = await gateway.post(as_json(a_body(**{"from": "Shop <hello@Example.com>"})))
    path = f"{DOMAINS}/{created['id']}"

    refused = await gateway.ask("DELETE", path)
    unrelated = await gateway.ask("DELETE", f"{DOMAINS}/{other['id']}")
    await gateway.ask("DELETE", f"/v1/messages/{sent.json()['id']}/cancel")
    deleted = await gateway.ask("DELETE", path)

    error_of(refused, 409, "DOMAIN_HAS_ACTIVE_MESSAGES")
    assert (unrelated.status_code, deleted.json()) == (200, {"id": created["id"], "deleted": True})
    error_of(await gateway.ask("GET", path), 404, "NOT_FOUND")


async def test_changes_leave_entries(gateway, server):
    ada = await a_person(gateway, "ada@example.com", shop="owner")
    path = f"{DOMAINS}/{(await add(gateway))['id']}"
    for method, suffix in (("GET", "/verify"), ("GET", "/verify"), ("DELETE", "")):
        await gateway.ask(method, path + suffix)

    entries = (await ada.ask("GET", "/v1/audit", project="shop")).json()["data"][::-1]

    assert [(entry["noun"], entry["action"]) for entry in entries] == [
        ("domain", "created"),
        ("domain", "verified"),
        ("domain", "deleted"),
    ]


async def test_without_a_mail_domain_the_providers_name_spf_and_dkim():
    async with dns_server({}) as server:
        checker = DomainChecker(servers=[server.address])
        records = checker.records("t")
        found = await checker.check("shop.example", records)

    assert [record.purpose.value for record in records] == ["ownership", "dmarc"]
    assert found == [RecordStatus.MISSING] * 2


@pytest.mark.parametrize("text", ["dns.example", "127.0.0.1:x", "127.0.0.1:70000", "1:2:3", ""])
def test_a_bad_server_is_refused(text):
    with pytest.raises(SluiceError, match="SLUICE_DNS_SERVERS"):
        DomainChecker(servers=[text])


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:5353"])
def test_a_server_may_have_a_port(text):
    DomainChecker(servers=[text])


async def test_the_id_is_one_of_a_domain(gateway):
    created = await add(gateway)
    decode_id("dom", created["id"])

    error_of(await gateway.ask("GET", f"{DOMAINS}/{created['id'].replace('dom_', 'prv_')}"), 404, "NOT_FOUND")
