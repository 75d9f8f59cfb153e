"""The bodies of ``/email-config``, ``/message-config`` and ``/push-config``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, StrictBool

from gateway.kit.camel_case import CamelResponse, Id, ProjectBody
from gateway.kit.fields import BareAddress, NotNull, Timestamp, one_line, visible
from sluice.model.address import format_address, parse_address


def _sender_name(name: str) -> str:
    read = parse_address(format_address(visible(one_line(name)), "shop@example.com")).name
    if not read:
        raise ValueError("must not be blank")
    return read


_SenderName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_sender_name)]
_EMAIL = ConfigDict(
    json_schema_extra={
        "example": {"senderEmail": "noreply@yourcompany.com", "senderName": "Your Company Name", "enabled": True}
    }
)


class CreateConfigRequest(ProjectBody):
    """The configuration of a group of channels. ``enabled``: false refuses their new messages, in every API."""

    model_config = ConfigDict(json_schema_extra={"example": {"enabled": True}})

    enabled: StrictBool = True


class CreateEmailConfigRequest(CreateConfigRequest):
    """The configuration of e-mail. The sender is that of e-mails that are sent by template through this API."""

    model_config = _EMAIL

    sender_email: BareAddress
    sender_name: _SenderName | None = None


class UpdateConfigRequest(ProjectBody):
    """What changes; the rest stays."""

    model_config = ConfigDict(json_schema_extra={"example": {"enabled": False}})

    enabled: Annotated[StrictBool | None, NotNull] = None


class UpdateEmailConfigRequest(UpdateConfigRequest):
    """What changes; the rest stays. ``senderName``: null for none."""

    model_config = _EMAIL

    sender_email: Annotated[BareAddress | None, NotNull] = None
    sender_name: _SenderName | None = None


class ConfigResponse(CamelResponse):
    """The configuration of a group of channels in a project."""

    project_id: Id
    enabled: bool
    created_at: Timestamp
    updated_at: Timestamp


class EmailConfigResponse(ConfigResponse):
    """The configuration of e-mail in a project."""

    sender_email: str
    sender_name: str | None
