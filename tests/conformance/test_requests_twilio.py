"""Every request of the two Twilio packages is the one that Twilio's own library writes for the same fields."""

from __future__ import annotations

import re
from logging import getLogger
from typing import Any
from urllib.parse import parse_qsl

import httpx
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from sluice.model.message import Whatsapp
from sluice.providers.contract import OutboundMessage
from sluice.providers.registry import get_package
from tests.conformance.conftest import Conforms
from tests.conformance.messages import sms_messages, whatsapp_messages
from tests.unit.providers.examples import sample_of


class Recorder(HttpClient):  # type: ignore[misc]  # untyped
    """Keeps the request in place of sending it."""

    def __init__(self) -> None:
        super().__init__(getLogger(__name__), False)
        self.requests: list[tuple[str, str, dict[str, Any], Any]] = []

    def request(self, method: str, url: str, params: Any = None, data: Any = None, *_: Any, **others: Any) -> Response:
        """Twilio's library calls this with every request."""
        self.requests.append((method, url, dict(data), others.get("auth")))
        return Response(201, '{"sid": "SM0"}')


def arguments_of(form: dict[str, str]) -> dict[str, str]:
    """The arguments of the library's ``create`` for a form."""
    names = {name: re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower() for name in form}
    return {"from_" if argument == "from" else argument: form[name] for name, argument in names.items()}


def check(name: str) -> Any:
    package = get_package(name)
    credentials = sample_of(package).credentials

    def compare(request: httpx.Request, message: OutboundMessage) -> None:
        form = dict(parse_qsl(request.content.decode(), keep_blank_values=True, strict_parsing=True))
        recorder = Recorder()
        client = Client(credentials["accountSid"], "x", http_client=recorder)
        client.messages.create(**arguments_of(form))
        ((method, url, data, _),) = recorder.requests
        assert (request.method, request.url.path) == (method, httpx.URL(url).path)
        assert form == data
        assert form["To"].endswith(message.recipient)
        assert ("StatusCallback" in form) is (message.callback_url is not None)

    return compare


def test_every_sms_is_written_as_by_the_library(conforms: Conforms) -> None:
    conforms(get_package("provider-twilio"), sms_messages(), check("provider-twilio"))


def is_text(message: OutboundMessage) -> bool:
    return isinstance(message.content, Whatsapp) and message.content.template_name is None


def test_every_whatsapp_text_is_written_as_by_the_library(conforms: Conforms) -> None:
    texts = whatsapp_messages().filter(is_text)

    conforms(get_package("provider-twilio-whatsapp"), texts, check("provider-twilio-whatsapp"))
