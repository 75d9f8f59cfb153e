"""``/email-config``, ``/message-config`` and ``/push-config`` of the project API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request

from gateway.channel_configs import service
from gateway.channel_configs.project_api_schemas import (
    ConfigResponse,
    CreateConfigRequest,
    CreateEmailConfigRequest,
    EmailConfigResponse,
    UpdateConfigRequest,
    UpdateEmailConfigRequest,
)
from gateway.dependencies import ServicesDep
from gateway.errors import ChannelConfigExists
from gateway.kit.channel_group_path import GroupInPath
from gateway.kit.json_route import JsonRoute
from gateway.kit.project_api_errors import errors_of
from gateway.kit.responses import rfc3339
from gateway.project_dependencies import ProvidersRead, ProvidersWrite
from sluice.model.channel_group import ChannelGroup
from sluice.store.channel_configs import ChannelConfig

router = APIRouter(tags=["channel configuration"], route_class=JsonRoute)


@router.post("/email-config", status_code=201, responses=errors_of(ChannelConfigExists))
async def create_email_config(
    body: CreateEmailConfigRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> EmailConfigResponse:
    """Create the project's configuration of e-mail. It has one at most, and needs none."""
    actor = services.accounts.access.actor(request, principal)
    settings = body.model_dump(exclude={"project_id"})
    return _serialize_email(await service.create(services, principal, ChannelGroup.EMAIL, settings, actor))


@router.get("/email-config", responses=errors_of())
async def get_email_config(principal: ProvidersRead, services: ServicesDep) -> EmailConfigResponse:
    """The project's configuration of e-mail."""
    return _serialize_email(await service.find(services, principal, ChannelGroup.EMAIL))


@router.put("/email-config", responses=errors_of())
async def update_email_config(
    body: UpdateEmailConfigRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> EmailConfigResponse:
    """Change the project's configuration of e-mail. A change counts within a second."""
    actor = services.accounts.access.actor(request, principal)
    changes = body.model_dump(exclude={"project_id"}, exclude_unset=True)
    return _serialize_email(await service.update(services, principal, ChannelGroup.EMAIL, changes, actor))


async def create_config(
    group: GroupInPath, body: CreateConfigRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> ConfigResponse:
    """Create the project's configuration of these channels. It has one at most, and needs none."""
    actor = services.accounts.access.actor(request, principal)
    settings = {"enabled": body.enabled, "sender_email": None, "sender_name": None}
    return _serialize(await service.create(services, principal, group, settings, actor))


async def get_config(group: GroupInPath, principal: ProvidersRead, services: ServicesDep) -> ConfigResponse:
    """The project's configuration of these channels."""
    return _serialize(await service.find(services, principal, group))


async def update_config(
    group: GroupInPath, body: UpdateConfigRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> ConfigResponse:
    """Change the project's configuration of these channels. A change counts within a second."""
    actor = services.accounts.access.actor(request, principal)
    changes = body.model_dump(exclude={"project_id"}, exclude_unset=True)
    return _serialize(await service.update(services, principal, group, changes, actor))


def _add(method: str, function: Callable[..., Any], verb: str, **options: Any) -> None:
    for group in (ChannelGroup.MESSAGE, ChannelGroup.PUSH):
        router.add_api_route(f"/{group}-config", function, methods=[method], name=f"{verb}_{group}_config", **options)


_add("POST", create_config, "create", status_code=201, responses=errors_of(ChannelConfigExists))
_add("GET", get_config, "get", responses=errors_of())
_add("PUT", update_config, "update", responses=errors_of())


def _serialize(config: ChannelConfig) -> ConfigResponse:
    return ConfigResponse(**_fields(config))


def _serialize_email(config: ChannelConfig) -> EmailConfigResponse:
    return EmailConfigResponse(
        **_fields(config), sender_email=config.sender_email or "", sender_name=config.sender_name
    )


def _fields(config: ChannelConfig) -> dict[str, Any]:
    return {
        "project_id": config.project_id,
        "enabled": config.enabled,
        "created_at": rfc3339(config.created_at),
        "updated_at": rfc3339(config.updated_at),
    }
