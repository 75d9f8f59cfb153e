"""Amazon SNS: boto3 against the dialect; our requests against botocore's signer, botocore's model and moto."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl

import boto3
import botocore.session
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from sluice.model.message import Sms
from sluice.model.outcome import Accepted, Declined, RecipientRejected
from sluice.model.reasons import Reason
from sluice.providers.adapters.sns import SNS, SnsCredentials
from sluice.providers.contract import OutboundMessage
from sluice.providers.kit.requests import encode_form
from sluice.providers.kit.sigv4 import AwsKey, sign_v4
from sluice.runtime.clock import utc_now
from sluice.transports.http import open_http
from tests.conformance.conftest import Conforms
from tests.conformance.messages import sms_messages
from tests.conformance.simulator import ThreadedSimulator
from tests.loopback import LOOPBACK
from tests.unit.providers.examples import an_sms, outbound, sample_of

MODEL = botocore.session.get_session().get_service_model("sns")
NUMBER = "+2348012345678"


def client_of(simulator: ThreadedSimulator) -> Any:
    return boto3.client(
        "sns",
        endpoint_url=simulator.url("sns"),
        region_name="eu-west-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )


def attribute(value: str, kind: str = "String") -> dict[str, str]:
    return {"DataType": kind, "StringValue": value}


def test_it_sends_an_sms(simulator: ThreadedSimulator) -> None:
    attributes = {
        "AWS.SNS.SMS.SMSType": attribute("Transactional"),
        "AWS.SNS.SMS.SenderID": attribute("ACME"),
        "AWS.SNS.SMS.MaxPrice": attribute("0.50", "Number"),
    }

    answer = client_of(simulator).publish(PhoneNumber=NUMBER, Message="Grüße 🙂", MessageAttributes=attributes)

    assert re.fullmatch("[0-9a-f-]{36}", answer["MessageId"])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize(
    ("behaviour", "rule", "status", "code"),
    [
        ("reject", None, 400, "InvalidParameter"),
        ("reject", "OptedOut", 400, "OptedOut"),
        ("throttle", None, 400, "Throttling"),
        ("auth", None, 403, "InvalidClientTokenId"),
        ("fault", None, 503, "ServiceUnavailable"),
        ("fault", "InternalFailure", 500, "InternalFailure"),
    ],
)
def test_it_understands_a_refusal(
    simulator: ThreadedSimulator, behaviour: str, rule: str | None, status: int, code: str
) -> None:
    with simulator.behaving("sns", behaviour=behaviour, code=rule), pytest.raises(ClientError) as refused:
        client_of(simulator).publish(PhoneNumber=NUMBER, Message="x")

    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"PhoneNumber": "ana"},
        {"Message": ""},
        {"Message": "x" * 1601},
        {"MessageAttributes": {"AWS.SNS.SMS.SenderID": attribute("AC ME")}},
        {"MessageAttributes": {"AWS.SNS.SMS.MaxPrice": attribute("cheap", "Number")}},
        {"MessageAttributes": {"x": attribute("x", "Text")}},
    ],
)
def test_the_dialect_refuses_what_sns_refuses(simulator: ThreadedSimulator, wrong: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="InvalidParameter"):
        client_of(simulator).publish(**{"PhoneNumber": NUMBER, "Message": "x", **wrong})


# The signature


def signed_by_botocore(request: httpx.Request, key: AwsKey, region: str, service: str, at: datetime) -> dict[str, str]:
    token = key.session_token.get_secret_value() if key.session_token else None
    credentials = Credentials(key.access_key_id, key.secret_access_key.get_secret_value(), token)
    headers = {"Content-Type": request.headers["content-type"]}
    theirs = AWSRequest("POST", str(request.url), headers=headers, data=request.content)
    with patch("botocore.auth.get_current_datetime", return_value=at):
        SigV4Auth(credentials, service, region).add_auth(theirs)
    return {name.lower(): str(value) for name, value in theirs.headers.items()}


WORDS = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=200),
    host=st.sampled_from(["sns.eu-west-1.amazonaws.com", "127.0.0.1:5000", "h.test:443", "H.test:80"]),
    scheme=st.sampled_from(["http", "https"]),
    path=st.sampled_from(["/", "/v2/email/outbound-emails", "/a-b_c.d~e", "/a%20b/%C3%A9"]),
    key=st.builds(AwsKey, st.just("AKIDEXAMPLE"), WORDS.map(SecretStr), st.none() | WORDS.map(SecretStr)),
    service=st.sampled_from(["sns", "ses"]),
    region=st.sampled_from(["us-east-1", "eusc-de-east-1"]),
    at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
)
def test_it_is_the_one_that_botocore_makes(
    content: bytes, host: str, scheme: str, path: str, key: AwsKey, service: str, region: str, at: datetime
) -> None:
    url, kind = httpx.URL(f"{scheme}://{host}{path}"), "application/x-www-form-urlencoded; charset=utf-8"
    request = httpx.Request("POST", url, headers={"content-type": kind}, content=content)

    ours = sign_v4(url, content, kind, key, service=service, region=region, at=at)

    theirs = signed_by_botocore(request, key, region, service, at)
    assert {name.replace("_", "-"): value for name, value in ours.items()} == {
        name: theirs[name] for name in theirs if name != "content-type"
    }


# The request


def parameters_of(form: dict[str, str]) -> dict[str, Any]:
    """The form as the parameters that boto3 takes."""
    attributes = {}
    for number in range(1, sum(name.endswith(".Name") for name in form) + 1):
        at = f"MessageAttributes.entry.{number}"
        attributes[form[f"{at}.Name"]] = attribute(form[f"{at}.Value.StringValue"], form[f"{at}.Value.DataType"])
    parameters = {name: form[name] for name in ("PhoneNumber", "Message")}
    return {**parameters, "MessageAttributes": attributes}


def has_a_sender(message: OutboundMessage) -> bool:
    """SNS takes numbers of at most 14 digits."""
    return isinstance(message.content, Sms) and len(message.content.sender or "") <= 15


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"senderId": None},
        {"originationNumber": "70707", "maxPrice": "0.5", "entityId": "1", "templateId": "2", "smsType": "Promotional"},
    ],
)
def test_every_generated_request_is_one_of_botocores_model(conforms: Conforms, fields: dict[str, Any]) -> None:
    operation = MODEL.operation_model("Publish")
    serializer = create_serializer(MODEL.metadata["protocol"])

    def check(request: Any, message: OutboundMessage) -> None:
        form = dict(parse_qsl(request.content.decode(), keep_blank_values=True, strict_parsing=True))
        parameters = parameters_of(form)
        problems = ParamValidator().validate(parameters, operation.input_shape)
        assert not problems.has_errors(), problems.generate_report()
        theirs = serializer.serialize_to_request(parameters, operation)
        assert encode_form(theirs["body"]) == request.content
        assert (theirs["method"], theirs["url_path"]) == (request.method, request.url.path)
        assert theirs["headers"]["Content-Type"] == request.headers["content-type"]
        assert parameters["PhoneNumber"] == message.recipient

    conforms(SNS, sms_messages().filter(has_a_sender), check, **fields)


# moto


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The address of a moto server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def sent_to_moto(moto: str, message: OutboundMessage) -> httpx.Response:
    credentials = SnsCredentials.model_validate({**sample_of(SNS).credentials, "baseUrl": moto})
    async with open_http(outgoing=LOOPBACK) as transport:
        return await transport.exchange(SNS.build(message, credentials), deadline=30)


async def test_moto_takes_our_request(moto: str) -> None:
    message = outbound(an_sms(text="Grüße 🙂 &=+%"), recipient=NUMBER, attempted_at=utc_now())

    outcome = SNS.classify(await sent_to_moto(moto, message))

    assert isinstance(outcome, Accepted)
    assert re.fullmatch("[0-9a-f-]{36}", outcome.provider_message_id)
    async with open_http(outgoing=LOOPBACK) as transport:
        data = (await transport.exchange(httpx.Request("GET", f"{moto}/moto-api/data.json"), deadline=30)).json()
    (stored,) = data["sns"]["SMS"]
    assert outcome.provider_message_id in json.dumps(stored)
    assert "Grüße 🙂 &=+%" in json.dumps(stored, ensure_ascii=False)
    assert NUMBER in json.dumps(stored)


@pytest.mark.parametrize(
    ("text", "recipient", "expected", "reason"),
    [("x", "+0", RecipientRejected, Reason.INVALID_ADDRESS), ("x" * 1601, NUMBER, Declined, Reason.TOO_LARGE)],
)
async def test_motos_refusals_are_understood(
    moto: str, text: str, recipient: str, expected: type[Declined | RecipientRejected], reason: Reason
) -> None:
    message = outbound(an_sms(text=text), recipient=recipient, attempted_at=utc_now())

    outcome = SNS.classify(await sent_to_moto(moto, message))

    assert isinstance(outcome, expected)
    assert outcome.reason is reason
