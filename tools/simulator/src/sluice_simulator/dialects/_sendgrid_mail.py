"""The body of SendGrid's mail/send, as strictly as SendGrid reads it: types, limits, and no unknown field."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_OWN_HEADERS = {
    *("x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"),
    *("to", "from", "subject", "reply-to", "cc", "bcc"),
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _address(text: str) -> str:
    if not re.fullmatch(r"[!-?A-~]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", text):
        raise ValueError("Does not contain a valid address.")
    return text


class Mailbox(_Part):
    email: Annotated[str, AfterValidator(_address)]
    name: str = ""


class Recipient(Mailbox):
    name: str = Field(default="", pattern="^[^;,]*$")


class Personalization(_Part):
    to: list[Recipient] = Field(min_length=1)
    cc: list[Recipient] = []
    bcc: list[Recipient] = []
    subject: str = Field(default="-", min_length=1)
    headers: dict[str, str] = {}
    custom_args: dict[str, str] = {}

    @property
    def emails(self) -> list[str]:
        return [one.email.lower() for one in (*self.to, *self.cc, *self.bcc)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if len(self.emails) != len(set(self.emails)):
            raise ValueError(
                "Each email address in the personalization block should be unique between to, cc, and bcc."
            )
        return self


class Content(_Part):
    type: str = Field(min_length=1)
    value: str = Field(min_length=1)


def _base64(text: str) -> str:
    if base64.b64encode(base64.b64decode(text)).decode() != text:
        raise ValueError("The attachment content must be base64 encoded.")
    return text


class File(_Part):
    content: Annotated[str, Field(min_length=1), AfterValidator(_base64)]
    filename: str = Field(min_length=1)
    type: str = Field(default="-", min_length=1)
    disposition: Literal["attachment", "inline"] = "attachment"
    content_id: str = ""


class Mail(_Part):
    personalizations: list[Personalization] = Field(min_length=1, max_length=1000)
    from_: Mailbox = Field(alias="from")
    reply_to: Mailbox | None = None
    reply_to_list: list[Mailbox] = []
    subject: str = Field(min_length=1)
    content: list[Content] = Field(min_length=1)
    attachments: list[File] = []
    headers: dict[str, str] = {}
    categories: list[str] = Field(default=[], max_length=10)
    custom_args: dict[str, str] = {}
    send_at: int = 0
    mail_settings: dict[str, Any] = {}
    tracking_settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _as_a_whole(self) -> Self:
        types = [part.type for part in self.content]
        order = {"text/plain": 0, "text/html": 1}
        if sum(len(one.emails) for one in self.personalizations) > 1000:
            raise ValueError("There is a limit of 1000 total recipients (to + cc + bcc) per request.")
        if sorted(types, key=lambda kind: order.get(kind, 2)) != types:
            raise ValueError("If present, text/plain must be first, followed by text/html, followed by other content.")
        if _OWN_HEADERS & {name.lower() for name in self.headers}:
            raise ValueError("You may not override this header.")
        return self
