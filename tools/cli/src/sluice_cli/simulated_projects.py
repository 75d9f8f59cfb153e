"""Projects whose providers are endpoints of the simulator: for demonstrations and game days on an installation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice.runtime.errors import SluiceError

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from sluice.model.message import Channel
    from sluice.store.cipher import CredentialCipher


@dataclass(frozen=True, slots=True)
class ProviderPlan:
    """A provider of a new project."""

    package: str
    channel: Channel
    name: str
    credentials: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SimulatedProject:
    """A project, a live API key of it, and its providers in the order of their plans."""

    id: UUID
    key: str
    providers: tuple[UUID, ...]


def require_simulator(command: str) -> None:
    """Raises SluiceError where the simulator is not installed."""
    try:
        import sluice_simulator  # noqa: F401
    except ModuleNotFoundError:
        raise SluiceError(f"`{command}` needs the distribution sluice-simulator, which is not installed") from None


def credential_cipher() -> CredentialCipher:
    """The cipher of the running installation.

    Raises:
        SluiceError: no installation runs here, or its key cannot be read.
    """
    from sluice.runtime.settings import EncryptionSettings, load
    from sluice.store.cipher import CredentialCipher
    from sluice_cli.context import address, environment

    settings = load(
        EncryptionSettings,
        postgres_dsn=address("SLUICE_POSTGRES_DSN"),
        kafka_bootstrap_servers=address("SLUICE_KAFKA_BOOTSTRAP_SERVERS"),
        encryption_key_file=environment().get("SLUICE_ENCRYPTION_KEY_FILE"),
    )
    return CredentialCipher(settings.read_encryption_keys)


async def create_project(
    connection: asyncpg.Connection,
    cipher: CredentialCipher,
    *,
    slug: str,
    name: str,
    providers: Sequence[ProviderPlan],
) -> SimulatedProject:
    """A new project with these providers, in the order in which they are tried. ``slug`` gets a unique end."""
    from sluice.model.ids import uuid7
    from sluice.runtime.clock import utc_now
    from sluice.store import api_keys, projects
    from sluice.store import providers as provider_rows

    now = utc_now()
    slug = f"{slug}-{uuid7().hex[-12:]}"
    project = await projects.create_project(connection, organization="Demo", slug=slug, name=name, now=now)
    ids: list[UUID] = []
    for plan in providers:
        provider_id = uuid7()
        ids.append(provider_id)
        await provider_rows.create_provider(
            connection,
            provider_id,
            project.id,
            package=plan.package,
            channel=plan.channel,
            name=plan.name,
            encrypted_credentials=cipher.encrypt_credentials(
                dict(plan.credentials), project_id=project.id, provider_id=provider_id
            ),
            now=now,
        )
    key = await api_keys.create_key(connection, project.id, name="demo", is_test=False, now=now)
    return SimulatedProject(project.id, key, tuple(ids))
