"""Devices in the project API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from gateway.dependencies import ServicesDep
from gateway.devices import service
from gateway.devices.project_api_schemas import DeviceAnswer, RegisterDeviceRequest
from gateway.kit.json_route import JsonRoute
from gateway.kit.project_api_errors import errors_of
from gateway.project_dependencies import DevicesWrite
from sluice.store.devices import MAX_DEVICES, Device

router = APIRouter(tags=["push"], route_class=JsonRoute)


@router.post(
    "/push/register-device",
    responses=errors_of(),
    description=f"Register a device of a user, who may have {MAX_DEVICES}: the oldest make room. The same token again "
    "updates its device.",
)
async def register_device(body: RegisterDeviceRequest, principal: DevicesWrite, services: ServicesDep) -> DeviceAnswer:
    """See ``description``."""
    device = Device(body.user_id, body.device_token, body.provider, body.platform)
    await service.register(services, principal, device)
    return DeviceAnswer(message="Device registered successfully")


@router.delete("/push/devices/{deviceToken:path}", responses=errors_of())
async def remove_device(
    device_token: Annotated[str, Path(alias="deviceToken", max_length=4096)],
    principal: DevicesWrite,
    services: ServicesDep,
) -> DeviceAnswer:
    """Remove a device. One that its provider reports as unregistered is removed without a request."""
    await service.remove(services, principal, device_token)
    return DeviceAnswer(message="Device removed successfully")
