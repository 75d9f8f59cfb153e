"""The bodies of ``/{email,message,push}-config/providers``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StrictBool

from gateway.kit.camel_case import CamelRequest, CamelResponse, Id, ProjectBody
from gateway.kit.fields import BareAddress, NotNull, Short, Timestamp
from gateway.providers.v1_schemas import CredentialsResponse, Priority
from sluice.model.message import Channel

MAX_PRIORITIES = 500  # of one request, whose body has at most 64 KiB

Config = Annotated[
    dict[str, Any],
    Field(description="The fields that `GET /{group}/provider-schemas/{provider}` describes. They are never returned."),
]


class AddProviderRequest(ProjectBody):
    """A new provider. ``priority``: the lower number is tried first, by default after all others of the channel."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"provider": "sendgrid", "name": "Primary SendGrid", "config": {"apiKey": "a secret"}}
        }
    )

    provider: Short
    name: Short
    enabled: StrictBool = True
    priority: Priority | None = None
    config: Config = Field(default_factory=dict)
    channel: Channel | None = Field(None, description="Needed for a provider of several channels only.")


class ChangeProviderRequest(ProjectBody):
    """What changes; the rest stays. ``config`` replaces all of the earlier one."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "Updated SendGrid Config", "priority": 2}})

    name: Annotated[Short | None, NotNull] = None
    enabled: Annotated[StrictBool | None, NotNull] = None
    priority: Annotated[Priority | None, NotNull] = None
    config: Annotated[Config | None, NotNull] = None


class ProviderPriority(CamelRequest):
    """The new priority of one provider."""

    id: Id
    priority: Priority


class PrioritiesRequest(ProjectBody):
    """New priorities. Providers that are not named keep theirs."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"providers": [{"id": "01a0b1c2-d3e4-7f50-8a61-7b82c93da4e5", "priority": 1}]}}
    )

    providers: list[ProviderPriority] = Field(min_length=1, max_length=MAX_PRIORITIES)


class ProviderResponse(CamelResponse):
    """A provider. ``credentials``: which fields of its ``config`` are set."""

    id: Id
    provider: str
    name: str
    channel: Channel
    enabled: bool
    priority: int
    credentials: CredentialsResponse
    created_at: Timestamp
    updated_at: Timestamp


class DeletedProviderResponse(CamelResponse):
    """The provider is removed."""

    message: str


class TestEmailRequest(ProjectBody):
    """A test e-mail. ``providerId``: by default the first enabled provider in priority order."""

    __test__ = False  # not a class of tests
    model_config = ConfigDict(json_schema_extra={"example": {"to": "ada@example.com"}})

    to: BareAddress
    provider_id: Id | None = None


class TestEmailResponse(CamelResponse):
    """The result of a test e-mail.

    ``outcome``: `accepted`, `recipient_rejected`, `declined`, `throttled`, `auth_failed`, `provider_fault`, or
    `unknown` (no answer: the e-mail may have been sent). ``messageId``: the provider's.
    """

    __test__ = False  # not a class of tests

    message: str
    success: bool
    outcome: str
    provider: str
    provider_id: Id
    message_id: str | None
