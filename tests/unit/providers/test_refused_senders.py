"""Whose sender was refused: the scope is the account's where the call carried no sender of the message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_plus

import httpx
import pytest
from pydantic import ValidationError

from sluice.model.message import Channel, Push
from sluice.model.outcome import Declined, Scope
from sluice.model.reasons import Reason
from sluice.providers.adapters.messagepipe import SMPP_LINK
from sluice.providers.contract import AnyPackage, Credentials, OutboundMessage
from sluice.providers.kit.smpp_status import StatusClass
from sluice.providers.kit.smpp_types import SmppResponse
from sluice.providers.kit.smtp_types import Phase
from sluice.providers.registry import PACKAGES
from sluice.transports.provider_call import OnProgress, call_provider, ignore_progress
from tests.unit.providers.examples import an_email, an_sms, content_for, credentials_of, outbound, sample_of

OWN_SENDER = "15005550199"  # of the message, and in no sample account
CHANNELS = (Channel.SMS, Channel.TELEGRAM, Channel.SIGNAL)  # whose messages can name a sender
LINK = "provider-messagepipe over SMPP"
SENDING = {name: package for name, package in PACKAGES.items() if package.channels[0] in CHANNELS} | {LINK: SMPP_LINK}


class Refusing:
    """A transport whose provider refuses everything with this response."""

    def __init__(self, response: Any) -> None:
        self.response = response

    async def exchange(self, request: Any, *, deadline: float, on_progress: OnProgress = ignore_progress) -> Any:
        return self.response


async def scope_of(package: AnyPackage, message: OutboundMessage, credentials: Credentials, response: Any) -> Scope:
    transports = {package.transport: Refusing(response)}
    outcome = await call_provider(package, message, credentials, transports, deadline=1)
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.SENDER
    return outcome.scope


def accounts_of(name: str, package: AnyPackage) -> Iterator[Credentials]:
    """The sample account, and the same without each field that is not required."""
    if name == LINK:
        yield from (package.credentials.model_validate(fields) for fields in ({}, {"sender": "ACME"}))
        return
    yield credentials_of(package)
    sample = sample_of(package).credentials
    for omitted in sample:
        try:
            yield package.credentials.model_validate({field: sample[field] for field in sample if field != omitted})
        except ValidationError:
            continue  # the field is required


@pytest.mark.parametrize("name", SENDING)
async def test_a_refused_sender_is_the_accounts_exactly_if_the_messages_own_is_not_in_the_request(name: str) -> None:
    package = replace(SENDING[name], classify=lambda _: Declined(Reason.SENDER))
    content = content_for(package).model_copy(update={"sender": f"+{OWN_SENDER}"})
    for credentials in accounts_of(name, package):
        message = outbound(content)
        request = package.build(message, credentials)
        text = unquote_plus(request.content.decode()) if isinstance(request, httpx.Request) else repr(request)

        scope = await scope_of(package, message, credentials, response=None)

        assert scope is (Scope.MESSAGE if OWN_SENDER in text else Scope.ACCOUNT)


INFOBIP, AFRICASTALKING, SNS, TWILIO = (
    PACKAGES[f"provider-{name}"] for name in ("infobip", "africastalking", "sns", "twilio")
)
KEY = {"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "k", "region": "eu-west-1"}
REFUSALS: dict[str, tuple[AnyPackage, dict[str, Any], dict[str, Any], Any]] = {
    "infobip 11": (
        *(INFOBIP, {"apiKey": "k", "baseUrl": "https://x.example"}, {"from": "ACME"}),
        httpx.Response(200, json={"messages": [{"messageId": "m", "status": {"id": 11, "groupId": 5}}]}),
    ),
    "infobip 13": (
        *(INFOBIP, {"apiKey": "k", "baseUrl": "https://x.example"}, {"from": "ACME"}),
        httpx.Response(200, json={"messages": [{"messageId": "m", "status": {"id": 13, "groupId": 5}}]}),
    ),
    "africastalking 402": (
        *(AFRICASTALKING, {"username": "acme", "apiKey": "k"}, {"from": "ACME"}),
        httpx.Response(201, json={"SMSMessageData": {"Recipients": [{"statusCode": 402}]}}),
    ),
    "africastalking InvalidSenderId": (
        *(AFRICASTALKING, {"username": "acme", "apiKey": "k"}, {"from": "ACME"}),
        httpx.Response(201, json={"SMSMessageData": {"Message": "InvalidSenderId", "Recipients": []}}),
    ),
    **{
        f"sns {field}": (
            *(SNS, KEY, {field: value}),
            httpx.Response(
                400,
                text=f"<ErrorResponse><Error><Code>InvalidParameter</Code><Message>{words}</Message></Error></ErrorResponse>",
            ),
        )
        for field, value, words in (
            ("senderId", "ACME", "Invalid parameter: MessageAttributes Reason: AWS.SNS.SMS.SenderID"),
            ("originationNumber", "+15005550001", "Invalid parameter: AWS.MM.SMS.OriginationNumber"),
        )
    },
    **{
        f"twilio {field}": (
            *(TWILIO, {"accountSid": "AC" + "0" * 32, "authToken": "t"}, {field: value}),
            httpx.Response(400, json={"code": 21606, "status": 400}),
        )
        for field, value in (("from", "+15005550001"), ("messagingServiceSid", "MG" + "0" * 32))
    },
    "smpp 0x0A": (SMPP_LINK, {}, {"sender": "ACME"}, SmppResponse(0x0A, StatusClass.DECLINED)),
}


@pytest.mark.parametrize(("package", "account", "sender", "response"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refused_sender_of_the_settings_counts_against_the_account_and_one_of_the_message_does_not(
    package: AnyPackage, account: dict[str, Any], sender: dict[str, Any], response: Any
) -> None:
    message = outbound(an_sms())
    named = package.credentials.model_validate(account | sender)
    unnamed = package.credentials.model_validate(account)

    assert await scope_of(package, message, named, response) is Scope.ACCOUNT
    assert await scope_of(package, message, unnamed, response) is Scope.MESSAGE


async def test_without_a_sender_of_its_own_a_message_has_the_accounts_shared_one() -> None:
    package, account, _, response = REFUSALS["infobip 11"]
    message = outbound(an_sms(sender=None))

    assert await scope_of(package, message, package.credentials.model_validate(account), response) is Scope.ACCOUNT


@pytest.mark.parametrize(
    "package", [p for p in PACKAGES.values() if p.channels[0] is Channel.EMAIL], ids=lambda p: p.name
)
async def test_the_sender_of_a_mail_is_its_own(package: AnyPackage) -> None:
    refusing = replace(package, classify=lambda _: Declined(Reason.SENDER, f"{Phase.END_OF_DATA}: 550 not yours"))

    assert await scope_of(refusing, outbound(an_email()), credentials_of(package), response=None) is Scope.MESSAGE


async def test_a_notification_has_no_sender_and_its_refusal_is_about_the_device() -> None:
    package = replace(PACKAGES["provider-fcm"], classify=lambda _: Declined(Reason.SENDER))

    assert await scope_of(package, outbound(Push(title="Hi")), credentials_of(package), response=None) is Scope.MESSAGE
