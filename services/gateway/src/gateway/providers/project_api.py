"""``/{email,message,push}-config/providers`` and the schemas of their configurations, of the project API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request

from gateway.auth.principal import Principal
from gateway.channel_configs.service import find_sender
from gateway.dependencies import ServicesDep
from gateway.errors import LimitReached, NotFound, TooManyRequests, ValidationFailed
from gateway.kit.channel_group_path import GroupInPath
from gateway.kit.field_names import renamed_fields
from gateway.kit.json_route import JsonRoute
from gateway.kit.project_api_errors import errors_of
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.project_dependencies import Person, ProvidersRead, ProvidersWrite, ProviderWrite
from gateway.providers import service
from gateway.providers.credentials import show_credentials
from gateway.providers.names import name_of, packages_of
from gateway.providers.project_api_schemas import (
    AddProviderRequest,
    ChangeProviderRequest,
    DeletedProviderResponse,
    PrioritiesRequest,
    ProviderResponse,
    TestEmailRequest,
    TestEmailResponse,
)
from gateway.providers.v1_schemas import CreateProviderRequest, TestMessageRequest, UpdateProviderRequest
from gateway.services import Services
from sluice.model.channel_group import GROUP_OF, ChannelGroup
from sluice.model.message import Channel
from sluice.model.outcome import Accepted, outcome_name
from sluice.providers.contract import AnyPackage
from sluice.providers.registry import credential_schema
from sluice.store.providers import ProviderView

router = APIRouter(tags=["providers"], route_class=JsonRoute)

ProviderId = Annotated[str, Path(alias="providerId")]
_FIELDS = {"credentials": "config", "packageName": "provider", "from": "senderEmail"}  # by their names in /v1


async def list_schemas(group: GroupInPath, person: Person) -> dict[str, dict[str, Any]]:
    """The JSON Schemas of the `config` of each provider of these channels, by the value of `provider`."""
    return {name: _schema(package) for name, package in packages_of(group).items()}


async def get_schema(group: GroupInPath, provider: str, person: Person) -> dict[str, Any]:
    """The JSON Schema of the `config` of one provider."""
    package = packages_of(group).get(provider)
    if package is None:
        raise NotFound(f"There is no such provider of {group}.")
    return _schema(package)


def _schema(package: AnyPackage) -> dict[str, Any]:
    return {**credential_schema(package), "title": package.title}


async def list_providers(group: GroupInPath, principal: ProvidersRead, services: ServicesDep) -> list[ProviderResponse]:
    """The project's providers of these channels in priority order."""
    return [_serialize(view, services) for view in await service.list_group(services, principal, group)]


async def add_provider(
    group: GroupInPath, body: AddProviderRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> ProviderResponse:
    """Add a provider. It is used for messages within a second."""
    package = packages_of(group).get(body.provider)
    if package is None:
        raise ValidationFailed(f"provider: must be one of {', '.join(packages_of(group))}", field="provider")
    wanted = CreateProviderRequest(
        packageName=package.name,
        name=body.name,
        credentials=body.config,
        channel=_channel_of(package, group, body.channel),
        priority=body.priority,
        enabled=body.enabled,
    )
    with renamed_fields(_FIELDS):
        view = await service.create(services, principal, wanted, services.accounts.access.actor(request, principal))
    return _serialize(view, services)


def _channel_of(package: AnyPackage, group: ChannelGroup, wanted: Channel | None) -> Channel:
    known = [channel for channel in package.channels if GROUP_OF[channel] is group]
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted not in known:
        raise ValidationFailed(f"channel: must be one of {', '.join(known)} for this provider", field="channel")
    return wanted


async def set_priorities(
    group: GroupInPath, body: PrioritiesRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> list[ProviderResponse]:
    """Set the priorities of several providers, all or none; the answer has all of these channels in their new order."""
    actor = services.accounts.access.actor(request, principal)
    wanted = [(one.id, one.priority) for one in body.providers]
    views = await service.set_priorities(services, principal, group, wanted, actor)
    return [_serialize(view, services) for view in views]


async def change_provider(
    group: GroupInPath,
    provider_id: ProviderId,
    body: ChangeProviderRequest,
    request: Request,
    principal: ProviderWrite,
    services: ServicesDep,
) -> ProviderResponse:
    """Change a provider. A new `config` counts within a second; calls under way keep the earlier one."""
    found = await _find(services, principal, group, provider_id)
    fields = body.model_dump(exclude={"project_id"}, exclude_unset=True)
    if "config" in fields:
        fields["credentials"] = fields.pop("config")
    actor = services.accounts.access.actor(request, principal)
    with renamed_fields(_FIELDS):
        view = await service.update(services, principal, found, UpdateProviderRequest(**fields), actor)
    return _serialize(view, services)


async def delete_provider(
    group: GroupInPath, provider_id: ProviderId, request: Request, principal: ProviderWrite, services: ServicesDep
) -> DeletedProviderResponse:
    """Remove a provider. Messages under way go on at the next one; receipts of what it sent still count."""
    found = await _find(services, principal, group, provider_id)
    await service.delete(services, principal, found, services.accounts.access.actor(request, principal))
    return DeletedProviderResponse(message="Provider deleted successfully")


async def _find(services: Services, principal: Principal, group: ChannelGroup, text: str) -> UUID:
    """The id of one of the principal's providers of these channels.

    Raises:
        NotFound: the project has none with this id.
    """
    missing = NotFound(service.NO_PROVIDER)
    found = read_id("prv", text, missing)
    view = await service.find(services, principal, found)
    if GROUP_OF[view.row.channel] is not group:
        raise missing
    return found


async def send_test_email(
    group: GroupInPath, body: TestEmailRequest, request: Request, principal: ProviderWrite, services: ServicesDep
) -> TestEmailResponse:
    """Send one real e-mail through just one provider, enabled or not, and return what the provider answered.

    It is not stored, has no history, and does not move the provider's health.
    """
    view = await _provider_to_test(services, principal, group, body.provider_id)
    with renamed_fields(_FIELDS):
        result = await service.test(
            services,
            principal,
            view.row.id,
            TestMessageRequest(to=body.to),
            services.accounts.access.actor(request, principal),
            default_sender=await find_sender(services, principal),
        )
    outcome = result.outcome
    return TestEmailResponse(
        message="Test email sent successfully" if result.accepted else f"Test email failed: {outcome.detail}",
        success=result.accepted,
        outcome=outcome_name(outcome),
        provider=name_of(view.row.package),
        provider_id=view.row.id,
        message_id=outcome.provider_message_id if isinstance(outcome, Accepted) else None,
    )


async def _provider_to_test(
    services: Services, principal: Principal, group: ChannelGroup, provider_id: UUID | None
) -> ProviderView:
    views = await service.list_group(services, principal, group)
    chosen = [view for view in views if (view.row.enabled if provider_id is None else view.row.id == provider_id)]
    if not chosen:
        raise NotFound(service.NO_PROVIDER if provider_id else "The project has no enabled provider of e-mail.")
    return chosen[0]


def _serialize(view: ProviderView, services: Services) -> ProviderResponse:
    row = view.row
    return ProviderResponse(
        id=row.id,
        provider=name_of(row.package),
        name=row.name,
        channel=row.channel,
        enabled=row.enabled,
        priority=row.priority,
        credentials=show_credentials(row, services.cipher, None).credentials,
        created_at=rfc3339(view.created_at),
        updated_at=rfc3339(view.updated_at),
    )


def _add(group: ChannelGroup, method: str, path: str, function: Callable[..., Any], name: str, **options: Any) -> None:
    options.setdefault("responses", errors_of())
    router.add_api_route(f"/{group}-config{path}", function, methods=[method], name=name, **options)


_ADDED = errors_of(LimitReached)
for _group in ChannelGroup:
    _add(_group, "GET", "/provider-schemas", list_schemas, f"list_{_group}_provider_schemas")
    _add(_group, "GET", "/provider-schemas/{provider}", get_schema, f"get_{_group}_provider_schema")
    _add(_group, "GET", "/providers", list_providers, f"list_{_group}_providers")
    _add(_group, "POST", "/providers", add_provider, f"add_{_group}_provider", status_code=201, responses=_ADDED)
    # Before the providers: `priorities` is no id of one.
    _add(_group, "PUT", "/providers/priorities", set_priorities, f"set_{_group}_provider_priorities")
    _add(_group, "PUT", "/providers/{providerId}", change_provider, f"change_{_group}_provider")
    _add(_group, "DELETE", "/providers/{providerId}", delete_provider, f"delete_{_group}_provider")
_add(ChannelGroup.EMAIL, "POST", "/test", send_test_email, "send_test_email", responses=errors_of(TooManyRequests))
