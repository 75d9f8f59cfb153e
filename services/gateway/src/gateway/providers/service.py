"""Providers of a project, for every API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from gateway.auth.principal import Principal
from gateway.errors import Forbidden, NotFound, NotProbeable, Unavailable, ValidationFailed, VersionConflict
from gateway.kit.addresses import check_hosts
from gateway.kit.limits import MAX_DELETED_PROVIDERS, MAX_PROVIDERS, require_room
from gateway.kit.transactions import transaction
from gateway.providers.credentials import hosts_of, is_same, open_credentials, read_credentials
from gateway.providers.tester import CallResult
from gateway.providers.v1_schemas import (
    CreateProviderRequest,
    ProviderSettings,
    TestMessageRequest,
    UpdateProviderRequest,
)
from gateway.services import Services
from sluice.bus.messages import ProviderProbeRequested
from sluice.bus.publisher import PublishResult, wait_for_acks
from sluice.bus.topics import Topic
from sluice.model import ids
from sluice.model.channel_group import GROUP_OF, ChannelGroup
from sluice.model.message import Channel
from sluice.model.outcome import outcome_name
from sluice.providers.account import Account
from sluice.providers.contract import AnyPackage
from sluice.providers.registry import UnknownPackageError, get_package
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store import audit, provider_health, provider_receipts, providers
from sluice.store.audit import Actor
from sluice.store.db import Db
from sluice.store.provider_health import HealthChange, HealthStep
from sluice.store.provider_receipts import ProviderReceipts
from sluice.store.providers import ProviderRow, ProviderView

log = structlog.get_logger()

NO_PROVIDER = "The project has no such provider."
_DAY = timedelta(days=1)
_MAX_CHANGES, _MAX_STEPS = 100, 2_000
_UNREADABLE = "credentials: the stored ones cannot be read; set them again"


async def list_views(services: Services, principal: Principal, *, channel: Channel | None = None) -> list[ProviderView]:
    """The providers of the principal's project in routing order, or those of one channel.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await providers.list_views(db, principal.project_id, channel=channel)


async def find(services: Services, principal: Principal, provider_id: UUID) -> ProviderView:
    """One provider of the principal's project.

    Raises:
        NotFound: the project has no provider with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await _find(db, principal, provider_id)


async def _find(db: Db, principal: Principal, provider_id: UUID) -> ProviderView:
    found = await providers.list_views(db, principal.project_id, provider_id=provider_id)
    if not found:
        raise NotFound(NO_PROVIDER)
    return found[0]


async def find_health(
    services: Services, principal: Principal, provider_id: UUID
) -> tuple[ProviderView, ProviderReceipts | None, list[HealthChange]]:
    """One provider, what is known of its receipts, and the changes of its status.

    Raises:
        NotFound: the project has no provider with this id.
        Unavailable: PostgreSQL does not answer.
    """
    now = utc_now()
    async with transaction(services.pool, principal.project_id) as db:
        view = await _find(db, principal, provider_id)
        receipts = await provider_receipts.find(db, provider_id)
        since = now - provider_health.KEPT_FOR
        changes = await provider_health.list_changes(db, [provider_id], since=since, until=now, limit=_MAX_CHANGES)
    return view, receipts, changes


async def health_history(
    services: Services,
    principal: Principal,
    provider_id: UUID,
    *,
    since: datetime | None,
    until: datetime | None,
    step: timedelta,
) -> list[HealthStep]:
    """The health of one provider by steps of time, by default of the last day.

    Raises:
        NotFound: the project has no provider with this id.
        ValidationFailed: the range is empty, or has too many steps.
        Unavailable: PostgreSQL does not answer.
    """
    now = utc_now()
    ends = now if until is None else min(until, now + step)
    begins = ends - _DAY if since is None else max(since, now - provider_health.KEPT_FOR)
    if since is not None and until is not None and since >= until:
        raise ValidationFailed("until: must be after since", field="until")
    if ends - begins > _MAX_STEPS * step:
        raise ValidationFailed(f"step_s: the range has more than {_MAX_STEPS} steps of that length", field="step_s")
    async with transaction(services.pool, principal.project_id) as db:
        await _find(db, principal, provider_id)
        return await provider_health.list_steps(db, provider_id, since=begins, until=ends, step=step)


async def create(
    services: Services, principal: Principal, request: CreateProviderRequest, actor: Actor
) -> ProviderView:
    """Add a provider, after a test call if the request asks for one.

    Raises:
        LimitReached: the project has as many providers as it may have.
        ValidationFailed: the package or the channel is unknown, the credentials or the settings are not those of the
            package, or the test call was not accepted.
        Unavailable: PostgreSQL does not answer.
    """
    package = _package_of(request.package_name)
    channel = _channel_of(package, request.channel)
    _check_settings(request.settings, request.package_name)
    provider_id = ids.uuid7()
    await _check_credentials(services, principal, request, request.credentials, package, channel, provider_id)
    encrypted = services.cipher.encrypt_credentials(
        request.credentials, project_id=principal.project_id, provider_id=provider_id
    )
    async with transaction(services.pool, principal.project_id) as db:
        await providers.lock_providers(db, principal.project_id)
        count = await providers.count_providers(db, principal.project_id)
        require_room(count, MAX_PROVIDERS, "providers")
        await providers.create_provider(
            db,
            provider_id,
            principal.project_id,
            package=package.name,
            channel=channel,
            name=request.name,
            encrypted_credentials=encrypted,
            priority=request.priority,
            settings=request.settings.model_dump(exclude_none=True),
            enabled=request.enabled,
            now=utc_now(),
        )
        changes = {"name": request.name, "packageName": package.name, "channel": channel.value}
        await _audit(db, actor, principal, provider_id, "created", changes)
        return await _find(db, principal, provider_id)


async def update(
    services: Services, principal: Principal, provider_id: UUID, request: UpdateProviderRequest, actor: Actor
) -> ProviderView:
    """Change a provider. Calls under way keep the credentials that they began with.

    One that is not healthy is probed when its credentials change or it is enabled: a suspension ends.

    Raises:
        NotFound: the project has no provider with this id.
        ValidationFailed: the credentials or the settings are not those of the package, or the test call was not
            accepted.
        VersionConflict: the provider has another version than the request names.
        Unavailable: PostgreSQL does not answer.
    """
    row = (await find(services, principal, provider_id)).row
    _check_settings(request.settings, row.package)
    if request.credentials is not None:
        package = _package_of(row.package)
        await _check_credentials(services, principal, request, request.credentials, package, row.channel, row.id)
    async with transaction(services.pool, principal.project_id) as db:
        await providers.lock_providers(db, principal.project_id)
        view = await _find(db, principal, provider_id)
        if request.version not in (None, view.row.version):
            raise VersionConflict(f"version: the provider has version {view.row.version} now", field="version")
        changes = _changes(services, view.row, request)
        if not changes:
            return view
        await providers.update_provider(
            db, principal.project_id, provider_id, now=utc_now(), **_new_fields(services, view.row, changes)
        )
        shown = {**changes, "credentials": sorted(changes["credentials"])} if "credentials" in changes else changes
        await _audit(db, actor, principal, provider_id, "updated", shown)
        view = await _find(db, principal, provider_id)
    if ("credentials" in changes or "enabled" in changes) and _is_probeable(services, view):
        # Not awaited: the change is saved. Without the bus, a suspension lasts until its own end or the next request.
        _request_probe(services, principal, view).on_done(partial(_log_failure, provider_id))
    return view


def _log_failure(provider_id: UUID, requested: PublishResult) -> None:
    if requested.error is not None:
        log.warning("probe_not_requested", provider=str(provider_id), error=requested.error)


def _check_settings(settings: ProviderSettings | None, package_name: str) -> None:
    field = "settings.segments_per_second"
    if settings is None or settings.segments_per_second is None:
        return
    if not _package_of(package_name).segments:
        raise ValidationFailed(f"{field}: {package_name} does not send in segments: use calls_per_second", field=field)
    if settings.calls_per_second is not None:
        raise ValidationFailed(f"{field}: cannot be combined with calls_per_second", field=field)


def _changes(services: Services, row: ProviderRow, request: UpdateProviderRequest) -> dict[str, Any]:
    """What differs from the row, by the names of the request."""
    wanted: dict[str, Any] = {"name": request.name, "enabled": request.enabled, "priority": request.priority}
    if request.settings is not None:
        wanted["settings"] = request.settings.model_dump(exclude_none=True)
    changes = {name: value for name, value in wanted.items() if value is not None and value != getattr(row, name)}
    if request.credentials is not None and not is_same(row, services.cipher, request.credentials):
        changes["credentials"] = request.credentials
    return changes


def _new_fields(services: Services, row: ProviderRow, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes as the store takes them: credentials encrypted for their next version."""
    fields = dict(changes)
    if "credentials" in fields:
        fields["encrypted_credentials"] = services.cipher.encrypt_credentials(
            fields.pop("credentials"),
            project_id=row.project_id,
            provider_id=row.id,
            version=row.credentials_version + 1,
        )
    return fields


async def delete(services: Services, principal: Principal, provider_id: UUID, actor: Actor) -> None:
    """Remove a provider; messages under way go on at the next one, and receipts of what it sent still count.

    Raises:
        NotFound: the project has no provider with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        await providers.lock_providers(db, principal.project_id)
        view = await _find(db, principal, provider_id)
        await providers.update_provider(db, principal.project_id, provider_id, now=utc_now(), deleted=True)
        await providers.drop_old_credentials(db, principal.project_id, kept=MAX_DELETED_PROVIDERS)
        await _audit(db, actor, principal, provider_id, "deleted", {"name": view.row.name})


async def reorder(
    services: Services,
    principal: Principal,
    channel: Channel,
    wanted: Sequence[str],
    actor: Actor,
    *,
    expected: Sequence[str] | None = None,
) -> list[ProviderView]:
    """Put the named providers of a channel first, in this order; the others follow in their earlier order.

    ``expected``: the ids of all providers of the channel in the order that the caller has read.

    Raises:
        ValidationFailed: an id is repeated, or not of a provider of the project and the channel.
        VersionConflict: the channel has another order than the expected one.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        await providers.lock_providers(db, principal.project_id)
        before = [view.row.id for view in await providers.list_views(db, principal.project_id, channel=channel)]
        if expected is not None and list(expected) != [ids.encode_id("prv", one) for one in before]:
            raise VersionConflict("expectedIds: the channel has another order meanwhile", field="expectedIds")
        named = named_providers(wanted, before, channel)
        order = [*named, *(one for one in before if one not in named)]
        priorities = {provider_id: number for number, provider_id in enumerate(order, 1)}
        await providers.set_priorities(db, principal.project_id, priorities, now=utc_now())
        if order != before:
            changes = {"channel": channel.value, "providerIds": [ids.encode_id("prv", one) for one in order]}
            await _audit(db, actor, principal, order[0], "reordered", changes)
        return await providers.list_views(db, principal.project_id, channel=channel)


def named_providers(
    wanted: Sequence[str], known: Sequence[UUID], channel: Channel, *, field: str = "providerIds"
) -> list[UUID]:
    """The ids in a field of the request, each of which is one of ``known``.

    Raises:
        ValidationFailed: an id is repeated, or none of them; its position is named.
    """
    named: list[UUID] = []
    for index, text in enumerate(wanted):
        place = f"{field}.{index}"
        try:
            found = ids.decode_id("prv", text)
        except ids.InvalidIdError:
            found = None
        if found is None or found not in known:
            raise ValidationFailed(f"{place}: is no {channel.value} provider of the project", field=place)
        if found in named:
            raise ValidationFailed(f"{place}: is repeated", field=place)
        named.append(found)
    return named


async def set_priorities(
    services: Services, principal: Principal, group: ChannelGroup, wanted: Sequence[tuple[UUID, int]], actor: Actor
) -> list[ProviderView]:
    """Give providers of a channel group their priorities, all or none; returns all of the group.

    Raises:
        ValidationFailed: an id is repeated, or not of a provider of the project and the group.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        await providers.lock_providers(db, principal.project_id)
        known = {view.row.id: view.row.priority for view in await _list_group(db, principal, group)}
        seen: set[UUID] = set()
        for index, (provider_id, _) in enumerate(wanted):
            field = f"providers.{index}.id"
            if provider_id not in known:
                raise ValidationFailed(f"{field}: is no {group} provider of the project", field=field)
            if provider_id in seen:
                raise ValidationFailed(f"{field}: is repeated", field=field)
            seen.add(provider_id)
        changes = {provider_id: priority for provider_id, priority in wanted if known[provider_id] != priority}
        if changes:
            await providers.set_priorities(db, principal.project_id, changes, now=utc_now())
            shown = {"priorities": {ids.encode_id("prv", one): priority for one, priority in changes.items()}}
            await _audit(db, actor, principal, next(iter(changes)), "reordered", shown)
        return await _list_group(db, principal, group)


async def list_group(services: Services, principal: Principal, group: ChannelGroup) -> list[ProviderView]:
    """The providers of a channel group in priority order, those of all its channels together.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await _list_group(db, principal, group)


async def _list_group(db: Db, principal: Principal, group: ChannelGroup) -> list[ProviderView]:
    views = await providers.list_views(db, principal.project_id)
    found = [view for view in views if GROUP_OF[view.row.channel] is group]
    return sorted(found, key=lambda view: (view.row.priority, view.row.id))


async def probe(services: Services, principal: Principal, provider_id: UUID, actor: Actor) -> ProviderView:
    """Ask the health service to have a provider probed by the next message.

    Raises:
        NotFound: the project has no provider with this id.
        NotProbeable: it is healthy or disabled.
        Unavailable: PostgreSQL or the bus does not answer.
    """
    view = await find(services, principal, provider_id)
    if not view.row.enabled:
        raise NotProbeable("The provider is disabled: enable it first.")
    if not _is_probeable(services, view):
        raise NotProbeable("The provider is healthy: every message may go to it.")
    if not await wait_for_acks([_request_probe(services, principal, view)]):
        raise Unavailable("The bus is unavailable. Retry later.")
    async with transaction(services.pool, principal.project_id) as db:
        await _audit(db, actor, principal, provider_id, "probed", {"name": view.row.name})
    return view


def _is_probeable(services: Services, view: ProviderView) -> bool:
    health = services.health.get(view.row.id)
    return view.row.enabled and health is not None and health.status != "healthy"


def _request_probe(services: Services, principal: Principal, view: ProviderView) -> PublishResult:
    requested = ProviderProbeRequested(
        project_id=principal.project_id, channel=view.row.channel, provider_id=view.row.id, occurred_at=utc_now()
    )
    return services.publisher.publish(Topic.EVENTS, view.row.id.bytes, requested.encode())


async def test(
    services: Services,
    principal: Principal,
    provider_id: UUID,
    request: TestMessageRequest,
    actor: Actor,
    *,
    default_sender: str | None,
) -> CallResult:
    """Send one real message through just this provider, enabled or not.

    ``default_sender``: of an e-mail that names none, before that of the project.

    Raises:
        NotFound: the project has no provider with this id.
        Forbidden: the person is in test mode.
        ValidationFailed: the message is not one of the channel, or the stored credentials cannot be read.
        TooManyRequests: too many test calls run.
        Unavailable: PostgreSQL does not answer.
    """
    row = (await find(services, principal, provider_id)).row
    credentials = open_credentials(row, services.cipher)
    if credentials is None:
        metrics.series(metrics.UNREADABLE_CREDENTIALS, row.package).inc()
        raise ValidationFailed(_UNREADABLE, field="credentials")
    account = services.providers.links.get(row.package)
    opened = Account(row.id, row.version, _package_of(row.package), credentials)
    if account is not None:
        opened = Account(row.id, row.version, account.package, account.credentials)
    result = await _call(services, principal, opened, row.channel, request, default_sender)
    async with transaction(services.pool, principal.project_id) as db:
        changes = {"outcome": outcome_name(result.outcome)}
        await _audit(db, actor, principal, provider_id, "tested", changes)
    return result


async def _call(
    services: Services,
    principal: Principal,
    account: Account,
    channel: Channel,
    request: TestMessageRequest,
    default_sender: str | None = None,
) -> CallResult:
    if principal.is_test:
        raise Forbidden("In test mode no real messages are sent, and this would be one.")
    project = services.config.projects.get(principal.project_id)
    sender = default_sender or (None if project is None else project.default_sender)
    return await services.providers.tester.call(account, channel, request, default_sender=sender)


async def _check_credentials(
    services: Services,
    principal: Principal,
    request: CreateProviderRequest | UpdateProviderRequest,
    document: Mapping[str, Any],
    package: AnyPackage,
    channel: Channel,
    provider_id: UUID,
) -> None:
    """All that is checked before new credentials are stored, the test call of ``verify`` last.

    Raises:
        ValidationFailed: they are not those of the package, name a host that may not be dialled, or the test call
            was not accepted.
    """
    credentials = read_credentials(package, document)
    await check_hosts(services.outgoing, dict(hosts_of(credentials)))
    if request.verify is None:
        return
    account = Account(provider_id, 0, package, credentials)
    result = await _call(services, principal, account, channel, request.verify)
    if not result.accepted:
        name = outcome_name(result.outcome)
        raise ValidationFailed(
            f"credentials: the test message was not accepted ({name}): {result.outcome.detail}", field="credentials"
        )


def _package_of(name: str) -> AnyPackage:
    try:
        return get_package(name)
    except UnknownPackageError as error:
        raise ValidationFailed(f"packageName: {error}", field="packageName") from None


def _channel_of(package: AnyPackage, wanted: Channel | None) -> Channel:
    if wanted is None and len(package.channels) == 1:
        return package.channels[0]
    if wanted not in package.channels:
        known = ", ".join(package.channels)
        raise ValidationFailed(f"channel: must be one of {known} for {package.name}", field="channel")
    return wanted


async def _audit(
    db: Db, actor: Actor, principal: Principal, provider_id: UUID, action: str, changes: Mapping[str, Any]
) -> None:
    await audit.append(
        db,
        actor,
        project_id=principal.project_id,
        action=action,
        noun="provider",
        object_id=ids.encode_id("prv", provider_id),
        changes=changes,
        now=utc_now(),
    )
