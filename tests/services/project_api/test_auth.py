"""Accounts and tokens of the project API."""

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.auth import access_tokens
from gateway.auth.access_tokens import LIFETIME, AccessClaims, AccessTokens
from gateway.errors import Unauthorized
from sluice.runtime.clock import utc_now
from sluice.store import sessions, users
from tests.services.people import PASSWORD, a_person, log_in
from tests.services.project_api.conftest import error_of

ADA = {"email": "ada@example.com", "password": PASSWORD}
NAMES = {"firstName": "Ada", "lastName": "Lovelace"}


async def post(gateway, path, body, **headers):
    return await gateway.client.post(path, json=body, headers=headers)


async def signed_in(gateway, **body):
    answer = await post(gateway, "/auth/signin", ADA | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def projects_with(gateway, access_token):
    return await gateway.client.get("/projects", headers={"authorization": f"Bearer {access_token}"})


@pytest.fixture
async def ada(gateway):
    return await a_person(gateway, ADA["email"], password=PASSWORD, shop="owner")


# -- accounts ----------------------------------------------------------------------------------------------------


async def test_a_person_signs_up_signs_in_and_owns_a_project(gateway):
    created = await post(gateway, "/auth/signup", ADA | NAMES)
    assert created.status_code == 201
    user = await users.find_user_by_email(gateway.pool, ADA["email"])
    assert created.json().items() >= {"id": str(user.id), "email": ADA["email"], "name": "Ada Lovelace"}.items()
    assert not user.is_confirmed

    tokens = await signed_in(gateway)
    assert (set(tokens), tokens["expiresIn"]) == ({"accessToken", "refreshToken", "expiresIn"}, 3600)
    project = await gateway.client.post(
        "/projects", json={"name": "Shop"}, headers={"authorization": f"Bearer {tokens['accessToken']}"}
    )
    assert (project.status_code, set(project.json())) == (201, {"id", "name", "createdAt"})
    listed = (await projects_with(gateway, tokens["accessToken"])).json()
    assert listed["data"] == [project.json() | {"role": "owner"}]
    assert listed["meta"]["total"] == 1


async def test_an_address_signs_up_once(gateway, ada):
    for email in ("ada@example.com", "ADA@example.com"):
        again = await post(gateway, "/auth/signup", ADA | NAMES | {"email": email})
        assert "account" in error_of(again, 409, "Conflict")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"password": "too short"}, "password"),
        ({"password": "x" * 257}, "password"),
        ({"email": "no address"}, "email"),
        ({"email": "long-enough@example.com", "password": "long-enough@example.com"}, "password"),
        ({"firstName": ""}, "firstName"),
        ({"lastName": None}, "lastName"),
        ({"isAdmin": True}, "isAdmin"),
    ],
)
async def test_a_bad_sign_up_names_the_field(gateway, changes, field):
    refused = await post(gateway, "/auth/signup", ADA | NAMES | changes)
    assert field in error_of(refused, 400, "Bad Request")


async def test_signing_up_can_be_closed(gateway):
    object.__setattr__(gateway.accounts, "sign_up_is_open", False)
    assert "SLUICE_SIGN_UP" in error_of(await post(gateway, "/auth/signup", ADA | NAMES), 403, "Forbidden")
    assert await gateway.pool.fetchval("SELECT count(*) FROM users") == 0


async def test_an_address_that_was_only_signed_up_is_invited_and_not_added(api):
    """A sign-up with another person's address does not get the role that was meant for that person."""
    await post(api.gateway, "/auth/signup", ADA | NAMES)
    invited = await api.ask("POST", "/projects/invite", json={"email": ADA["email"], "projectId": str(api.project_id)})

    assert (invited.status_code, invited.json()["member"]) == (201, None)
    token = invited.json()["url"].partition("#")[2]
    accepted = await api.gateway.client.post("/v1/auth/invitations/accept", json={"token": token, "password": PASSWORD})
    assert accepted.status_code == 200
    assert (await users.find_user_by_email(api.gateway.pool, ADA["email"])).is_confirmed


@pytest.mark.parametrize("wrong", [{"password": "another long password"}, {"email": "unknown@example.com"}])
async def test_a_wrong_sign_in_does_not_say_what_is_wrong(gateway, ada, wrong):
    refused = await post(gateway, "/auth/signin", ADA | wrong)
    assert error_of(refused, 401, "Unauthorized") == "E-mail address or password is wrong."


async def test_signing_in_is_throttled_like_v1_with_the_headers_of_the_limit(gateway, ada):
    wrong = {"password": "another long password"}
    answers = [await post(gateway, "/auth/signin", ADA | wrong) for _ in range(5)]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == list("43210")
    refused = await post(gateway, "/auth/signin", ADA)
    assert "attempts" in error_of(refused, 429, "Too Many Requests")
    assert int(refused.headers["retry-after"]) > 0
    assert (await log_in(gateway, ADA["email"])).status_code == 429


# -- sessions ------------------------------------------------------------------------------------------------------


async def test_a_refresh_token_serves_once_and_used_again_ends_the_session(gateway, ada):
    first = await signed_in(gateway)
    second = (await post(gateway, "/auth/refresh", {"refreshToken": first["refreshToken"]})).json()
    assert second["refreshToken"] != first["refreshToken"]
    assert (await projects_with(gateway, second["accessToken"])).status_code == 200

    error_of(await post(gateway, "/auth/refresh", {"refreshToken": first["refreshToken"]}), 401)

    error_of(await post(gateway, "/auth/refresh", {"refreshToken": second["refreshToken"]}), 401)
    for tokens in (first, second):
        error_of(await projects_with(gateway, tokens["accessToken"]), 401)
    actions = await gateway.pool.fetch("SELECT action FROM audit_log WHERE noun = 'session' ORDER BY id")
    assert [row["action"] for row in actions] == ["logged_in", "ended_by_used_refresh_token"]


async def test_the_reuse_of_any_token_of_the_family_ends_it_and_no_other_session(gateway, ada):
    other, tokens = await signed_in(gateway), await signed_in(gateway)
    chain = [tokens["refreshToken"]]
    for _ in range(3):
        chain.append((await post(gateway, "/auth/refresh", {"refreshToken": chain[-1]})).json()["refreshToken"])

    error_of(await post(gateway, "/auth/refresh", {"refreshToken": chain[1]}), 401)

    error_of(await post(gateway, "/auth/refresh", {"refreshToken": chain[-1]}), 401)
    assert (await post(gateway, "/auth/refresh", {"refreshToken": other["refreshToken"]})).status_code == 200


async def test_concurrent_exchanges_of_one_token_have_one_winner_and_end_the_session(gateway, ada):
    token = (await signed_in(gateway))["refreshToken"]
    answers = await asyncio.gather(*(post(gateway, "/auth/refresh", {"refreshToken": token}) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    assert (
        await gateway.pool.fetchval("SELECT count(*) FROM sessions WHERE user_id = $1", ada.user.id) == 1
    )  # ada's own


@pytest.mark.parametrize("token", ["", "ref_" + "a" * 43, "ses_" + "a" * 43, "ref_", 7, None])
async def test_what_is_no_refresh_token(gateway, token):
    assert (await post(gateway, "/auth/refresh", {"refreshToken": token})).status_code in (400, 401)


async def test_tokens_of_one_kind_do_not_serve_as_another(gateway, ada):
    tokens = await signed_in(gateway)
    for path, token in (
        ("/projects", ada.token),
        ("/projects", tokens["refreshToken"]),
        ("/v1/projects", tokens["refreshToken"]),
        ("/v1/projects", tokens["accessToken"]),
    ):
        assert (await gateway.client.get(path, headers={"authorization": f"Bearer {token}"})).status_code == 401
    error_of(await post(gateway, "/auth/refresh", {"refreshToken": ada.token}), 401)


async def test_signing_out_ends_the_session_at_once(gateway, ada):
    tokens = await signed_in(gateway)
    bearer = {"authorization": f"Bearer {tokens['accessToken']}"}
    assert (await projects_with(gateway, tokens["accessToken"])).status_code == 200

    assert (await gateway.client.post("/auth/signout", headers=bearer)).json() == {"message": "Signed out successfully"}

    error_of(await projects_with(gateway, tokens["accessToken"]), 401)
    error_of(await post(gateway, "/auth/refresh", {"refreshToken": tokens["refreshToken"]}), 401)
    error_of(await gateway.client.post("/auth/signout", headers=bearer), 401)


async def test_the_sessions_of_both_apis_are_the_same(gateway, ada):
    tokens = await signed_in(gateway)
    assert len((await ada.ask("GET", "/v1/auth/sessions")).json()["data"]) == 2

    assert (await ada.ask("DELETE", "/v1/auth/sessions")).status_code == 200  # all but its own

    error_of(await projects_with(gateway, tokens["accessToken"]), 401)


async def test_a_session_that_is_over_or_idle_cannot_be_refreshed(gateway, ada):
    for over in ("expires_at = now() - interval '1 s'", "last_used_at = now() - interval '12 h 1 s'"):
        token = (await signed_in(gateway))["refreshToken"]
        await gateway.pool.execute(f"UPDATE sessions SET {over}")
        error_of(await post(gateway, "/auth/refresh", {"refreshToken": token}), 401)


async def test_a_key_is_no_person(api):
    assert "person" in error_of(await api.ask_with_key("GET", "/projects"), 403, "Forbidden")
    assert "person" in error_of(await api.ask_with_key("POST", "/auth/signout"), 403, "Forbidden")


# -- access tokens ---------------------------------------------------------------------------------------------------

KEY = bytes(32)
CLAIMS = AccessClaims(uuid4(), uuid4())
SECRET = hmac.digest(KEY, b"sluice access token", "sha256")


def encode(document):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def decode(part):
    return json.loads(base64.urlsafe_b64decode(part + "=="))


def parts_of(token):
    header, claims, _ = token.split(".")
    return decode(header), decode(claims)


def signed(header, claims, secret=SECRET, digest="sha256"):
    text = f"{encode(header)}.{encode(claims)}"
    return f"{text}.{encode(hmac.digest(secret, text.encode(), digest))}"


TOKENS = AccessTokens(lambda: [KEY])
HEADER, CONTENT = parts_of(TOKENS.issue(CLAIMS, now=utc_now()))


def rsa_token():
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return signed(HEADER, CONTENT, secret=public)


def without(document, name):
    return {field: value for field, value in document.items() if field != name}


def at(seconds):
    return int((utc_now() + timedelta(seconds=seconds)).timestamp())


def test_a_token_that_is_made_as_ours_are_is_read():
    """The forged ones below differ from it in one thing each."""
    assert TOKENS.read(signed(HEADER, CONTENT)) == CLAIMS
    assert HEADER["alg"] == "HS256"
    assert 0 <= LIFETIME.total_seconds() - (CONTENT["exp"] - utc_now().timestamp()) < 3600


def test_a_token_is_valid_at_a_gateway_whose_clock_is_behind():
    assert TOKENS.read(TOKENS.issue(CLAIMS, now=utc_now() + timedelta(seconds=4))) == CLAIMS
    with pytest.raises(Unauthorized):
        TOKENS.read(TOKENS.issue(CLAIMS, now=utc_now() + timedelta(seconds=90)))
    with pytest.raises(Unauthorized):
        TOKENS.read(TOKENS.issue(CLAIMS, now=utc_now() - LIFETIME))


FORGED = {
    "alg none": lambda: f"{encode(HEADER | {'alg': 'none'})}.{encode(CONTENT)}.",
    "alg NONE, signed": lambda: signed(HEADER | {"alg": "nOnE"}, CONTENT),
    "no alg": lambda: signed(without(HEADER, "alg"), CONTENT),
    "another alg": lambda: signed(HEADER | {"alg": "HS512"}, CONTENT, digest="sha512"),
    "RS256 with the secret": lambda: signed(HEADER | {"alg": "RS256"}, CONTENT),
    "a public key as secret": rsa_token,
    "an empty key": lambda: signed(HEADER, CONTENT, secret=b""),
    "the encryption key itself": lambda: signed(HEADER, CONTENT, secret=KEY),
    "another key": lambda: signed(HEADER, CONTENT, secret=b"x" * 32),
    "an unknown key id": lambda: signed(HEADER | {"kid": "0" * 16}, CONTENT),
    "a key id that is a path": lambda: signed(HEADER | {"kid": "../../dev/null"}, CONTENT, secret=b""),
    "a key id that is SQL": lambda: signed(HEADER | {"kid": "' OR 1=1 --"}, CONTENT),
    "a key id of another type": lambda: signed(HEADER | {"kid": ["x"]}, CONTENT),
    "no key id": lambda: signed(without(HEADER, "kid"), CONTENT),
    "jku": lambda: signed(HEADER | {"jku": "https://attacker.example/keys"}, CONTENT),
    "jwk": lambda: signed(HEADER | {"jwk": {"kty": "oct", "k": encode(b"x" * 32)}}, CONTENT, secret=b"x" * 32),
    "x5u": lambda: signed(HEADER | {"x5u": "https://attacker.example/cert"}, CONTENT),
    "crit": lambda: signed(HEADER | {"crit": ["exp"]}, CONTENT),
    "b64 false": lambda: signed(HEADER | {"b64": False, "crit": ["b64"]}, CONTENT),
    "wrong iss": lambda: signed(HEADER, CONTENT | {"iss": "sluic"}),
    "wrong aud": lambda: signed(HEADER, CONTENT | {"aud": "another"}),
    "expired by a second": lambda: signed(HEADER, CONTENT | {"exp": at(-1)}),
    "not yet valid": lambda: signed(HEADER, CONTENT | {"nbf": at(90)}),
    "an issue time that is no time": lambda: signed(HEADER, CONTENT | {"iat": "yesterday"}),
    "exp as text": lambda: signed(HEADER, CONTENT | {"exp": "9999999999"}),
    "sub no id": lambda: signed(HEADER, CONTENT | {"sub": "admin"}),
    "sub a list": lambda: signed(HEADER, CONTENT | {"sub": [str(CLAIMS.user_id)]}),
    "claims no object": lambda: signed(HEADER, [1]),
    "10 kB of claims": lambda: signed(HEADER, CONTENT | {"more": "x" * 10_000}),
    "another payload": lambda: signed(HEADER, CONTENT).replace(
        encode(CONTENT), encode(CONTENT | {"sub": str(uuid4())})
    ),
    "trailing characters": lambda: signed(HEADER, CONTENT) + "x",
    "a fourth part": lambda: signed(HEADER, CONTENT) + ".x",
    "two parts": lambda: signed(HEADER, CONTENT).rpartition(".")[0],
    "no ASCII": lambda: "é.é.é",
    "nothing": lambda: "",
    **{f"without {name}": partial(signed, HEADER, without(CONTENT, name)) for name in CONTENT},
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_refused(forged):
    with pytest.raises(Unauthorized):
        TOKENS.read(forged())


@pytest.mark.parametrize("duplicate", [b'"sub"', b'"exp"', b'"sid"'])
def test_a_claim_that_is_there_twice_is_refused(duplicate):
    """Readers differ in which of the two they take."""
    text = json.dumps(CONTENT).encode()
    with pytest.raises(Unauthorized):
        TOKENS.read(signed(HEADER, text[:-1] + b", " + duplicate + b": " + text.partition(duplicate + b": ")[2]))


@pytest.mark.parametrize("kind", ["alg none", "another key", "expired by a second", "jku", "nothing"])
async def test_a_forged_token_is_a_401_of_the_api(api, kind):
    header = {"authorization": f"Bearer {FORGED[kind]()}"}
    error_of(await api.gateway.client.get("/projects", headers=header), 401, "Unauthorized")


async def test_a_token_of_a_session_that_does_not_exist_or_of_another_user(api):
    tokens = api.gateway.accounts.access_tokens
    for claims in (CLAIMS, AccessClaims(uuid4(), api.owner.session_id), AccessClaims(api.owner.user.id, uuid4())):
        error_of(await projects_with(api.gateway, tokens.issue(claims, now=utc_now())), 401)


def test_the_keys_are_rotated_without_a_restart():
    keys = [b"1" * 32]
    tokens = AccessTokens(lambda: keys)
    old = tokens.issue(CLAIMS, now=utc_now())

    keys.insert(0, b"2" * 32)  # the new one signs, in the processes that have read it
    new = AccessTokens(lambda: keys).issue(CLAIMS, now=utc_now())
    assert [tokens.read(one) for one in (old, new)] == [CLAIMS, CLAIMS]
    assert parts_of(tokens.issue(CLAIMS, now=utc_now()))[0]["kid"] == parts_of(new)[0]["kid"]

    keys.pop()
    with pytest.raises(Unauthorized):
        AccessTokens(lambda: keys).read(old)


def test_the_id_of_a_key_says_nothing_of_the_key():
    assert HEADER["kid"] == hashlib.sha256(SECRET).hexdigest()[:16]
    assert access_tokens._ALGORITHM == "HS256"


async def test_the_use_of_an_access_token_keeps_its_session(gateway, ada):
    tokens = await signed_in(gateway)
    await gateway.pool.execute("UPDATE sessions SET last_used_at = now() - interval '11 h'")
    assert (await projects_with(gateway, tokens["accessToken"])).status_code == 200
    idle = await gateway.pool.fetchval("SELECT min(now() - last_used_at) FROM sessions WHERE user_id = $1", ada.user.id)
    assert idle < sessions.IDLE_LIFETIME / 2
