"""People: login, sessions, cookies, passwords, links, invitations."""

import asyncio
import base64
from datetime import timedelta

import pytest
from argon2 import PasswordHasher

from gateway.app import _open_redis, open_accounts
from gateway.auth.login_throttle import LocalCounters, LoginThrottle, RedisCounters
from gateway.auth.passwords import Passwords
from gateway.errors import TooManyRequests, Unavailable
from gateway.settings import GatewaySettings
from sluice.model.ids import encode_id
from sluice.runtime.clock import utc_now
from sluice.runtime.settings import load
from sluice.store import login_links, sessions
from sluice.store.login_links import Purpose
from tests.examples import a_body
from tests.polling import wait_until
from tests.services.people import PASSWORD, a_person, log_in
from tests.services.test_gateway import error_of

ADA = "ada@example.com"
CSRF = {"x-sluice-csrf": "1", "sec-fetch-site": "same-origin"}
NEW_PASSWORD = "a much longer secret"


@pytest.fixture
async def ada(gateway):
    return await a_person(gateway, ADA, password=PASSWORD, shop="owner")


def with_token(token):
    return {"authorization": f"Bearer {token}"}


async def test_a_person_logs_in_acts_and_logs_out(gateway, ada):
    login = await log_in(gateway, "Ada@Example.com")
    headers = with_token(login.json()["token"])

    me = await gateway.client.get("/v1/auth/me", headers=headers)
    sent = await gateway.client.post(
        "/v1/messages/channel", json=a_body(), headers=headers | {"x-sendpipe-project": "shop"}
    )
    seen = await gateway.client.get(f"/v1/messages/{sent.json()['id']}?project=shop", headers=headers)
    out = await gateway.client.post("/v1/auth/logout", headers=headers)
    after = await gateway.client.get("/v1/auth/me", headers=headers)

    assert [answer.status_code for answer in (login, me, sent, seen, out)] == [200, 200, 201, 200, 200]
    assert (me.json()["email"], [project["slug"] for project in me.json()["projects"]]) == (ADA, ["shop"])
    assert me.json()["projects"][0]["role"] == "ADMIN"
    error_of(after, 401, "UNAUTHORIZED")
    assert "set-cookie" not in login.headers


async def test_the_database_holds_neither_the_password_nor_the_token(gateway, ada):
    token = (await log_in(gateway, ADA)).json()["token"]

    rows = [await gateway.pool.fetch(f"SELECT * FROM {table}") for table in ("users", "sessions", "audit_log")]
    text = str(rows)

    assert token not in text
    assert token.removeprefix("ses_") not in text
    assert PASSWORD not in text
    assert "argon2id" in text


async def test_a_wrong_password_and_an_unknown_address_are_answered_alike(gateway, ada):
    answers = [
        await log_in(gateway, ADA, "a wrong password"),
        await log_in(gateway, "unknown@example.com"),
        await log_in(gateway, ADA, PASSWORD + " "),
    ]

    assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    error_of(answers[0], 401, "UNAUTHORIZED")


async def test_a_user_without_a_password_cannot_log_in(gateway):
    await a_person(gateway, "new@example.com")

    error_of(await log_in(gateway, "new@example.com"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "no address"}, "email"),
        ({"email": "Ada <ada@example.com>"}, "email"),
        ({"password": ""}, "password"),
        ({"password": "x" * 257}, "password"),
        ({"password": "nul\0nul"}, "password"),
        ({"password": 5}, "password"),
        ({"role": "ADMIN"}, "role"),
    ],
)
async def test_a_bad_login_names_the_field(gateway, body, field):
    assert error_of(await log_in(gateway, ADA, body=body), 400, "VALIDATION_ERROR")["field"] == field


async def test_an_account_has_few_attempts_and_a_login_forgives_them(gateway, ada):
    for _ in range(4):
        await log_in(gateway, ADA, "a wrong password")
    right = await log_in(gateway, ADA)
    wrong = [await log_in(gateway, ADA, "a wrong password") for _ in range(5)]
    refused = await log_in(gateway, ADA)
    unknown = [await log_in(gateway, "unknown@example.com") for _ in range(6)]

    assert right.status_code == 200
    assert {answer.status_code for answer in wrong} == {401}
    error_of(refused, 429, "RATE_LIMIT_EXCEEDED")
    assert 1 <= int(refused.headers["retry-after"]) <= 900
    assert [answer.status_code for answer in unknown] == [401] * 5 + [429]


async def test_a_login_with_a_password_that_is_replaced_meanwhile_begins_no_session(gateway, ada, monkeypatch):
    verify = gateway.accounts.passwords.verify

    async def replaced(password, password_hash):
        right = await verify(password, password_hash)
        other = await gateway.accounts.passwords.hash(NEW_PASSWORD)
        await gateway.pool.execute("UPDATE users SET password_hash = $1", other)
        return right

    monkeypatch.setattr(gateway.accounts.passwords, "verify", replaced)

    error_of(await log_in(gateway, ADA), 401, "UNAUTHORIZED")
    assert await gateway.pool.fetchval("SELECT count(*) FROM sessions") == 1  # of the fixture


async def test_a_hash_with_old_parameters_is_replaced_at_login(gateway, ada):
    weak = PasswordHasher(memory_cost=8_192, time_cost=1, parallelism=1).hash(PASSWORD)
    await gateway.pool.execute("UPDATE users SET password_hash = $1", weak)

    first, second = await log_in(gateway, ADA), await log_in(gateway, ADA)

    assert (first.status_code, second.status_code) == (200, 200)
    assert "m=19456,t=2,p=1" in await gateway.pool.fetchval("SELECT password_hash FROM users")


async def test_a_look_up_that_began_before_a_notification_is_not_kept(gateway, ada, monkeypatch):
    find = sessions.find_sessions

    async def slow(*arguments, **named):
        found = await find(*arguments, **named)
        gateway.accounts.sessions.forget(ada.user.id)  # as the notification of a change after the statement
        return found

    monkeypatch.setattr(sessions, "find_sessions", slow)
    assert (await ada.ask("GET", "/v1/auth/me")).status_code == 200
    monkeypatch.undo()
    await gateway.pool.execute("ALTER TABLE sessions DISABLE TRIGGER notify_account_change")
    await gateway.pool.execute("DELETE FROM sessions")
    await gateway.pool.execute("ALTER TABLE sessions ENABLE TRIGGER notify_account_change")

    error_of(await ada.ask("GET", "/v1/auth/me"), 401, "UNAUTHORIZED")


# -- sessions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "ses_", "ses_" + "x" * 43, "ses_" + "x" * 42 + "é", "inv_" + "x" * 43, "ses_\0"])
async def test_a_text_that_is_no_session_is_refused(gateway, token):
    answer = await gateway.client.get("/v1/auth/me", headers={b"authorization": f"Bearer {token}".encode("latin-1")})

    error_of(answer, 401, "UNAUTHORIZED")


async def test_sessions_are_listed_and_ended(gateway, ada):
    other = (await log_in(gateway, ADA, headers={"user-agent": "Netscape"})).json()["token"]
    listed = (await ada.ask("GET", "/v1/auth/sessions")).json()["data"]
    used = await gateway.client.get("/v1/auth/me", headers=with_token(other))

    ended = await ada.ask("DELETE", f"/v1/auth/sessions/{listed[0]['id']}")
    again = await ada.ask("DELETE", f"/v1/auth/sessions/{listed[0]['id']}")
    refused = await gateway.client.get("/v1/auth/me", headers=with_token(other))

    assert [(row["current"], row["user_agent"], row["address"]) for row in listed] == [
        (False, "Netscape", "127.0.0.1"),
        (True, None, None),
    ]
    assert [used.status_code, ended.status_code] == [200, 200]
    error_of(again, 404, "NOT_FOUND")
    error_of(refused, 401, "UNAUTHORIZED")


async def test_a_session_of_another_person_cannot_be_ended(gateway, ada):
    eve = await a_person(gateway, "eve@example.com")
    session = (await ada.ask("GET", "/v1/auth/sessions")).json()["data"][0]["id"]

    error_of(await eve.ask("DELETE", f"/v1/auth/sessions/{session}"), 404, "NOT_FOUND")
    assert (await ada.ask("GET", "/v1/auth/me")).status_code == 200


async def test_all_other_sessions_end_at_once(gateway, ada):
    others = [(await log_in(gateway, ADA)).json()["token"] for _ in range(3)]

    await ada.ask("DELETE", "/v1/auth/sessions")

    answers = [await gateway.client.get("/v1/auth/me", headers=with_token(token)) for token in others]
    assert {answer.status_code for answer in answers} == {401}
    assert (await ada.ask("GET", "/v1/auth/me")).status_code == 200


async def test_a_session_that_another_gateway_ended_is_refused_after_its_notification(gateway, ada):
    assert (await ada.ask("GET", "/v1/auth/me")).status_code == 200

    await gateway.pool.execute("DELETE FROM sessions WHERE user_id = $1", ada.user.id)

    async def refused():
        return (await ada.ask("GET", "/v1/auth/me")).status_code == 401

    await wait_until(refused)


async def test_a_session_in_memory_needs_no_statement(gateway, ada, monkeypatch):
    assert (await ada.ask("GET", "/v1/auth/me")).status_code == 200

    async def fails(*_, **__):
        raise AssertionError("a statement")

    monkeypatch.setattr("sluice.store.sessions.find_sessions", fails)

    assert {(await ada.ask("GET", "/v1/auth/me")).status_code for _ in range(5)} == {200}


async def test_without_postgresql_an_unknown_session_is_unchecked_not_invalid(gateway, ada, monkeypatch):
    async def fails(*_, **__):
        raise ConnectionRefusedError

    monkeypatch.setattr("sluice.store.sessions.find_sessions", fails)

    error_of(await ada.ask("GET", "/v1/auth/me"), 503, "UNAVAILABLE")


@pytest.mark.parametrize(("column", "age"), [("expires_at", 0), ("last_used_at", 12 * 3600 + 1)])
async def test_a_session_ends_after_seven_days_or_twelve_idle_hours(gateway, ada, column, age):
    await gateway.pool.execute(f"UPDATE sessions SET {column} = $1", utc_now() - timedelta(seconds=age))

    error_of(await ada.ask("GET", "/v1/auth/me"), 401, "UNAUTHORIZED")


async def test_the_use_of_a_session_is_stored_to_a_minute(gateway, ada):
    await gateway.pool.execute("UPDATE sessions SET last_used_at = $1", utc_now() - timedelta(hours=11))

    await ada.ask("GET", "/v1/auth/me")

    age = await gateway.pool.fetchval("SELECT now() - max(last_used_at) FROM sessions")
    assert age < timedelta(minutes=1)


# -- the cookie --------------------------------------------------------------------------------------------------------


async def test_a_browser_gets_the_session_as_a_cookie_that_scripts_cannot_read(gateway, ada):
    login = await log_in(gateway, ADA, body={"cookie": True}, headers=CSRF)

    me = await gateway.client.get("/v1/auth/me")
    out = await gateway.client.post("/v1/auth/logout", headers=CSRF)

    assert login.json()["token"] is None
    cookie = login.headers["set-cookie"].lower()
    assert cookie.startswith("sluice_session=ses_")
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.split("; "))
    assert [me.status_code, out.status_code] == [200, 200]
    assert 'sluice_session=""' in out.headers["set-cookie"]


def test_over_https_the_cookie_is_secure_and_bound_to_the_host():
    from starlette.responses import Response

    from gateway.auth.access import Access

    access, response = Access(None, None, None, public_url="https://sluice.example/"), Response()
    access.set_cookie(response, "ses_x")

    cookie = response.headers["set-cookie"].lower().split("; ")
    assert cookie[0] == "__host-sluice_session=ses_x"
    assert {"secure", "httponly", "path=/"} <= set(cookie)
    assert not any(part.startswith("domain") for part in cookie)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"x-sluice-csrf": "1"}, 403),
        ({"sec-fetch-site": "same-origin"}, 403),
        ({"x-sluice-csrf": "1", "sec-fetch-site": "same-site"}, 403),
        ({"x-sluice-csrf": "1", "sec-fetch-site": "cross-site", "origin": "http://gateway"}, 403),
        ({"x-sluice-csrf": "1", "origin": "http://evil.example"}, 403),
        ({"x-sluice-csrf": "1", "origin": "http://gateway"}, 201),
        (CSRF, 201),
    ],
)
async def test_another_page_cannot_change_anything_with_the_cookie(gateway, ada, headers, status):
    gateway.client.cookies.set("sluice_session", ada.token)

    created = await gateway.client.post("/v1/projects", json={"name": "New"}, headers=headers)
    sent = await gateway.client.post("/v1/messages/channel?project=shop", json=a_body(), headers=headers)

    assert [created.status_code, sent.status_code] == [status, status]


async def test_another_page_cannot_log_the_browser_in(gateway, ada):
    answer = await log_in(gateway, ADA, body={"cookie": True}, headers={"origin": "http://evil.example"})

    error_of(answer, 403, "FORBIDDEN")
    assert "set-cookie" not in answer.headers


# -- project and mode --------------------------------------------------------------------------------------------------


async def test_a_person_names_the_project(gateway, ada):
    without = await ada.ask("GET", f"/v1/messages/{encode_id('msg', ada.user.id)}")

    assert error_of(without, 400, "VALIDATION_ERROR")["field"] == "project"


@pytest.mark.parametrize(("mode", "sandbox"), [(None, False), ("live", False), ("test", True), ("TEST", True)])
async def test_a_person_chooses_the_mode(gateway, ada, mode, sandbox):
    headers = {} if mode is None else {"x-sendpipe-mode": mode}
    sent = await ada.ask("POST", "/v1/messages/channel", project="shop", json=a_body(), headers=headers)
    seen = [
        await ada.ask("GET", f"/v1/messages/{sent.json()['id']}", project="shop", headers={"x-sendpipe-mode": one})
        for one in ("live", "test")
    ]

    assert await gateway.pool.fetchval("SELECT sandbox FROM messages") is sandbox
    assert [answer.status_code for answer in seen] == ([404, 200] if sandbox else [200, 404])


async def test_the_mode_may_be_in_the_query_where_no_header_can_be_set(gateway, ada):
    sent = await ada.ask(
        "POST", "/v1/messages/channel", project="shop", json=a_body(), headers={"x-sendpipe-mode": "test"}
    )

    path = f"/v1/messages/{sent.json()['id']}"
    assert (await ada.ask("GET", f"{path}?mode=test", project="shop")).status_code == 200
    assert (await ada.ask("GET", path, project="shop")).status_code == 404


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [("", {"x-sendpipe-mode": "dry"}, "X-SendPipe-Mode"), ("?mode=dry", {}, "mode")],
)
async def test_an_unknown_mode_is_refused(gateway, ada, query, headers, field):
    answer = await ada.ask("GET", f"/v1/audit{query}", project="shop", headers=headers)

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == field


# -- passwords and links -----------------------------------------------------------------------------------------------


async def test_a_new_password_ends_all_other_sessions_and_links(gateway, ada):
    other = (await log_in(gateway, ADA)).json()["token"]
    link = await login_links.create_link(gateway.pool, ada.user.id, Purpose.PASSWORD_RESET, now=utc_now())
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}

    changed = await ada.ask("POST", "/v1/auth/password", json=body)

    assert changed.status_code == 200
    assert (await ada.ask("GET", "/v1/auth/me")).status_code == 200
    error_of(await gateway.client.get("/v1/auth/me", headers=with_token(other)), 401, "UNAUTHORIZED")
    error_of(await log_in(gateway, ADA), 401, "UNAUTHORIZED")
    assert (await log_in(gateway, ADA, NEW_PASSWORD)).status_code == 200
    reset = {"token": link, "password": "yet another secret"}
    error_of(await gateway.client.post("/v1/auth/password/reset", json=reset), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"current_password": "wrong"}, "current_password"),
        ({"new_password": "short"}, "password"),
        ({"new_password": ADA.upper()}, "password"),
    ],
)
async def test_a_password_that_cannot_be_changed_names_the_field(gateway, ada, body, field):
    full = {"current_password": PASSWORD, "new_password": NEW_PASSWORD} | body

    assert error_of(await ada.ask("POST", "/v1/auth/password", json=full), 400, "VALIDATION_ERROR")["field"] == field
    assert (await log_in(gateway, ADA)).status_code == 200


async def test_a_reset_link_serves_once_and_ends_all_sessions(gateway, ada):
    link = await login_links.create_link(gateway.pool, ada.user.id, Purpose.PASSWORD_RESET, now=utc_now())
    body = {"token": link, "password": NEW_PASSWORD}

    first = await gateway.client.post("/v1/auth/password/reset", json=body)
    second = await gateway.client.post("/v1/auth/password/reset", json=body)

    me = await gateway.client.get("/v1/auth/me", headers=with_token(first.json()["token"]))
    assert (first.status_code, me.status_code) == (200, 200)
    error_of(second, 401, "UNAUTHORIZED")
    error_of(await ada.ask("GET", "/v1/auth/me"), 401, "UNAUTHORIZED")


async def test_a_forgotten_password_is_answered_alike_for_unknown_addresses(gateway, ada):
    answers = [
        await gateway.client.post("/v1/auth/password/forgot", json={"email": email})
        for email in (ADA, "unknown@example.com")
    ]

    assert {(answer.status_code, answer.content) for answer in answers} == {(202, b'{"ok":true}')}


async def test_a_bad_password_does_not_use_up_the_link(gateway, ada):
    link = await login_links.create_link(gateway.pool, ada.user.id, Purpose.PASSWORD_RESET, now=utc_now())

    for password in ("short", ADA):
        answer = await gateway.client.post("/v1/auth/password/reset", json={"token": link, "password": password})
        error_of(answer, 400, "VALIDATION_ERROR")

    answer = await gateway.client.post("/v1/auth/password/reset", json={"token": link, "password": NEW_PASSWORD})
    assert answer.status_code == 200


async def test_a_setup_link_logs_in_once_and_sets_a_password(gateway):
    person = await a_person(gateway, "first@example.com", shop="owner")
    links = [
        await login_links.create_link(gateway.pool, person.user.id, Purpose.SETUP, now=utc_now()) for _ in range(2)
    ]

    answers = [await gateway.client.post("/v1/auth/setup", json={"token": link}) for link in (*links, links[1])]
    third = await login_links.create_link(gateway.pool, person.user.id, Purpose.SETUP, now=utc_now())
    last = await gateway.client.post("/v1/auth/setup", json={"token": third, "password": PASSWORD})

    assert [answer.status_code for answer in (*answers, last)] == [401, 200, 401, 200]  # a newer link ends the older
    assert (await log_in(gateway, "first@example.com")).status_code == 200


async def test_links_serve_their_own_purpose_and_end(gateway, ada):
    reset = await login_links.create_link(gateway.pool, ada.user.id, Purpose.PASSWORD_RESET, now=utc_now())
    old = await login_links.create_link(gateway.pool, ada.user.id, Purpose.SETUP, now=utc_now() - timedelta(minutes=10))

    for token in (reset, old):
        error_of(await gateway.client.post("/v1/auth/setup", json={"token": token}), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(("forwarded", "status"), [("127.0.0.1", 200), ("192.0.2.7", 403), ("", 403)])
async def test_a_loopback_link_works_from_the_machine_of_the_gateway_only(gateway, ada, forwarded, status):
    gateway.accounts.access._proxies = 0 if forwarded == "127.0.0.1" else 1
    link = await login_links.create_link(gateway.pool, ada.user.id, Purpose.SETUP, now=utc_now(), loopback_only=True)

    answer = await gateway.client.post(
        "/v1/auth/setup", json={"token": link}, headers={"x-forwarded-for": f"10.0.0.1, {forwarded or 'garbage'}"}
    )

    assert answer.status_code == status


# -- the throttle and the hasher ---------------------------------------------------------------------------------------


async def test_the_throttle_counts_in_redis_for_all_gateways_and_locally_without_it(redis_url):
    from redis.asyncio import Redis

    async with Redis.from_url(redis_url) as redis:
        await redis.flushdb()
        gateways = [LoginThrottle(RedisCounters(redis, 60.0), per_account=3, per_address=100) for _ in range(2)]
        for throttle in (*gateways, gateways[0]):
            await throttle.attempt("a", "192.0.2.1")
        with pytest.raises(TooManyRequests) as refused:
            await gateways[1].attempt("a", "192.0.2.2")
        await gateways[1].succeeded("a")
        await gateways[0].attempt("a", "192.0.2.1")
    assert 1 <= refused.value.retry_after <= 60


async def test_the_throttle_counts_locally_while_redis_is_away():
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    async with Redis.from_url("redis://127.0.0.1:1", retry=Retry(NoBackoff(), 0)) as redis:
        throttle = LoginThrottle(RedisCounters(redis, 60.0), per_account=2, per_address=100)
        for _ in range(2):
            await throttle.attempt("a", None)
        with pytest.raises(TooManyRequests):
            await throttle.attempt("a", None)


async def test_an_ipv6_network_counts_as_one_address():
    throttle = LoginThrottle(LocalCounters(60.0), per_account=9, per_address=2)
    await throttle.attempt(None, "2001:db8::1")
    await throttle.attempt(None, "2001:db8::2")
    await throttle.attempt(None, "2001:db8:0:1::1")

    with pytest.raises(TooManyRequests):
        await throttle.attempt(None, "2001:db8::ffff")


async def test_a_window_ends():
    counters = LocalCounters(0.05)
    assert (await counters.count("a"))[0] == 1
    assert (await counters.count("a"))[0] == 2
    await asyncio.sleep(0.06)

    assert (await counters.count("a"))[0] == 1


async def test_only_so_many_passwords_wait():
    async with Passwords().running() as passwords:
        done = await asyncio.gather(*[passwords.hash(PASSWORD) for _ in range(40)], return_exceptions=True)

    assert [type(one) for one in done].count(Unavailable) == 40 - 32
    assert all(isinstance(one, str | Unavailable) for one in done)


# -- the wiring --------------------------------------------------------------------------------------------------------


async def test_the_gateway_opens_what_people_need_from_its_settings(gateway, ada, redis_url):
    settings = load(
        GatewaySettings,
        postgres_dsn="postgresql://unused",
        kafka_bootstrap_servers="127.0.0.1:1",
        redis_url=redis_url,
        encryption_key=base64.b64encode(bytes(32)).decode(),
        public_url="https://sluice.example/",
        login_attempts_per_account=1,
        mail_server={"host": "127.0.0.1", "port": 1},
        mail_sender="Sluice <sluice@example.com>",
    )

    async with (
        _open_redis(redis_url) as redis,
        open_accounts(settings, gateway.pool, gateway.config, gateway.authenticator, redis) as accounts,
    ):
        session = await accounts.sessions.authenticate(ada.token)
        await accounts.throttle.succeeded("of this test")
        await accounts.throttle.attempt("of this test", None)
        with pytest.raises(TooManyRequests):
            await accounts.throttle.attempt("of this test", None)

    assert session.email == ADA
    assert accounts.mailer.is_configured
    assert accounts.dashboard_url == "https://sluice.example"
    assert accounts.access.cookie_name == "__Host-sluice_session"
