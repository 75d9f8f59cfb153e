"""The commands for projects, keys and people, against the gateway that uses what they made."""

import asyncio

import pytest

from sluice_cli.main import main
from tests.services.people import PASSWORD, log_in
from tests.services.test_gateway import error_of


@pytest.fixture
def sluice(gateway, store_database, monkeypatch, capsys):
    """Runs a command: its exit code, the lines it prints, its error."""
    monkeypatch.setenv("SLUICE_POSTGRES_DSN", store_database)
    monkeypatch.setenv("SLUICE_API_URL", "http://127.0.0.1:8080")
    monkeypatch.delenv("SLUICE_PUBLIC_URL", raising=False)

    async def run(*arguments):
        capsys.readouterr()
        code = await asyncio.to_thread(main, arguments)
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return run


async def done(running):
    code, lines, error = await running
    assert code == 0, error
    return lines


async def test_a_project_with_a_key_is_made_and_the_key_revoked(gateway, sluice):
    [slug] = await done(sluice("project", "create", "Web Shop"))
    [key] = await done(sluice("key", "create", slug, "--name", "web", "--test"))
    sent = await gateway.post(key=key)
    [listed] = await done(sluice("key", "list", slug))
    key_id, prefix, _, name = listed.split("\t")
    await done(sluice("key", "revoke", slug, key_id))

    assert (slug, name, sent.status_code) == ("web-shop", "web", 201)
    assert key.startswith(prefix)
    assert await done(sluice("key", "list", slug)) == ["no keys"]
    assert await done(sluice("project", "list")) == ["shop\tshop", "web-shop\tWeb Shop"]
    rows = await gateway.pool.fetch("SELECT actor_kind, noun, action FROM audit_log ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("operator", "project", "created"),
        ("operator", "key", "created"),
        ("operator", "key", "revoked"),
    ]


async def test_a_person_is_made_and_sets_the_password_with_the_link(gateway, sluice):
    [link] = await done(sluice("user", "create", "Ada@example.com", "--project", "shop", "--role", "viewer"))
    page, _, token = link.partition("#")

    body = {"token": token, "password": PASSWORD}
    reset = await gateway.client.post("/v1/auth/password/reset", json=body)
    login = await log_in(gateway, "ada@example.com")
    headers = {"authorization": f"Bearer {login.json()['token']}"}
    me = (await gateway.client.get("/v1/auth/me", headers=headers)).json()

    assert (page, reset.status_code) == ("http://127.0.0.1:8080/reset-password", 200)
    assert [(one["slug"], one["role"]) for one in me["projects"]] == [("shop", "VIEWER")]
    assert await done(sluice("user", "list")) == ["Ada@example.com\t"]


async def test_an_account_that_only_signed_up_owns_no_project_by_a_command(gateway, sluice):
    """The oldest user would be that of a stranger, and with it every project without members."""
    signed_up = {"email": "eve@example.com", "password": PASSWORD, "firstName": "Eve", "lastName": "E."}
    assert (await gateway.client.post("/auth/signup", json=signed_up)).status_code == 201

    [link] = await done(sluice("setup-link"))
    for command in (
        ("setup-link", "--email", "eve@example.com"),
        ("project", "create", "X", "--owner", "eve@example.com"),
    ):
        code, _, error = await sluice(*command)
        assert (code, "is not confirmed" in error) == (1, True)

    login = await gateway.client.post("/v1/auth/setup", json={"token": link.partition("#")[2]})
    assert login.json()["user"]["email"] == "admin@localhost"
    owners = await gateway.pool.fetch("SELECT u.email FROM memberships m JOIN users u ON u.id = m.user_id")
    assert [row["email"] for row in owners] == ["admin@localhost"]


async def test_the_setup_link_logs_the_first_user_in_as_the_owner_of_projects_without_members(gateway, sluice):
    [link] = await done(sluice("setup-link"))
    [again] = await done(sluice("setup-link"))

    first, second = [
        await gateway.client.post("/v1/auth/setup", json={"token": one.partition("#")[2]}) for one in (link, again)
    ]

    error_of(first, 401, "UNAUTHORIZED")
    headers = {"authorization": f"Bearer {second.json()['token']}"}
    me = (await gateway.client.get("/v1/auth/me", headers=headers)).json()
    assert [(one["slug"], one["role"]) for one in me["projects"]] == [("shop", "ADMIN")]
    assert await gateway.pool.fetchval("SELECT count(*) FROM users") == 1


async def test_a_setup_link_for_any_machine_leads_to_the_public_address(gateway, sluice, monkeypatch):
    monkeypatch.setenv("SLUICE_API_URL", "http://gateway:8080")
    monkeypatch.setenv("SLUICE_PUBLIC_URL", "https://sluice.example.com/")

    [link] = await done(sluice("setup-link", "--anywhere"))

    page, _, token = link.partition("#")
    gateway.accounts.access._proxies = 1
    answer = await gateway.client.post(
        "/v1/auth/setup", json={"token": token}, headers={"x-forwarded-for": "192.0.2.7"}
    )
    assert (page, answer.status_code) == ("https://sluice.example.com/setup", 200)


@pytest.mark.parametrize("public_url", ["", "https://sluice.example.com"])
async def test_a_link_for_the_gateways_machine_stays_there_with_a_public_address(sluice, monkeypatch, public_url):
    monkeypatch.setenv("SLUICE_PUBLIC_URL", public_url)

    [link] = await done(sluice("setup-link"))

    assert link.startswith("http://127.0.0.1:8080/setup#")


@pytest.mark.parametrize(
    ("arguments", "public_url", "error"),
    [
        (("setup-link",), "", "use --anywhere, with SLUICE_PUBLIC_URL"),
        (("setup-link",), "http://127.0.0.1:8080", "use --anywhere, with SLUICE_PUBLIC_URL"),
        (("setup-link", "--anywhere"), "", "no browser resolves http://gateway:8080: set SLUICE_PUBLIC_URL"),
        (("user", "create", "ada@example.com"), "", "no browser resolves http://gateway:8080: set SLUICE_PUBLIC_URL"),
    ],
)
async def test_from_a_container_a_link_that_cannot_work_is_refused(
    gateway, sluice, monkeypatch, arguments, public_url, error
):
    """There the gateway is a name of the containers' network, and sees each browser at an address of a bridge."""
    monkeypatch.setenv("SLUICE_API_URL", "http://gateway:8080")
    monkeypatch.setenv("SLUICE_PUBLIC_URL", public_url)

    code, lines, printed = await sluice(*arguments)

    assert (code, lines) == (1, [])
    assert error in printed
    assert await gateway.pool.fetchval("SELECT count(*) FROM users") == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("project", "create", "Shop"), "the slug shop is taken"),
        (("project", "create", "日本語"), "--slug is required"),
        (("project", "create", "x", "--slug", "A B"), "--slug: lower-case"),
        (("project", "create", "x", "--owner", "unknown@example.com"), "no user with the address"),
        (("key", "create", "other"), "there is no project other"),
        (("key", "revoke", "shop", "x"), "'x' is not an id"),
        (("key", "revoke", "shop", "key_00000000000000000000000000"), "no key"),
        (("user", "create", "no address"), "is not a valid e-mail address"),
        (("user", "reset-password", "unknown@example.com"), "no user with the address"),
        (("setup-link", "--email", "unknown@example.com"), "no user with the address"),
    ],
)
async def test_a_bad_argument_is_one_line(gateway, sluice, arguments, error):
    code, lines, printed = await sluice(*arguments)

    assert (code, lines) == (1, [])
    assert error in printed
    assert printed.count("\n") == 1
    assert await gateway.pool.fetchval("SELECT count(*) FROM audit_log") == 0


async def test_a_user_is_made_once(gateway, sluice):
    await done(sluice("user", "create", "ada@example.com"))

    assert (await sluice("user", "create", "ADA@example.com"))[0] == 1
