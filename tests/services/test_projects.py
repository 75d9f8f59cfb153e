"""Projects, members, keys and the audit log."""

import asyncio
import json

import pytest
from aiosmtpd.controller import Controller

from gateway.kit.pagination import encode_cursor
from sluice.delivery.mailer import Mailer
from sluice.model.ids import encode_id
from sluice.model.roles import Role
from sluice.model.routing_policy import RoutingPolicy
from sluice.providers.adapters.smtp import SmtpCredentials
from sluice.runtime.clock import utc_now
from sluice.store import audit, memberships
from sluice_launcher.process_info import free_port
from tests.examples import a_body, an_id
from tests.polling import wait_until
from tests.services.people import PASSWORD, a_person, log_in
from tests.services.test_gateway import error_of

ADA, BOB = "ada@example.com", "bob@example.com"
MEMBERS = "/v1/projects/shop/members"
INVITATIONS = "/v1/projects/shop/invitations"
KEYS = "/v1/projects/shop/keys"


@pytest.fixture
async def ada(gateway):
    return await a_person(gateway, ADA, shop="owner")


@pytest.fixture
async def bob(gateway):
    return await a_person(gateway, BOB)


async def entries(gateway, **filters):
    project_id = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")
    return await audit.list_entries(gateway.pool, project_id, limit=100, **filters)


# -- projects ----------------------------------------------------------------------------------------------------------


async def test_a_person_creates_changes_and_deletes_a_project(gateway, bob):
    created = await bob.ask("POST", "/v1/projects", json={"name": "Žlutý kůň & Co."})
    slug = created.json()["slug"]
    listed = await bob.ask("GET", "/v1/projects")
    changes = {"slug": "horse", "default_sender": "Horse <hello@horse.example>"}
    changed = await bob.ask("PATCH", f"/v1/projects/{slug}", json=changes)
    old = await bob.ask("GET", f"/v1/projects/{slug}")
    deleted = await bob.ask("DELETE", "/v1/projects/horse")
    gone = [await bob.ask("GET", "/v1/projects/horse"), await bob.ask("DELETE", "/v1/projects/horse")]
    again = await bob.ask("POST", "/v1/projects", json={"name": "Horse"})

    assert (created.status_code, slug, created.json()["role"]) == (201, "zluty-kun-co", "ADMIN")
    assert [row["slug"] for row in listed.json()["data"]] == ["zluty-kun-co"]
    assert (changed.status_code, changed.json()["name"]) == (200, "Žlutý kůň & Co.")
    assert changed.json() | changes == changed.json()
    error_of(old, 404, "NOT_FOUND")
    assert deleted.json() == {"id": created.json()["id"], "deleted": True}
    for answer in gone:
        error_of(answer, 404, "NOT_FOUND")
    assert (again.status_code, again.json()["slug"]) == (201, "horse")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_slug_is_taken_once(gateway, ada, method):
    await ada.ask("POST", "/v1/projects", json={"name": "Other"})
    path = {"POST": "/v1/projects", "PATCH": "/v1/projects/other"}[method]

    answer = await ada.ask(method, path, json={"name": "x", "slug": "shop"})

    assert error_of(answer, 409, "SLUG_ALREADY_EXISTS")["field"] == "slug"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "日本語"}, "slug"),
        ({"name": "x", "slug": "-x"}, "slug"),
        ({"name": "x", "slug": "X"}, "slug"),
        ({"name": "x", "slug": "a" * 64}, "slug"),
        ({"name": "x", "slug": "a/b"}, "slug"),
        ({"name": "x", "id": "proj_1"}, "id"),
        ({}, "name"),
    ],
)
async def test_a_bad_project_names_the_field(gateway, bob, body, field):
    assert error_of(await bob.ask("POST", "/v1/projects", json=body), 400, "VALIDATION_ERROR")["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": None}, None),
        ({"slug": None}, None),
        ({"default_sender": "no address"}, "default_sender"),
        ({"routing": {"policy": "fastest"}}, "routing.policy"),
        ({"routing": {"policy": None}}, "routing.policy"),
        ({"routing": {"polcy": "seed"}}, "routing.polcy"),
        ({"routing": "seed"}, "routing"),
    ],
)
async def test_a_bad_change_is_refused(gateway, ada, body, field):
    error = error_of(await ada.ask("PATCH", "/v1/projects/shop", json=body), 400, "VALIDATION_ERROR")

    assert field is None or error["field"] == field


async def test_a_project_chooses_its_routing_policy(gateway, ada):
    at_first = await ada.ask("GET", "/v1/projects/shop")
    chosen = await ada.ask("PATCH", "/v1/projects/shop", json={"routing": {"policy": "seed"}})
    renamed = await ada.ask("PATCH", "/v1/projects/shop", json={"name": "Shop 2"})
    project_id = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")

    async def known():
        return gateway.config.routing_policy(project_id) is RoutingPolicy.SEED

    await wait_until(known)
    default = await ada.ask("PATCH", "/v1/projects/shop", json={"routing": None})

    answers = [at_first, chosen, renamed, default]
    assert [answer.json()["routing"]["policy"] for answer in answers] == ["adaptive", "seed", "seed", "adaptive"]
    policies = [entry.changes.get("routing_policy") for entry in await entries(gateway, noun="project")]
    assert [one for one in policies if one] == ["adaptive", "seed"]


async def test_nothing_is_sent_for_a_deleted_project(gateway, ada):
    key = (await ada.ask("POST", KEYS, json={"name": "web"})).json()["key"]
    assert (await gateway.post(key=key)).status_code == 201

    await ada.ask("DELETE", "/v1/projects/shop")

    async def refused():
        return (await gateway.post(key=key)).status_code == 401

    await wait_until(refused)
    sent = await ada.ask("POST", "/v1/messages/channel", project="shop", json=a_body())
    error_of(sent, 404, "NOT_FOUND")


async def test_a_key_reads_its_own_project_only(gateway, ada):
    own = await gateway.ask("GET", "/v1/projects/shop")
    foreign = await gateway.ask("GET", "/v1/projects/other")

    assert (own.status_code, own.json()["role"]) == (200, None)
    error_of(foreign, 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b'{"name": "a", "name": "b"}', 400, "VALIDATION_ERROR"),
        (b'{"name": "a"', 400, "VALIDATION_ERROR"),
        (b'{"name": "\xff"}', 400, "VALIDATION_ERROR"),
        (b'{"name": 1e999}', 400, "VALIDATION_ERROR"),
        (b"[" * 60_000, 400, "VALIDATION_ERROR"),
        (b"[]", 400, "VALIDATION_ERROR"),
        (b"", 400, "VALIDATION_ERROR"),
        (b'{"name": "' + b"a" * 65_536 + b'"}', 413, "PAYLOAD_TOO_LARGE"),
    ],
    ids=range(8),
)
async def test_finding_4_a_body_is_bounded_and_the_same_to_every_reader(gateway, bob, content, status, code):
    headers = {"content-type": "application/json"}

    error_of(await bob.ask("POST", "/v1/projects", content=content, headers=headers), status, code)


async def test_a_compressed_body_is_refused(gateway, bob):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}

    error_of(await bob.ask("POST", "/v1/projects", content=b"x", headers=headers), 400, "VALIDATION_ERROR")


# -- members -----------------------------------------------------------------------------------------------------------


async def test_a_person_with_an_account_becomes_a_member_at_once(gateway, ada, bob):
    assert (await bob.ask("GET", "/v1/audit", project="shop")).status_code == 404

    added = await ada.ask("POST", MEMBERS, json={"email": BOB.upper(), "role": "DEVELOPER"})
    again = await ada.ask("POST", MEMBERS, json={"email": BOB, "role": "ADMIN"})

    assert (added.status_code, added.json()["status"], added.json()["role"]) == (201, "active", "DEVELOPER")
    error_of(again, 409, "EMAIL_ALREADY_EXISTS")
    assert (await bob.ask("GET", KEYS)).status_code == 200
    assert (await bob.ask("GET", "/v1/audit", project="shop")).status_code == 403


async def test_a_changed_role_counts_from_the_next_request(gateway, ada, bob):
    await ada.ask("POST", MEMBERS, json={"email": BOB, "role": "DEVELOPER"})
    one = f"{MEMBERS}/{encode_id('usr', bob.user.id)}"
    statuses = []
    for method, body in (("PATCH", {"role": "VIEWER"}), ("PATCH", {"role": "ADMIN"}), ("DELETE", None)):
        statuses.append((await bob.ask("POST", KEYS, json={"name": "x"})).status_code)
        assert (await ada.ask(method, one, json=body)).status_code == 200
    statuses.append((await bob.ask("POST", KEYS, json={"name": "x"})).status_code)

    assert statuses == [201, 403, 201, 404]


async def test_a_project_keeps_an_owner(gateway, ada, bob):
    own = f"{MEMBERS}/{encode_id('usr', ada.user.id)}"

    for method, body in (("PATCH", {"role": "VIEWER"}), ("DELETE", None)):
        error_of(await ada.ask(method, own, json=body), 409, "LAST_ADMIN")

    await ada.ask("POST", MEMBERS, json={"email": BOB, "role": "ADMIN"})
    assert (await ada.ask("DELETE", own)).status_code == 200


async def test_two_owners_who_remove_each_other_at_once_leave_one(gateway, ada, bob):
    await ada.ask("POST", MEMBERS, json={"email": BOB, "role": "ADMIN"})

    answers = await asyncio.gather(
        ada.ask("DELETE", f"{MEMBERS}/{encode_id('usr', bob.user.id)}"),
        bob.ask("DELETE", f"{MEMBERS}/{encode_id('usr', ada.user.id)}"),
    )

    assert sorted(answer.status_code for answer in answers)[0] == 200
    assert await gateway.pool.fetchval("SELECT count(*) FROM memberships WHERE role = 'owner'") == 1


@pytest.mark.parametrize(("role", "status"), [("ADMIN", 403), ("DEVELOPER", 201), ("VIEWER", 201)])
async def test_an_administrator_does_not_make_owners(gateway, ada, bob, role, status):
    """The administrators of the project API may do all but delete the project."""
    carol = await a_person(gateway, "carol@example.com", shop="admin")

    added = await carol.ask("POST", MEMBERS, json={"email": BOB, "role": role})
    own = await carol.ask("PATCH", f"{MEMBERS}/{encode_id('usr', carol.user.id)}", json={"role": role})
    removed = await carol.ask("DELETE", f"{MEMBERS}/{encode_id('usr', ada.user.id)}")

    assert (added.status_code, own.status_code) == (status, 403 if status == 403 else 200)
    assert removed.status_code == 403


@pytest.mark.parametrize("role", ["ADMIN", "DEVELOPER", "VIEWER"])
@pytest.mark.parametrize("pending", ["ADMIN", "DEVELOPER"])
async def test_an_administrator_changes_no_invitation_of_an_owner(gateway, ada, pending, role):
    carol = await a_person(gateway, "carol@example.com", shop="admin")
    invited = (await ada.ask("POST", MEMBERS, json={"email": BOB, "role": pending})).json()

    replaced = await carol.ask("POST", MEMBERS, json={"email": BOB.upper(), "role": role})
    [shown] = (await ada.ask("GET", INVITATIONS)).json()["data"]
    revoked = await carol.ask("DELETE", f"{INVITATIONS}/{shown['id']}")

    assert replaced.status_code == (403 if "ADMIN" in (pending, role) else 201)
    assert revoked.status_code == (403 if pending == "ADMIN" else 200)
    assert (shown["role"] == pending) if replaced.status_code == 403 else (shown["role"] == role)
    if pending == "ADMIN":
        token = {"token": invited["url"].partition("#")[2], "password": PASSWORD}
        assert (await gateway.client.post("/v1/auth/invitations/accept", json=token)).status_code == 200


async def test_an_administrator_replaces_an_invitation_of_an_owner_that_has_expired(gateway, ada):
    carol = await a_person(gateway, "carol@example.com", shop="admin")
    await ada.ask("POST", MEMBERS, json={"email": BOB, "role": "ADMIN"})
    await gateway.pool.execute("UPDATE invitations SET expires_at = now()")

    assert (await carol.ask("POST", MEMBERS, json={"email": BOB, "role": "VIEWER"})).status_code == 201


async def test_an_invitation_of_an_owner_that_appears_meanwhile_stays(gateway, ada):
    """Whichever request is first: the invitation that is left may be accepted, and is that of the owner."""
    carol = await a_person(gateway, "carol@example.com", shop="admin")
    requests = [(who, {"email": BOB, "role": role}) for who, role in ((ada, "ADMIN"), (carol, "VIEWER")) * 2]

    answers = await asyncio.gather(*(who.ask("POST", MEMBERS, json=body) for who, body in requests))

    assert {answer.status_code for answer in answers[::2]} == {201}
    [left] = (await ada.ask("GET", INVITATIONS)).json()["data"]
    assert left["role"] == "ADMIN"


async def invited(person, email, project="shop"):
    return await person.ask("POST", f"/v1/projects/{project}/members", json={"email": email, "role": "VIEWER"})


async def test_a_person_sends_few_invitations_whatever_the_projects_and_recipients(gateway, ada):
    """Five in the test gateway, whose window is 15 minutes."""
    await a_person(gateway, "other-owner@example.com", books="owner")
    books = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'books'")
    await memberships.add_member(gateway.pool, books, ada.user.id, Role.OWNER, now=utc_now())
    projects = ["shop", "books"] * 3

    answers = [await invited(ada, f"new-{number}@example.com", one) for number, one in enumerate(projects)]

    assert [answer.status_code for answer in answers[:5]] == [201] * 5
    error_of(answers[5], 429, "RATE_LIMIT_EXCEEDED")
    assert 800 < int(answers[5].headers["retry-after"]) <= 900
    assert (await invited(ada, BOB)).status_code == 429
    assert (await gateway.pool.fetchval("SELECT count(*) FROM invitations")) == 5


async def test_a_project_and_a_recipient_get_few_invitations_whoever_sends_them(gateway, ada):
    owners = [await a_person(gateway, f"o{number}@example.com", shop="owner") for number in range(6)]
    of_project = [await invited(owner, f"new-{number}@example.com") for number, owner in enumerate(owners)]
    others = [await a_person(gateway, f"p{number}@example.com", **{f"own-{number}": "owner"}) for number in range(6)]
    of_recipient = [
        await invited(owner, spelling, f"own-{number}")
        for number, (owner, spelling) in enumerate(zip(others, [BOB, BOB.upper(), BOB.title()] * 2, strict=True))
    ]

    for answers in (of_project, of_recipient):
        assert [answer.status_code for answer in answers] == [201] * 5 + [429]


async def test_an_invitation_that_is_resent_counts_too(gateway, ada):
    await invited(ada, "new@example.com")
    invitation_id = await gateway.pool.fetchval("SELECT id FROM invitations")
    path = f"/projects/resend-invite/{invitation_id}"

    answers = [await ada.ask_project_api("POST", path) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200] * 4 + [429]
    assert int(answers[4].headers["retry-after"]) > 0


async def test_a_member_who_has_an_account_gets_no_mail_and_counts_for_nothing(gateway, ada):
    people = [f"p{number}@example.com" for number in range(7)]
    for email in people:
        await a_person(gateway, email)

    assert {(await invited(ada, email)).status_code for email in people} == {201}


async def test_a_project_has_a_limit_of_invitations_that_wait(gateway, ada, monkeypatch):
    monkeypatch.setattr("gateway.members.service.MAX_INVITATIONS", 2)
    first, second, third, again = [await invited(ada, f"{name}@example.com") for name in ("a", "b", "c", "b")]

    assert (first.status_code, second.status_code, again.status_code) == (201, 201, 201)
    error_of(third, 400, "VALIDATION_ERROR")
    await gateway.pool.execute("UPDATE invitations SET expires_at = now() WHERE email = 'a@example.com'")
    assert (await invited(ada, "c@example.com")).status_code == 201


async def test_an_unknown_person_is_invited_and_accepts(gateway, ada):
    invited = await ada.ask("POST", MEMBERS, json={"email": "new@example.com", "role": "VIEWER"})
    listed = await ada.ask("GET", "/v1/projects/shop/invitations")
    token = invited.json()["url"].partition("#")[2]
    body = {"token": token, "name": "New", "password": PASSWORD}

    bad = await gateway.client.post("/v1/auth/invitations/accept", json=body | {"password": "short"})
    accepted = await gateway.client.post("/v1/auth/invitations/accept", json=body)
    again = await gateway.client.post("/v1/auth/invitations/accept", json=body)

    assert (invited.status_code, invited.json()["status"]) == (201, "invited")
    assert "url" not in listed.json()["data"][0]
    assert token not in str(await gateway.pool.fetch("SELECT * FROM invitations, audit_log"))
    error_of(bad, 400, "VALIDATION_ERROR")
    error_of(again, 401, "UNAUTHORIZED")
    headers = {"authorization": f"Bearer {accepted.json()['token']}"}
    me = await gateway.client.get("/v1/auth/me", headers=headers)
    assert [(one["slug"], one["role"]) for one in me.json()["projects"]] == [("shop", "VIEWER")]
    assert (await log_in(gateway, "new@example.com")).status_code == 200
    assert (await ada.ask("GET", "/v1/projects/shop/invitations")).json()["data"] == []


async def test_a_person_who_has_an_account_meanwhile_accepts_with_its_password(gateway, ada):
    invited = await ada.ask("POST", MEMBERS, json={"email": "new@example.com", "role": "VIEWER"})
    await a_person(gateway, "new@example.com", password=PASSWORD)
    body = {"token": invited.json()["url"].partition("#")[2]}

    accept = "/v1/auth/invitations/accept"
    wrong = await gateway.client.post(accept, json=body | {"password": "the wrong password"})
    right = await gateway.client.post(accept, json=body | {"password": PASSWORD})

    error_of(wrong, 401, "UNAUTHORIZED")
    assert right.status_code == 200
    error_of(await log_in(gateway, "new@example.com", "the wrong password"), 401, "UNAUTHORIZED")


async def test_an_invitation_is_replaced_revoked_and_ends_with_its_project(gateway, ada):
    body = {"email": "new@example.com", "role": "VIEWER"}
    first, second = [(await ada.ask("POST", MEMBERS, json=body)).json() for _ in range(2)]
    revoked = [await ada.ask("DELETE", f"/v1/projects/shop/invitations/{one['id']}") for one in (first, second, second)]
    third = (await ada.ask("POST", MEMBERS, json=body)).json()
    await ada.ask("DELETE", "/v1/projects/shop")

    assert [answer.status_code for answer in revoked] == [404, 200, 404]
    for one in (first, second, third):
        token = one["url"].partition("#")[2]
        answer = await gateway.client.post("/v1/auth/invitations/accept", json={"token": token, "password": PASSWORD})
        error_of(answer, 401, "UNAUTHORIZED")


async def test_an_invitation_goes_out_through_the_installations_mail_server(gateway, ada):
    received = []

    class Handler:
        async def handle_DATA(self, server, session, envelope):
            received.append((envelope.rcpt_tos, envelope.content.decode()))
            return "250 OK"

    controller = Controller(Handler(), hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        server = SmtpCredentials(host="127.0.0.1", port=controller.port, secure=False, require_tls=False)
        async with Mailer(server, "Sluice <sluice@example.com>").running() as mailer:
            object.__setattr__(gateway.accounts, "mailer", mailer)
            invited = await ada.ask("POST", MEMBERS, json={"email": "new@example.com", "role": "VIEWER"})
            forgot = await gateway.client.post("/v1/auth/password/forgot", json={"email": ADA})

            async def both():
                return len(received) == 2

            await wait_until(both, within=10)
    finally:
        controller.stop()

    assert (invited.json()["url"], forgot.status_code) == (None, 202)
    assert [recipients for recipients, _ in received] == [["new@example.com"], [ADA]]
    assert "/accept-invitation#inv_" in received[0][1]
    assert '\r\nSubject: Invitation to "shop"\r\n' in received[0][1]
    assert 'You are invited to "shop" as viewer.' in received[0][1]
    assert "/reset-password#lnk_" in received[1][1]


async def test_an_invitation_whose_mail_is_not_taken_shows_its_link(gateway, ada):
    server = SmtpCredentials(host="127.0.0.1", port=1, secure=False, require_tls=False)
    async with Mailer(server, "sluice@example.com").running() as mailer:
        object.__setattr__(gateway.accounts, "mailer", mailer)
        invited = await ada.ask("POST", MEMBERS, json={"email": "new@example.com"})

    assert "#inv_" in invited.json()["url"]


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_test", [True, False])
async def test_a_key_is_shown_once_works_and_is_revoked(gateway, ada, is_test):
    created = (await ada.ask("POST", KEYS, json={"name": "web", "test": is_test})).json()
    listed = (await ada.ask("GET", KEYS)).json()["data"]
    sent = await gateway.post(key=created["key"])
    revoked = await ada.ask("DELETE", f"{KEYS}/{created['id']}")
    again = await ada.ask("DELETE", f"{KEYS}/{created['id']}")

    async def refused():
        return (await gateway.post(key=created["key"])).status_code == 401

    await wait_until(refused)
    assert created["key"].startswith(created["prefix"])
    assert listed[0] == {name: value for name, value in created.items() if name != "key"}
    assert created["created_by"] == encode_id("usr", ada.user.id)
    assert (sent.status_code, revoked.status_code) == (201, 200)
    assert await gateway.pool.fetchval("SELECT bool_and(sandbox = $1) FROM messages", is_test)
    error_of(again, 404, "NOT_FOUND")
    assert (await ada.ask("GET", KEYS)).json()["data"] == listed[1:]


async def test_the_key_of_another_project_cannot_be_revoked(gateway, ada):
    eve = await a_person(gateway, "eve@example.com", evil="owner")
    key = (await ada.ask("POST", KEYS, json={"name": "web"})).json()

    foreign = await eve.ask("DELETE", f"/v1/projects/evil/keys/{key['id']}")
    unknown = await eve.ask("DELETE", f"/v1/projects/evil/keys/{encode_id('key', an_id())}")
    malformed = await eve.ask("DELETE", "/v1/projects/evil/keys/key_x")

    assert foreign.content == unknown.content == malformed.content
    error_of(foreign, 404, "NOT_FOUND")
    assert (await gateway.post(key=key["key"])).status_code == 201


# -- lists -------------------------------------------------------------------------------------------------------------


async def test_a_list_is_read_in_pages_while_rows_are_added(gateway, ada):
    names = [f"key {number}" for number in range(25)]
    for name in names:
        await ada.ask("POST", KEYS, json={"name": name})
    seen, cursor = [], None
    for _ in range(10):
        page = (await ada.ask("GET", KEYS, params={"limit": 10} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [row["name"] for row in page["data"]]
        await ada.ask("POST", KEYS, json={"name": "meanwhile"})
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen[:25] == names[::-1]
    assert len(seen) == 26  # with the key of the fixture


async def test_a_page_that_ends_the_list_has_no_cursor(gateway, ada):
    for number in range(2):
        await ada.ask("POST", KEYS, json={"name": str(number)})

    page = (await ada.ask("GET", KEYS, params={"limit": 3})).json()

    assert (len(page["data"]), page["next_cursor"]) == (3, None)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "é" * 22}, "cursor"),
        ({"cursor": encode_cursor(an_id()) + "x"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "x" * 200}, "cursor"),
    ],
)
async def test_a_bad_page_names_the_parameter(gateway, ada, query, field):
    assert error_of(await ada.ask("GET", KEYS, params=query), 400, "VALIDATION_ERROR")["field"] == field


# -- the audit log -----------------------------------------------------------------------------------------------------


async def test_every_change_leaves_one_entry(gateway, ada, bob):
    member = f"{MEMBERS}/{encode_id('usr', bob.user.id)}"
    key = await ada.ask("POST", KEYS, json={"name": "web"})
    invited = await ada.ask("POST", MEMBERS, json={"email": "new@example.com"})
    await ada.ask("POST", MEMBERS, json={"email": BOB})
    await ada.ask("PATCH", member, json={"role": "VIEWER"})
    await ada.ask("DELETE", member)
    await ada.ask("DELETE", f"/v1/projects/shop/invitations/{invited.json()['id']}")
    await ada.ask("DELETE", f"{KEYS}/{key.json()['id']}")
    await ada.ask("PATCH", "/v1/projects/shop", json={"name": "Shop 2"})

    shown = (await ada.ask("GET", "/v1/audit", project="shop")).json()["data"]

    assert [(row["noun"], row["action"]) for row in reversed(shown)] == [
        ("key", "created"),
        ("invitation", "created"),
        ("member", "added"),
        ("member", "updated"),
        ("member", "removed"),
        ("invitation", "revoked"),
        ("key", "revoked"),
        ("project", "updated"),
    ]
    assert {row["actor"]["name"] for row in shown} == {ADA}
    assert {row["address"] for row in shown} == {"127.0.0.1"}
    assert shown[0]["changes"] == {"name": "Shop 2"}
    assert shown[4]["changes"] == {"role": "viewer", "before": "developer"}
    text = json.dumps(shown)
    assert key.json()["key"] not in text
    assert invited.json()["url"].partition("#")[2] not in text


async def test_what_is_refused_or_changes_nothing_leaves_no_entry(gateway, ada, bob):
    await bob.ask("POST", KEYS, json={"name": "x"})
    await ada.ask("DELETE", f"{KEYS}/{encode_id('key', an_id())}")
    await ada.ask("DELETE", f"{MEMBERS}/{encode_id('usr', ada.user.id)}")
    await ada.ask("PATCH", "/v1/projects/shop", json={"slug": "no slug"})
    unchanged = [
        await ada.ask("PATCH", "/v1/projects/shop", json={}),
        await ada.ask("PATCH", "/v1/projects/shop", json={"name": "shop"}),
        await ada.ask("PATCH", f"{MEMBERS}/{encode_id('usr', ada.user.id)}", json={"role": "ADMIN"}),
    ]

    assert [answer.status_code for answer in unchanged] == [200] * 3
    assert await entries(gateway) == []


async def test_a_change_and_its_entry_are_one_transaction(gateway, ada, monkeypatch):
    before = await gateway.pool.fetchval("SELECT count(*) FROM api_keys")

    async def fails(*_, **__):
        raise RuntimeError

    monkeypatch.setattr("sluice.store.audit.append", fails)

    error_of(await ada.ask("POST", KEYS, json={"name": "x"}), 500, "INTERNAL_ERROR")
    assert await gateway.pool.fetchval("SELECT count(*) FROM api_keys") == before


async def test_the_audit_log_is_filtered_and_of_one_project(gateway, ada):
    eve = await a_person(gateway, "eve@example.com", evil="owner")
    await eve.ask("POST", "/v1/projects/evil/keys", json={"name": "evil"})
    key = (await ada.ask("POST", KEYS, json={"name": "web"})).json()["id"]
    await ada.ask("PATCH", "/v1/projects/shop", json={"name": "Shop 2"})

    async def seen(**filters):
        answer = await ada.ask("GET", "/v1/audit", project="shop", params=filters)
        return [row["noun"] for row in answer.json()["data"]]

    assert await seen() == ["project", "key"]
    assert await seen(noun="key") == ["key"]
    assert await seen(noun="key", object_id=key) == ["key"]
    assert await seen(object_id="other") == []
    bad = await ada.ask("GET", "/v1/audit", project="shop", params={"noun": "a\0b"})
    error_of(bad, 400, "VALIDATION_ERROR")


async def test_a_member_of_two_projects_acts_with_the_role_of_the_named_one(gateway, ada):
    other = await a_person(gateway, "other@example.com", theirs="owner")
    project_id = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")
    await memberships.add_member(gateway.pool, project_id, other.user.id, Role.VIEWER, now=utc_now())

    statuses = [(await other.ask("GET", "/v1/audit", project=slug)).status_code for slug in ("theirs", "shop")]
    path_wins = await other.ask("GET", "/v1/projects/shop/keys", project="theirs")

    assert statuses == [200, 403]
    error_of(path_wins, 403, "FORBIDDEN")
