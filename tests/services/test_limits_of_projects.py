"""What a project may have of what every process keeps in memory: providers, credentials, keys, domains."""

import pytest
from pydantic import SecretStr

from gateway.errors import ValidationFailed
from gateway.kit import limits
from gateway.providers.credentials import MAX_CREDENTIALS, read_credentials
from sluice.model.ids import decode_id
from sluice.providers.registry import installed
from sluice.store import providers
from sluice.store.cipher import CredentialCipher
from tests.loop_lag import LIMIT, loop_lag
from tests.polling import wait_until
from tests.services.people import a_person
from tests.services.test_gateway import error_of

PROVIDERS = "/v1/providers"


def a_provider(**credentials):
    return {"packageName": "provider-sendgrid", "name": "p", "credentials": {"apiKey": "SG.x", **credentials}}


async def add(gateway, **credentials):
    return await gateway.ask("POST", PROVIDERS, json=a_provider(**credentials))


async def cached(gateway, number):
    await wait_until(lambda: len(gateway.config.providers) == number)
    return sum(len(row.encrypted_credentials) for row in gateway.config.providers.values())


async def test_the_credentials_of_the_finding_are_refused(gateway):
    answer = await add(gateway, baseUrl=f"https://api.example.com/{'a' * 60_000}")

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == "credentials"


async def test_a_base_url_has_a_path_of_at_most_500_characters(gateway):
    assert (await add(gateway, baseUrl=f"https://api.example.com/{'a' * 500}")).status_code == 201

    answer = await add(gateway, baseUrl=f"https://api.example.com/{'a' * 501}")

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == "credentials.baseUrl"


def texts_of(model, path=()):
    """The places of texts in credentials: each field, and those of nested models."""
    for name, field in model.model_fields.items():
        place = (*path, field.alias or name)
        nested = [one for one in getattr(field.annotation, "__args__", (field.annotation,)) if isinstance(one, type)]
        inner = next((one for one in nested if hasattr(one, "model_fields") and not issubclass(one, SecretStr)), None)
        if inner is not None:
            yield from texts_of(inner, place)
        else:
            yield place


CASES = [(name, place) for name, package in sorted(installed().items()) for place in texts_of(package.credentials)]


@pytest.mark.parametrize(("name", "place"), CASES, ids=lambda one: one if isinstance(one, str) else ".".join(one))
@pytest.mark.parametrize("long", ["a" * MAX_CREDENTIALS, ["a" * 100] * 100], ids=["text", "list"])
def test_no_field_of_any_package_takes_a_long_value(name, place, long):
    document = long
    for part in reversed(place):
        document = {part: document}

    with pytest.raises(ValidationFailed) as refused:
        read_credentials(installed()[name], document)

    assert "aaaa" not in str(refused.value)
    assert f"at most {MAX_CREDENTIALS} bytes" in str(refused.value)


async def test_a_project_has_a_limited_number_of_providers(gateway, monkeypatch):
    monkeypatch.setattr("gateway.providers.service.MAX_PROVIDERS", 3)
    created = [(await add(gateway)).json()["id"] for _ in range(3)]

    error = error_of(await add(gateway), 409, "LIMIT_REACHED")
    other = await gateway.ask("POST", PROVIDERS, key=await gateway.new_project("other"), json=a_provider())
    await gateway.ask("DELETE", f"{PROVIDERS}/{created[0]}")
    again = await add(gateway)

    assert "3 providers" in error["message"]
    assert (other.status_code, again.status_code) == (201, 201)


async def test_providers_of_the_finding_that_are_deleted_leave_the_memory_of_the_roles(gateway, monkeypatch):
    monkeypatch.setattr("gateway.providers.service.MAX_DELETED_PROVIDERS", 2)
    created = [(await add(gateway)).json()["id"] for _ in range(5)]
    size = await cached(gateway, 5)

    for one in created:
        assert (await gateway.ask("DELETE", f"{PROVIDERS}/{one}")).status_code == 200

    assert await cached(gateway, 2) <= size / 2
    assert set(gateway.config.providers) == {decode_id("prv", one) for one in created[3:]}
    kept = await gateway.pool.fetchval("SELECT count(*) FROM providers WHERE encrypted_credentials <> ''")
    assert (kept, await gateway.pool.fetchval("SELECT count(*) FROM providers")) == (2, 5)


async def test_the_key_of_encryption_is_rotated_beside_dropped_credentials(gateway, monkeypatch):
    monkeypatch.setattr("gateway.providers.service.MAX_DELETED_PROVIDERS", 0)
    gone, _kept = [(await add(gateway)).json()["id"] for _ in range(2)]
    await gateway.ask("DELETE", f"{PROVIDERS}/{gone}")
    rotated = CredentialCipher(lambda: [b"\1" * 32, bytes(32)])

    assert await providers.count_stale_credentials(gateway.pool, rotated) == 1
    assert await providers.reencrypt_credentials(gateway.pool, rotated) == (1, 0)


async def test_the_list_of_the_most_providers_does_not_stop_the_loop(gateway):
    gateway.client.event_hooks = {}
    for _ in range(limits.MAX_PROVIDERS):
        await add(gateway, baseUrl=f"https://api.example.com/{'a' * 500}")
    await gateway.ask("GET", PROVIDERS)

    async with loop_lag() as lag:
        answer = await gateway.ask("GET", PROVIDERS)

    assert len(answer.json()["data"]) == limits.MAX_PROVIDERS
    assert lag.worst < LIMIT


async def test_a_row_is_decrypted_once_for_the_list(gateway, monkeypatch):
    for _ in range(3):
        await add(gateway)
    decrypt, calls = gateway.cipher.decrypt, []
    monkeypatch.setattr(
        type(gateway.cipher), "decrypt", lambda _, *args, **named: calls.append(1) or decrypt(*args, **named)
    )

    await gateway.ask("GET", PROVIDERS)

    assert len(calls) == 3


async def test_a_project_has_a_limited_number_of_keys_and_domains(gateway, monkeypatch):
    monkeypatch.setattr("gateway.keys.service.MAX_KEYS", 2)  # the gateway of the tests has one
    monkeypatch.setattr("gateway.domains.service.MAX_DOMAINS", 2)
    owner = await a_person(gateway, "owner@example.com", shop="owner")

    async def add_key(name):
        return await owner.ask("POST", "/v1/projects/shop/keys", json={"name": name})

    async def add_domain(name):
        return await gateway.ask("POST", "/v1/domains", json={"domain": name})

    keys = [await add_key(name) for name in ("a", "b")]
    domains = [await add_domain(name) for name in ("a.example", "b.example", "c.example")]

    assert [one.status_code for one in (*keys, *domains)] == [201, 409, 201, 201, 409]
    for refused in (keys[-1], domains[-1]):
        error_of(refused, 409, "LIMIT_REACHED")
    revoked = await owner.ask("DELETE", f"/v1/projects/shop/keys/{keys[0].json()['id']}")
    assert (revoked.status_code, (await add_key("c")).status_code) == (200, 201)
