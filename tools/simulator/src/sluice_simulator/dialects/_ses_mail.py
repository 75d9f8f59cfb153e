"""The body of SES's SendEmail, as strictly as SES reads it: types, limits, and no unknown field."""

from __future__ import annotations

import base64
import re
from email import message_from_bytes
from email.utils import parseaddr
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _address(text: str) -> str:
    address = parseaddr(text)[1]
    local, _, domain = address.rpartition("@")
    if re.search(r"[\x00-\x1f\x7f ]", local):
        raise ValueError("Local address contains control or whitespace")
    if domain.endswith("."):
        raise ValueError("Domain ends with dot")
    if not text.isascii() or not re.fullmatch(r"[!-~]+", local) or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", domain):
        raise ValueError("Invalid email address")
    return address


Address = Annotated[str, AfterValidator(_address)]


def _base64(text: str) -> str:
    if base64.b64encode(base64.b64decode(text)).decode() != text:
        raise ValueError("The value is not base64")
    return text


class _Destination(_Part):
    ToAddresses: list[Address] = []
    CcAddresses: list[Address] = []
    BccAddresses: list[Address] = []

    @property
    def everyone(self) -> list[str]:
        return [*self.ToAddresses, *self.CcAddresses, *self.BccAddresses]

    @model_validator(mode="after")
    def _limit(self) -> Self:
        if not self.everyone:
            raise ValueError("The message has no recipient")
        if len(self.everyone) > 50:
            raise ValueError("Too many recipients.")
        return self


class _Text(_Part):
    Data: str
    Charset: str = ""


class _Body(_Part):
    Text: _Text | None = None
    Html: _Text | None = None


class Header(_Part):
    Name: str = Field(pattern=r"^[!-9;-@A-~]{1,126}$")
    Value: str = Field(pattern=r"^[ -~]{1,995}$")


class Attachment(_Part):
    RawContent: Annotated[str, AfterValidator(_base64)]
    FileName: str = Field(min_length=1, max_length=255)
    ContentType: str = Field(default="-", min_length=1, max_length=78)
    ContentDisposition: Literal["ATTACHMENT", "INLINE"] = "ATTACHMENT"
    ContentId: str = Field(default="-", min_length=1, max_length=78)
    ContentDescription: str = Field(default="", max_length=1000)
    ContentTransferEncoding: Literal["BASE64", "QUOTED_PRINTABLE", "SEVEN_BIT"] = "BASE64"


class _Simple(_Part):
    Subject: _Text
    Body: _Body
    Headers: list[Header] = Field(default=[], max_length=15)
    Attachments: list[Attachment] = []


def _mime(text: str) -> str:
    content = base64.b64decode(_base64(text))
    if any(len(line) > 998 for line in content.split(b"\r\n")):
        raise ValueError("A line of the message is too long")
    if not message_from_bytes(content)["From"]:
        raise ValueError("Missing final '@domain'")
    return text


class _Raw(_Part):
    Data: Annotated[str, AfterValidator(_mime)]


class _Content(_Part):
    Simple: _Simple | None = None
    Raw: _Raw | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.Simple is None) == (self.Raw is None):
            raise ValueError("Content must hold exactly one of Simple, Raw and Template")
        return self


class Tag(_Part):
    Name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,256}$")
    Value: str = Field(pattern=r"^[A-Za-z0-9_-]{1,256}$")


class SendEmail(_Part):
    Content: _Content
    Destination: _Destination
    FromEmailAddress: Address | None = None
    FromEmailAddressIdentityArn: str = "-"
    ReplyToAddresses: list[Address] = []
    FeedbackForwardingEmailAddress: Address | None = None
    EmailTags: list[Tag] = []
    ConfigurationSetName: str = Field(default="-", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    TenantName: str = Field(default="-", min_length=1)

    @model_validator(mode="after")
    def _sender(self) -> Self:
        if self.Content.Simple is not None and self.FromEmailAddress is None:
            raise ValueError("The message has no sender")
        return self
