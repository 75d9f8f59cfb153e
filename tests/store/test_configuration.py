"""The configuration cache: at most one notification behind, and complete after every reconnection."""

from dataclasses import replace

import pytest

from sluice.model.channel_group import ChannelGroup
from sluice.model.ids import uuid7
from sluice.model.message import Channel
from sluice.runtime.errors import SluiceError
from sluice.store import api_keys, channel_configs, domains, projects, providers
from sluice.store.api_keys import parse_key_prefix
from sluice.store.channel_configs import ChannelConfig
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.logins import GATEWAY, ROUTER, WORKER
from tests.engine import as_login
from tests.examples import NOON, after, an_id
from tests.polling import wait_until

CIPHER = CredentialCipher(lambda: [bytes(32)])


@pytest.fixture
async def project(pool):
    return await a_project(pool)


@pytest.fixture
async def cache(store_database, pool):
    """A cache that is subscribed to an empty database."""
    async with ConfigCache().subscribed(as_login(store_database, GATEWAY)) as found:
        yield found


async def a_project(pool, slug="shop"):
    return await projects.create_project(pool, organization="Shop", slug=slug, name="Shop", now=NOON)


async def a_provider(pool, project, name="first", *, credentials=None, **changes):
    provider_id = uuid7()
    defaults = {
        "package": "provider-smtp",
        "channel": Channel.EMAIL,
        "encrypted_credentials": CIPHER.encrypt_credentials(
            credentials or {"host": "localhost"}, project_id=project.id, provider_id=provider_id
        ),
    }
    await providers.create_provider(pool, provider_id, project.id, name=name, now=NOON, **defaults | changes)
    return provider_id


def names(cache, project, channel=Channel.EMAIL):
    return [cache.providers[candidate.id].name for candidate in cache.candidates(project.id, channel)]


async def test_the_existing_configuration_is_loaded(store_database, pool, project):
    provider_id = await a_provider(pool, project)
    key = await api_keys.create_key(pool, project.id, name="shop", is_test=False, now=NOON)

    async with ConfigCache().subscribed(as_login(store_database, WORKER)) as cache:
        assert cache.projects == {project.id: project}
        assert set(cache.providers) == {provider_id}
        assert cache.key(parse_key_prefix(key)).matches(key)


async def test_a_new_project_is_added(cache, pool):
    project = await a_project(pool)

    await wait_until(lambda: cache.projects == {project.id: project})


async def test_a_new_provider_is_added(cache, pool, project):
    await a_provider(pool, project)

    await wait_until(lambda: names(cache, project) == ["first"])


async def test_candidates_are_in_priority_order(cache, pool, project):
    for name, priority in (("b", None), ("c", None), ("a", 0)):
        await a_provider(pool, project, name, priority=priority)

    await wait_until(lambda: names(cache, project) == ["a", "b", "c"])


async def test_a_channel_has_its_own_providers(cache, pool, project):
    await a_provider(pool, project, "mail")
    await a_provider(pool, project, "text", channel=Channel.SMS)

    await wait_until(lambda: names(cache, project) + names(cache, project, Channel.SMS) == ["mail", "text"])


@pytest.mark.parametrize("change", [{"enabled": False}, {"deleted": True}])
async def test_a_disabled_or_deleted_provider_is_no_candidate(cache, pool, project, change):
    provider_id = await a_provider(pool, project)
    await wait_until(lambda: names(cache, project) == ["first"])

    await providers.update_provider(pool, project.id, provider_id, now=after(1), **change)

    await wait_until(lambda: names(cache, project) == [])
    assert provider_id in cache.providers  # for attempts in flight


async def test_new_credentials_have_a_new_version(cache, pool, project):
    provider_id = await a_provider(pool, project)
    bound = {"project_id": project.id, "provider_id": provider_id}
    encrypted = CIPHER.encrypt(b"new", **bound, version=2)

    await providers.update_provider(pool, project.id, provider_id, now=after(1), encrypted_credentials=encrypted)

    found = await wait_until(lambda: next((row for row in cache.providers.values() if row.version == 2), None))
    assert found.credentials_version == 2
    assert CIPHER.decrypt(found.encrypted_credentials, **bound, version=2) == b"new"


async def test_credentials_of_another_row_cannot_be_decrypted(cache, pool, project):
    first, second = await a_provider(pool, project), await a_provider(pool, project, "second")
    await pool.execute(
        "UPDATE providers SET encrypted_credentials = (SELECT encrypted_credentials FROM providers WHERE id = $1)"
        " WHERE id = $2",
        first,
        second,
    )

    rows = {row.id: row for row in await providers.list_providers(pool)}

    with pytest.raises(SluiceError):
        CIPHER.decrypt(rows[second].encrypted_credentials, project_id=project.id, provider_id=second, version=1)


async def test_finding_24_older_credentials_of_the_same_row_cannot_be_decrypted(pool, project):
    provider_id = await a_provider(pool, project)
    old = await pool.fetchval("SELECT encrypted_credentials FROM providers")
    bound = {"project_id": project.id, "provider_id": provider_id}
    await providers.update_provider(
        pool, project.id, provider_id, now=after(1), encrypted_credentials=CIPHER.encrypt(b"new", **bound, version=2)
    )
    await pool.execute("UPDATE providers SET encrypted_credentials = $1", old)

    (row,) = await providers.list_providers(pool)

    with pytest.raises(SluiceError):
        CIPHER.decrypt(row.encrypted_credentials, **bound, version=row.credentials_version)


async def test_finding_24_a_rotation_encrypts_all_credentials_again_and_running_roles_follow(pool, project):
    keys = [bytes(32)]
    running = CredentialCipher(lambda: list(keys))
    ids = [await a_provider(pool, project, name) for name in ("first", "second", "third")]
    await providers.update_provider(pool, project.id, ids[2], now=after(1), deleted=True)
    keys.insert(0, bytes([7] * 32))
    rotating = CredentialCipher(lambda: list(keys))

    assert await providers.count_stale_credentials(pool, rotating) == 3
    assert await providers.reencrypt_credentials(pool, rotating, limit=2) == (3, 0)
    assert await providers.reencrypt_credentials(pool, rotating) == (0, 0)

    del keys[1]  # the old key is forgotten
    for row in await providers.list_providers(pool):
        opened = running.decrypt(row.encrypted_credentials, project_id=project.id, provider_id=row.id, version=1)
        assert opened == b'{"host": "localhost"}'
    assert await providers.count_stale_credentials(pool, running) == 0


async def test_a_rotation_does_not_undo_new_credentials(pool, project):
    provider_id = await a_provider(pool, project)
    bound = {"project_id": project.id, "provider_id": provider_id}
    rotating = CredentialCipher(lambda: [bytes([7] * 32), bytes(32)])

    class Racing:
        """Changes the credentials between the rotation's read and its write."""

        async def fetch(self, query, *values):
            rows = await pool.fetch(query, *values)
            if query.startswith("SELECT") and rows:
                new = CIPHER.encrypt(b"new", **bound, version=2)
                await providers.update_provider(pool, project.id, provider_id, now=after(1), encrypted_credentials=new)
            return rows

    assert await providers.reencrypt_credentials(Racing(), rotating) == (0, 1)
    (row,) = await providers.list_providers(pool)
    assert rotating.decrypt(row.encrypted_credentials, **bound, version=2) == b"new"


async def test_credentials_of_a_forgotten_key_stop_the_rotation(pool, project):
    await a_provider(pool, project)

    with pytest.raises(SluiceError, match="key that is not configured"):
        await providers.reencrypt_credentials(pool, CredentialCipher(lambda: [bytes([7] * 32)]))


async def test_an_inactive_key_is_removed(cache, pool, project):
    key = await api_keys.create_key(pool, project.id, name="shop", is_test=False, now=NOON)
    await wait_until(lambda: cache.key(parse_key_prefix(key)))

    await pool.execute("UPDATE api_keys SET is_active = false")

    await wait_until(lambda: cache.key(parse_key_prefix(key)) is None)
    assert await api_keys.find_keys(pool, [parse_key_prefix(key)]) == {}


async def test_the_database_does_not_contain_a_key(pool, project):
    key = await api_keys.create_key(pool, project.id, name="shop", is_test=False, now=NOON)

    row = await pool.fetchval("SELECT api_keys::text FROM api_keys")

    assert key[20:] not in row


async def test_a_deleted_project_is_removed_with_its_keys_and_providers(cache, pool, project):
    await a_provider(pool, project)
    key = await api_keys.create_key(pool, project.id, name="shop", is_test=False, now=NOON)
    await wait_until(lambda: cache.key(parse_key_prefix(key)) and names(cache, project))

    await pool.execute("DELETE FROM projects")

    await wait_until(lambda: not cache.projects and not cache.providers and not names(cache, project))
    assert cache.key(parse_key_prefix(key)) is None


async def test_a_change_of_one_project_does_not_affect_the_others(cache, pool, project):
    other = await a_project(pool, "other")
    await a_provider(pool, project, "ours")
    await a_provider(pool, other, "theirs")
    await wait_until(lambda: names(cache, project) + names(cache, other) == ["ours", "theirs"])

    await a_provider(pool, project, "new")

    await wait_until(lambda: names(cache, project) == ["ours", "new"])
    assert names(cache, other) == ["theirs"]


async def test_a_change_during_a_lost_connection_is_read_after_the_reconnection(cache, pool, project):
    await a_provider(pool, project)
    await wait_until(lambda: names(cache, project) == ["first"])

    # In one transaction: the notification of the change is lost with the listener.
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid = ANY($1)",
            await listeners(connection),
        )
        await connection.execute("UPDATE providers SET name = 'renamed'")

    await wait_until(lambda: names(cache, project) == ["renamed"])


async def listeners(connection):
    """All other connections of this database; the listening one is among them."""
    rows = await connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return [row["pid"] for row in rows]


async def test_the_last_state_is_served_while_the_connection_is_lost(cache, pool, project):
    await a_provider(pool, project)
    await wait_until(lambda: names(cache, project) == ["first"])

    async with pool.acquire() as connection:
        await connection.execute("SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p", await listeners(connection))

    assert names(cache, project) == ["first"]


@pytest.mark.parametrize("payload", ["", "providers", "providers:", "providers:not-an-id", ":", "x" * 7000])
async def test_an_unexpected_notification_is_ignored(cache, pool, project, payload):
    await pool.execute("SELECT pg_notify('sluice_config', $1)", payload)

    await a_provider(pool, project)

    await wait_until(lambda: names(cache, project) == ["first"])


async def test_the_representation_of_a_provider_row_contains_no_credentials(cache, pool, project):
    await a_provider(pool, project, credentials={"api_key": "canary-secret"})
    (row,) = await providers.list_providers(pool)

    assert "canary" not in repr(replace(row, id=an_id()))


async def test_a_channel_configuration_counts_for_the_channels_of_its_group(cache, pool, project):
    config = ChannelConfig(project.id, ChannelGroup.MESSAGE, False, None, None, created_at=NOON, updated_at=NOON)
    await channel_configs.create_config(pool, config)

    await wait_until(lambda: cache.channel_config(project.id, Channel.SMS) == config)
    assert cache.channel_config(project.id, Channel.TELEGRAM) == config
    assert cache.channel_config(project.id, Channel.EMAIL) is None
    assert cache.channel_config(an_id(), Channel.SMS) is None

    await projects.delete_project(pool, project.id, now=NOON)
    await wait_until(lambda: cache.channel_config(project.id, Channel.SMS) is None)


async def test_a_project_has_one_configuration_of_a_group(pool, project):
    config = ChannelConfig(
        *(project.id, ChannelGroup.EMAIL, True, "shop@example.com", "Shop, the best"), created_at=NOON, updated_at=NOON
    )

    assert await channel_configs.create_config(pool, config)
    assert not await channel_configs.create_config(pool, replace(config, enabled=False))
    assert await channel_configs.list_configs(pool, project.id) == [config]
    assert config.sender == '"Shop, the best" <shop@example.com>'


async def test_what_checks_of_domains_have_found_is_known_in_projects_that_refuse_other_senders(
    cache, pool, project, store_database
):
    def statuses(found=cache):
        return found.domain_statuses(project.id, "shop.example")

    domain = await domains.create_domain(pool, project.id, domain="shop.example", token="t", now=NOON)
    other = await a_project(pool, "other")
    await domains.create_domain(pool, other.id, domain="other.example", token="t", now=NOON)
    await domains.record_check(pool, project.id, domain.id, statuses={"spf": "missing"}, now=NOON)
    await pool.execute("UPDATE projects SET verified_senders_only = true WHERE id = $1", project.id)
    await wait_until(lambda: statuses() == {"spf": "missing"})

    await domains.record_check(pool, project.id, domain.id, statuses={"spf": "verified"}, now=NOON)
    await wait_until(lambda: statuses() == {"spf": "verified"})
    assert cache.projects[project.id].verified_senders_only
    assert await domains.list_statuses(pool) == {(project.id, "shop.example"): {"spf": "verified"}}
    assert await domains.list_statuses(pool, other.id) == {}
    for login in (ROUTER, WORKER):
        async with ConfigCache().subscribed(as_login(store_database, login)) as found:
            assert statuses(found) == {"spf": "verified"}

    await domains.delete_domain(pool, project.id, domain.id)
    await wait_until(lambda: statuses() == {})


async def test_what_checks_have_found_is_forgotten_with_the_setting(cache, pool, project):
    domain = await domains.create_domain(pool, project.id, domain="shop.example", token="t", now=NOON)
    await domains.record_check(pool, project.id, domain.id, statuses={"spf": "verified"}, now=NOON)
    await pool.execute("UPDATE projects SET verified_senders_only = true")
    await wait_until(lambda: cache.domain_statuses(project.id, "shop.example"))

    await pool.execute("UPDATE projects SET verified_senders_only = false")

    await wait_until(lambda: not cache.domain_statuses(project.id, "shop.example"))
