"""The bodies of ``/push/register-device`` and ``/push/devices``."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from gateway.kit.camel_case import CamelResponse, ProjectBody
from gateway.kit.fields import DeviceToken, Short


class RegisterDeviceRequest(ProjectBody):
    """A device of a user, whose id is the project's own."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"userId": "user-123", "deviceToken": "device-token", "provider": "fcm", "platform": "android"}
        }
    )

    user_id: Short
    device_token: DeviceToken
    provider: Literal["fcm"] = "fcm"
    platform: Short | None = None


class DeviceAnswer(CamelResponse):
    """It is done."""

    message: str
