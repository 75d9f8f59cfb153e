"""Resend's and Twilio's dialects: their rules, and the call log's lines."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice.providers.adapters.resend import RESEND
from sluice.transports.http import HttpTransport, open_http
from sluice.transports.provider_call import NoAnswerError
from sluice_simulator import Behaviour, EndpointScenario, Latency, Rule, Scenario, Simulator
from sluice_simulator.call_log import CallLog
from tests.loopback import LOOPBACK
from tests.polling import virtual_time, wait_until
from tests.simulator.conftest import SimulatorClient, resend_credentials
from tests.unit.providers.examples import an_email, an_sms, outbound


def name_of(answer: httpx.Response) -> Any:
    return answer.json().get("name")


# Resend's idempotency key


async def test_the_same_key_over_the_same_bytes_gets_the_same_answer_and_one_mail(http: HttpTransport) -> None:
    async with Simulator() as simulator:
        client = SimulatorClient(simulator, http)

        first, again = await client.email(), await client.email()

        assert first.json() == again.json()
        assert [line["accepted"] for line in simulator.calls] == [True, False]
        assert [line["behaviour"] for line in simulator.calls] == ["accept", "repeat"]


async def test_the_same_key_over_other_bytes_is_refused(http: HttpTransport) -> None:
    async with Simulator() as simulator:
        client = SimulatorClient(simulator, http)
        await client.email()

        answer = await client.email(outbound(an_email(subject="Other")))

        assert (answer.status_code, name_of(answer)) == (409, "invalid_idempotent_request")
        assert simulator.endpoints["resend"].accepted == 1


async def test_the_same_key_while_the_first_call_is_still_worked_on_is_refused(http: HttpTransport) -> None:
    async with Simulator(Scenario(default=Rule(latency=Latency(median=30)))) as simulator:
        client = SimulatorClient(simulator, http)
        first = asyncio.create_task(client.email())
        await wait_until(lambda: simulator.endpoints["resend"].idempotency_count)

        answer = await client.email()

        assert (answer.status_code, name_of(answer)) == (409, "concurrent_idempotent_requests")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


@pytest.mark.parametrize("do", [Behaviour.ACCEPT_500, Behaviour.ACCEPT_RESET])
async def test_a_repeat_after_a_lost_answer_gets_the_stored_one(http: HttpTransport, do: Behaviour) -> None:
    async with Simulator(Scenario(default=Rule(behaviour=do))) as simulator:
        client = SimulatorClient(simulator, http)
        await asyncio.gather(client.email(), return_exceptions=True)

        again = await client.email()

        assert again.json() == {"id": simulator.calls[0]["provider_message_id"]}
        assert simulator.endpoints["resend"].accepted == 1


@pytest.mark.parametrize(
    "do", [Behaviour.REJECT, Behaviour.FAULT, Behaviour.THROTTLE, Behaviour.RESET, Behaviour.GARBAGE]
)
async def test_a_key_is_stored_only_when_the_message_was_taken(http: HttpTransport, do: Behaviour) -> None:
    async with Simulator(Scenario(default=Rule(behaviour=do))) as simulator:
        client = SimulatorClient(simulator, http)
        await asyncio.gather(client.email(), return_exceptions=True)
        simulator.apply_scenario(Scenario())

        assert (await client.email()).status_code == 200
        assert simulator.endpoints["resend"].accepted == 1


async def test_two_endpoints_store_their_keys_apart(http: HttpTransport) -> None:
    async with Simulator(endpoints={"a": "resend", "b": "resend"}) as simulator:
        client = SimulatorClient(simulator, http)

        first, second = await client.email(endpoint="a"), await client.email(endpoint="b")

        assert first.json() != second.json()


# Refusals before the scenario


@pytest.mark.parametrize(
    ("change", "status", "name"),
    [
        ({"headers": {"authorization": ""}}, 401, "missing_api_key"),
        ({"headers": {"authorization": "Bearer sk_1"}}, 403, "invalid_api_key"),
        ({"headers": {"authorization": "Bearer re_1", "idempotency-key": "k" * 257}}, 400, "invalid_idempotency_key"),
        ({"url": "/nothing"}, 404, "not_found"),
        ({"method": "PUT"}, 405, "method_not_allowed"),
        ({"content": b"{"}, 422, "validation_error"),
        ({"content": b"[]"}, 422, "missing_required_field"),
        ({"content": b'{"from":"a@b","to":["c@d"],"subject":"x"}'}, 422, "missing_required_field"),
        ({"content": b'{"from":"a@b","to":["no address"],"subject":"x","text":"y"}'}, 422, "validation_error"),
    ],
)
async def test_resend_refuses_what_resend_refuses(
    http: HttpTransport, change: dict[str, Any], status: int, name: str
) -> None:
    async with Simulator() as simulator:
        good = RESEND.build(outbound(an_email()), resend_credentials(simulator))
        request = httpx.Request(
            change.get("method", "POST"),
            simulator.url("resend") + change.get("url", "/emails"),
            headers=change.get("headers", good.headers),
            content=change.get("content", good.content),
        )

        answer = await http.exchange(request, deadline=10)

        assert (answer.status_code, name_of(answer)) == (status, name)
        assert [line["accepted"] for line in simulator.calls] == [False]


@pytest.mark.parametrize(
    ("to", "sender", "code"),
    [
        ("+15005550001", "+15005550006", 21211),
        ("+15005550002", "+15005550006", 21612),
        ("+15005550003", "+15005550006", 21408),
        ("+15005550004", "+15005550006", 21610),
        ("+15005550009", "+15005550006", 21614),
        ("+15005550100", "+15005550001", 21212),
        ("+15005550100", "+15005550007", 21606),
        ("+15005550100", "+15005550008", 21611),
        ("+15005550100", "+15005550100", 21211),
        ("15005550100", "+15005550006", 21211),
        ("+15005550100", "+15005550006", None),
    ],
)
async def test_twilios_test_numbers_answer_as_twilio_does(
    http: HttpTransport, to: str, sender: str, code: int | None
) -> None:
    async with Simulator() as simulator:
        answer = await SimulatorClient(simulator, http).sms(outbound(an_sms(sender=sender), recipient=to))

        assert answer.json().get("code") == code
        assert answer.status_code == (201 if code is None else 429 if code == 21611 else 400)


@pytest.mark.parametrize(
    ("text", "callback", "code"),
    [("", None, 21602), ("x" * 1601, None, 21617), ("x", "https://under_score.test/r", 21609), ("x", "/r", 21609)],
)
async def test_twilio_refuses_what_twilio_refuses(
    http: HttpTransport, text: str, callback: str | None, code: int
) -> None:
    async with Simulator() as simulator:
        message = outbound(an_sms(text=text), callback_url=callback)

        assert (await SimulatorClient(simulator, http).sms(message)).json()["code"] == code


async def test_a_throttled_response_names_the_wait(http: HttpTransport) -> None:
    async with Simulator(Scenario(default=Rule(behaviour=Behaviour.THROTTLE, retry_after=7))) as simulator:
        client = SimulatorClient(simulator, http)

        assert (await client.email()).headers["retry-after"] == "7"
        assert (await client.sms()).headers["retry-after"] == "7"


async def test_a_rule_may_name_the_providers_error(http: HttpTransport) -> None:
    endpoints = {
        "resend": EndpointScenario(behaviour=Behaviour.THROTTLE, code="daily_quota_exceeded"),
        "twilio": EndpointScenario(behaviour=Behaviour.REJECT, code="21610"),
    }
    async with Simulator(Scenario(endpoints=endpoints)) as simulator:
        client = SimulatorClient(simulator, http)

        assert name_of(await client.email()) == "daily_quota_exceeded"
        assert (await client.sms()).json()["code"] == 21610


# The call log


async def test_every_call_is_a_line_with_the_truth_about_it(http: HttpTransport, tmp_path: Path) -> None:
    message = outbound(an_email(), reference="att_7", message_id="msg_7")
    async with Simulator(log_dir=tmp_path) as simulator:
        answer = await SimulatorClient(simulator, http).email(message)
        port = simulator.endpoints["resend"].port
        body = RESEND.build(message, resend_credentials(simulator)).content

        # Read while the simulator runs: the line is there before a client can act on the response.
        (line,) = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]

    assert line.pop("mono") > 0
    assert line.pop("at").endswith("+00:00")
    assert line.pop("waited") >= 0
    assert line == {
        "n": 1,
        "endpoint": "resend",
        "dialect": "resend",
        "port": port,
        "accepted": True,
        "answered": True,
        "behaviour": "accept",
        "status": 200,
        "provider_message_id": answer.json()["id"],
        "reference": "att_7",
        "key": "att_7",
        "message_id": "msg_7",
        "recipient": "ana@example.org",
        "body": sha256(body).hexdigest(),
    }


@pytest.mark.parametrize(
    ("do", "accepted", "answered"),
    [
        (Behaviour.ACCEPT, True, True),
        (Behaviour.REJECT, False, True),
        (Behaviour.FAULT, False, True),
        (Behaviour.HANG, False, False),
        (Behaviour.RESET, False, False),
        (Behaviour.DRIP, True, False),
        (Behaviour.ACCEPT_SILENT, True, False),
        (Behaviour.ACCEPT_RESET, True, False),
        (Behaviour.ACCEPT_500, True, True),
    ],
)
async def test_the_call_log_holds_what_was_taken_and_what_was_answered(
    http: HttpTransport, do: Behaviour, accepted: bool, answered: bool
) -> None:
    async with Simulator(Scenario(default=Rule(behaviour=do))) as simulator:
        request = RESEND.build(outbound(an_email()), resend_credentials(simulator))
        with virtual_time():
            await asyncio.gather(http.exchange(request, deadline=0.5), return_exceptions=True)

        (line,) = simulator.calls
        assert (line["behaviour"], line["accepted"], line["answered"]) == (do, accepted, answered)


async def test_a_caller_who_left_before_a_slow_answer_was_not_answered(http: HttpTransport) -> None:
    async with Simulator(Scenario(default=Rule(latency=Latency(median=30)))) as simulator:
        request = RESEND.build(outbound(an_email()), resend_credentials(simulator))
        with virtual_time(), pytest.raises(NoAnswerError):
            await http.exchange(request, deadline=0.5)
        await wait_until(lambda: simulator.calls)

        (line,) = simulator.calls
        assert (line["accepted"], line["answered"]) == (True, False)


def test_a_call_log_is_continued_and_never_rewritten(tmp_path: Path) -> None:
    for behaviour in ("a", "b"):
        call_log = CallLog(tmp_path / "x" / "calls.jsonl")
        call_log.write(behaviour=behaviour)
        call_log.close()

    lines = (tmp_path / "x" / "calls.jsonl").read_text().splitlines()
    assert [json.loads(line)["behaviour"] for line in lines] == ["a", "b"]


async def test_many_calls_at_once_are_all_answered_and_all_counted(http: HttpTransport) -> None:
    async with Simulator() as simulator:
        client = SimulatorClient(simulator, http)
        messages = [replace(outbound(an_email()), reference=f"att_{n}") for n in range(300)]

        answers = await asyncio.gather(*map(client.email, messages))

        assert len({answer.json()["id"] for answer in answers}) == 300
        assert {line["key"] for line in simulator.calls} == {message.reference for message in messages}


@pytest.mark.parametrize("do", [Behaviour.RESET, Behaviour.HANG, Behaviour.ACCEPT_SILENT, Behaviour.ACCEPT_RESET])
async def test_a_slow_call_that_ends_without_an_answer_is_written_down_once(do: Behaviour) -> None:
    async with (
        Simulator(Scenario(default=Rule(behaviour=do, latency=Latency(median=0.05)))) as simulator,
        open_http(outgoing=LOOPBACK) as transport,
    ):
        request = RESEND.build(outbound(an_email()), resend_credentials(simulator))

        with virtual_time():
            with pytest.raises(NoAnswerError):
                await transport.exchange(request, deadline=0.3)
            await asyncio.sleep(0.05)

        assert [line["behaviour"] for line in simulator.calls] == [do]


async def test_the_line_of_a_slow_call_says_how_long_it_waited(http):
    async with Simulator(Scenario(default=Rule(latency=Latency(median=0.2)))) as simulator:
        await SimulatorClient(simulator, http).email()

        (line,) = simulator.calls

    assert line["waited"] > 0.15
