"""Amazon SES: boto3 against the dialect; our requests against botocore's model and moto."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

import boto3
import botocore.session
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator
from moto.server import ThreadedMotoServer

from sluice.model.address import parse_address
from sluice.model.message import Email
from sluice.model.outcome import Accepted, Declined
from sluice.model.reasons import Reason
from sluice.providers.adapters.ses import SES, SesCredentials
from sluice.providers.contract import OutboundMessage
from sluice.providers.kit.sns_envelope import SnsNotification, open_envelope
from sluice.runtime.clock import utc_now
from sluice.transports.http import open_http
from tests.conformance.conftest import Conforms
from tests.conformance.messages import email_messages
from tests.conformance.simulator import Inbox, ThreadedSimulator
from tests.loopback import LOOPBACK
from tests.unit.providers.examples import a_receipt, an_attachment, an_email, outbound, sample_of
from tests.unit.providers.sns_topic import TOPIC

OPERATION = botocore.session.get_session().get_service_model("sesv2").operation_model("SendEmail")
SERIALIZER = create_serializer("rest-json")
MIME = b"From: a@example.com\r\nTo: b@example.org\r\nSubject: x\r\n\r\nx\r\n"


def client_of(url: str) -> Any:
    return boto3.client(
        "sesv2",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )


def send(simulator: ThreadedSimulator, **changes: Any) -> Any:
    mail: dict[str, Any] = {
        "FromEmailAddress": "Acme <no-reply@example.com>",
        "Destination": {"ToAddresses": ["Ana <ana@example.org>"]},
        "Content": {"Simple": {"Subject": {"Data": "Grüße 🙂"}, "Body": {"Text": {"Data": "hi"}}}},
    }
    return client_of(simulator.url("ses")).send_email(**mail | changes)


def test_it_sends_parts(simulator: ThreadedSimulator) -> None:
    simple = {
        "Subject": {"Data": "Grüße", "Charset": "UTF-8"},
        "Body": {"Text": {"Data": "hi"}, "Html": {"Data": "<p>hi</p>", "Charset": "UTF-8"}},
        "Headers": [{"Name": "X-Sluice-Message-Id", "Value": "msg_1"}],
        "Attachments": [{"RawContent": b"x", "FileName": "a.pdf", "ContentDisposition": "INLINE", "ContentId": "a"}],
    }

    answer = send(simulator, Content={"Simple": simple}, EmailTags=[{"Name": "ref", "Value": "att_1"}])

    assert answer["MessageId"].endswith("-000000")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_it_sends_mime(simulator: ThreadedSimulator) -> None:
    assert send(simulator, Content={"Raw": {"Data": MIME}})["MessageId"]


@pytest.mark.parametrize(
    ("behaviour", "rule", "status", "code"),
    [
        ("reject", None, 400, "BadRequestException"),
        ("reject", "MessageRejected", 400, "MessageRejected"),
        ("throttle", None, 429, "TooManyRequestsException"),
        ("auth", None, 403, "InvalidClientTokenId"),
        ("auth", "SendingPausedException", 400, "SendingPausedException"),
        ("fault", None, 500, "InternalFailure"),
        ("fault", "ServiceUnavailable", 503, "ServiceUnavailable"),
    ],
)
def test_it_understands_a_refusal(
    simulator: ThreadedSimulator, behaviour: str, rule: str | None, status: int, code: str
) -> None:
    with simulator.behaving("ses", behaviour=behaviour, code=rule), pytest.raises(ClientError) as refused:
        send(simulator)

    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["Error"]["Message"]
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"Destination": {"ToAddresses": [f"a{number}@example.org" for number in range(51)]}},
        {"Destination": {"ToAddresses": ["ana@example.org."]}},
        {"Destination": {"ToAddresses": ["jörg@example.org"]}},
        {"Destination": {}},
        {"Content": {}},
        {"Content": {"Raw": {"Data": b"Subject: no sender\r\n\r\nx"}}},
        {"Content": {"Raw": {"Data": MIME + b"x" * 1001}}},
        {"EmailTags": [{"Name": "ref", "Value": "a b"}]},
        {"ConfigurationSetName": "a b"},
    ],
)
def test_the_dialect_refuses_what_ses_refuses(simulator: ThreadedSimulator, wrong: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="BadRequest"):
        send(simulator, **wrong)


def test_its_events_are_envelopes_of_a_topic(simulator: ThreadedSimulator, inbox: Inbox) -> None:
    plan = {"kinds": ["sent", "delivered", "bounced"], "delay": 0}
    with simulator.behaving("ses", webhooks={"*": {"url": inbox.url, "secret": TOPIC}}, receipts=plan):
        message_id = send(simulator)["MessageId"]

    assert len(inbox.calls) == 3
    for headers, body in inbox.calls:
        url = json.loads(body)["SigningCertURL"]
        request = a_receipt(inbox.url, headers, body, at=utc_now())
        opened = open_envelope(request, [TOPIC], {url: httpx.get(url).content}, base_url=simulator.url("ses"))
        assert isinstance(opened, SnsNotification)
        assert json.loads(opened.message)["mail"]["messageId"] == message_id


# The request


def parameters_of(body: dict[str, Any]) -> dict[str, Any]:
    """The JSON as the parameters that boto3 takes: bytes where it has base64."""
    raw = body["Content"].get("Raw")
    return body if raw is None else {**body, "Content": {"Raw": {"Data": base64.b64decode(raw["Data"])}}}


def test_every_generated_request_is_one_of_botocores_model(conforms: Conforms) -> None:
    def check(request: httpx.Request, message: OutboundMessage) -> None:
        body = json.loads(request.content)
        parameters = parameters_of(body)
        problems = ParamValidator().validate(parameters, OPERATION.input_shape)
        assert not problems.has_errors(), problems.generate_report()
        theirs = SERIALIZER.serialize_to_request(parameters, OPERATION)
        assert json.loads(theirs["body"]) == body
        assert (theirs["method"], theirs["url_path"]) == (request.method, request.url.path)
        assert theirs["headers"]["Content-Type"] == request.headers["content-type"]
        mail = message.content
        assert isinstance(mail, Email)
        envelope = [parse_address(text).bare for texts in body["Destination"].values() for text in texts]
        assert envelope == [parse_address(text).bare for text in (*mail.to, *mail.cc, *mail.bcc)]
        assert all(len(line) <= 998 for line in parameters["Content"].get("Raw", {"Data": b""})["Data"].split(b"\r\n"))

    conforms(SES, email_messages(), check)


# moto


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The address of a moto server in which the sender is verified."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client_of(url).create_email_identity(EmailIdentity="no-reply@example.com")
    yield url
    server.stop()


async def sent_to_moto(moto: str, message: OutboundMessage) -> Any:
    credentials = SesCredentials.model_validate({**sample_of(SES).credentials, "baseUrl": moto})
    async with open_http(outgoing=LOOPBACK) as transport:
        return SES.classify(await transport.exchange(SES.build(message, credentials), deadline=30))


async def stored_in(moto: str) -> list[dict[str, Any]]:
    async with open_http(outgoing=LOOPBACK) as transport:
        data = (await transport.exchange(httpx.Request("GET", f"{moto}/moto-api/data.json"), deadline=30)).json()
    stored: list[dict[str, Any]] = [*data["ses"].get("Message", []), *data["ses"].get("RawMessage", [])]
    return stored


async def test_moto_takes_our_parts(moto: str) -> None:
    message = outbound(an_email(subject="Grüße 🙂", html="<p>hi</p>"), attempted_at=utc_now())

    outcome = await sent_to_moto(moto, message)

    assert isinstance(outcome, Accepted)
    (stored,) = [one for one in await stored_in(moto) if one["id"] == outcome.provider_message_id]
    assert "Grüße 🙂" in json.dumps(stored, ensure_ascii=False)


async def test_moto_takes_our_mime(moto: str) -> None:
    file = an_attachment(b"x" * 3000, filename="Ü.pdf")
    message = outbound(
        an_email(attachments=(file,), bcc=("b@example.org",)),
        attachments={file.sha256: b"x" * 3000},
        attempted_at=utc_now(),
    )

    outcome = await sent_to_moto(moto, message)

    assert isinstance(outcome, Accepted)
    (stored,) = [one for one in await stored_in(moto) if one["id"] == outcome.provider_message_id]
    read = message_from_bytes(stored["raw_data"].encode(), policy=policy.default)
    assert [part.get_filename() for part in read.iter_attachments()] == ["Ü.pdf"]
    assert "b@example.org" in json.dumps(stored["destinations"])


@pytest.mark.parametrize(
    ("mail", "reason"),
    [
        (an_email(sender="other@example.net"), Reason.SENDER),
        (an_email(to=tuple(f"a{number}@example.org" for number in range(51))), Reason.TOO_LARGE),
    ],
)
async def test_motos_refusals_are_understood(moto: str, mail: Email, reason: Reason) -> None:
    outcome = await sent_to_moto(moto, outbound(mail, attempted_at=utc_now()))

    assert isinstance(outcome, Declined)
    assert outcome.reason is reason
