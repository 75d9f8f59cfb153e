"""Only allowed addresses are dialled: the table of addresses, and listeners that must see no connection."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import ValidationError

from sluice.model.outcome import DEFINITE_FAILURES, AuthFailed
from sluice.providers.adapters.smtp import SMTP, SmtpCredentials
from sluice.providers.kit.smtp_types import SmtpServer, Submission
from sluice.transports import outgoing
from sluice.transports.http import open_http
from sluice.transports.opening import open_transports
from sluice.transports.outgoing import PUBLIC_ADDRESSES, ForbiddenAddressError, OutgoingAddresses, parse_networks
from sluice.transports.provider_call import NoAnswerError, NotAllowedError, NotSentError, call_provider
from sluice.transports.settings import TransportSettings
from sluice.transports.smtp import open_smtp
from tests.loopback import LOCAL, LOOPBACK
from tests.unit.providers.examples import an_email, outbound

_REFUSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192
192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1
198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1
::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::7f00:1 64:ff9b:1::a00:1 100::1
2001::1 2001:0:7f00:1:: 2001:10::1 2001:20::1 2001:db8::1 2002:a9fe:a9fe:: 2002:7f00:1:: 2620:4f:8000::1
3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
"""
_PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 168.63.129.15
169.253.255.255 172.15.255.255 172.32.0.1 192.0.1.1 192.167.255.255 198.17.255.255 198.20.0.1 223.255.255.255
2001:200::1 2001:4860:4860::8888 2606:4700::1111 2a00::1
"""
REFUSED, PUBLIC = _REFUSED.split(), _PUBLIC.split()
# Each of them is 127.0.0.1 or ::1 for the resolver of the operating system.
SPELLINGS = ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "localhost", "①②⑦.0.0.1"]
NOT_IN_A_URL = ["0177.0.0.1", "①②⑦.0.0.1"]


@pytest.mark.parametrize("address", REFUSED)
def test_a_special_address_is_refused(address: str) -> None:
    assert not PUBLIC_ADDRESSES.permits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_permitted(address: str) -> None:
    assert PUBLIC_ADDRESSES.permits(address)


def test_an_allowed_network_is_permitted_and_its_neighbour_is_not() -> None:
    addresses = OutgoingAddresses(parse_networks("10.1.0.0/16, fd00:1::/48"))
    assert [addresses.permits(each) for each in ("10.1.2.3", "fd00:1::5")] == [True, True]
    assert [addresses.permits(each) for each in ("10.2.0.1", "fd00:2::5", "::ffff:10.1.2.3")] == [False, False, False]


@pytest.mark.parametrize("text", ["10.0.0.1/8", "loopback", "10.0.0.0/33", "10.0.0.0/8;::1"])
def test_a_setting_that_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="is not a network"):
        TransportSettings(outgoing_allow=text)


def test_of_several_addresses_the_permitted_are_kept() -> None:
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 25)) for address in ("10.0.0.1", "8.8.8.8")]
    assert PUBLIC_ADDRESSES.select(infos) == infos[1:]
    with pytest.raises(ForbiddenAddressError):
        PUBLIC_ADDRESSES.select(infos[:1])


@asynccontextmanager
async def listener(host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[Any]]]:
    """A port, and the connections that it has seen."""
    seen: list[Any] = []

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(take, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


async def test_the_listener_sees_a_connection_that_is_allowed() -> None:
    async with listener() as (port, seen), open_http(outgoing=LOOPBACK) as http:
        with pytest.raises(NoAnswerError):
            await http.exchange(httpx.Request("POST", f"http://127.0.0.1:{port}/", content=b""), deadline=5)
    assert len(seen) == 1


@pytest.mark.parametrize("host", NOT_IN_A_URL)
def test_no_request_can_be_built_for_some_spellings(host: str) -> None:
    with pytest.raises(httpx.InvalidURL):
        httpx.Request("POST", f"http://{host}/", content=b"")


@pytest.mark.parametrize("host", [each for each in SPELLINGS if each not in NOT_IN_A_URL])
async def test_http_does_not_connect_to_loopback_however_it_is_spelt(host: str) -> None:
    async with listener() as (port, seen), open_http() as http:
        with pytest.raises(NotSentError, match=r"SLUICE_OUTGOING_ALLOW|the address is not valid"):
            await http.exchange(httpx.Request("POST", f"http://{host}:{port}/", content=b""), deadline=5)
    assert seen == []


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]"])
async def test_http_does_not_connect_to_loopback_of_ipv6(host: str) -> None:
    async with listener() as (port, seen), open_http() as http:
        with pytest.raises(NotAllowedError):
            await http.exchange(httpx.Request("POST", f"http://{host}:{port}/", content=b""), deadline=5)
    assert seen == []


class Rebinding(AbstractResolver):
    """A name server that gives a public address first and loopback from then on."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=6, flags=0)
            for address in answer
        ]

    async def close(self) -> None:
        pass


async def test_a_name_whose_addresses_are_all_forbidden_is_refused_as_such() -> None:
    resolver = Rebinding(["127.0.0.1", "127.0.0.2", "10.0.0.1"])
    async with listener() as (port, seen), open_http(resolver=resolver) as http:
        with pytest.raises(NotAllowedError):
            await http.exchange(httpx.Request("POST", f"http://name.test:{port}/", content=b""), deadline=5)
    assert seen == []


async def test_a_name_that_changes_its_address_is_decided_on_at_each_connection() -> None:
    allowed = OutgoingAddresses(parse_networks("127.0.0.2/32"))  # stands for a public address
    resolver = Rebinding(["127.0.0.2"], ["127.0.0.1"])
    async with listener("0.0.0.0") as (port, seen):
        for expected in (NoAnswerError, NotAllowedError):
            async with open_http(outgoing=allowed, resolver=resolver) as http:
                with pytest.raises(expected):
                    await http.exchange(httpx.Request("POST", f"http://name.test:{port}/", content=b""), deadline=5)
    assert len(seen) == 1


async def test_a_redirect_is_not_followed() -> None:
    async with listener() as (target, seen), open_http(outgoing=LOOPBACK) as http:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            location = f"http://127.0.0.1:{target}/"
            writer.write(f"HTTP/1.1 307 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(redirect, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            request = httpx.Request("POST", f"http://127.0.0.1:{port}/", content=b"")
            assert (await http.exchange(request, deadline=5)).status_code == 307
    assert seen == []


def mail(host: str, port: int) -> Submission:
    return Submission(SmtpServer(host, port), "a@example.com", ("b@example.org",), b"Subject: x\r\n\r\nhello\r\n")


@pytest.mark.parametrize("host", [*SPELLINGS, "::1"])
async def test_smtp_does_not_connect_to_loopback_however_it_is_spelt(host: str) -> None:
    async with listener() as (port, seen), open_smtp() as smtp:
        with pytest.raises(NotAllowedError, match="SLUICE_OUTGOING_ALLOW"):
            await smtp.exchange(mail(host, port), deadline=5)
    assert seen == []


async def test_smtp_connects_where_it_is_allowed() -> None:
    async with listener() as (port, seen), open_smtp(LOCAL) as smtp:
        with pytest.raises(NotSentError) as caught:
            await smtp.exchange(mail("127.0.0.1", port), deadline=5)
    assert len(seen) == 1
    assert not isinstance(caught.value, NotAllowedError)


async def test_a_forbidden_host_suspends_the_account_and_lets_another_provider_send() -> None:
    credentials = SmtpCredentials(host="127.0.0.1", port=25)
    message = outbound(an_email())
    async with open_transports() as transports:
        outcome = await call_provider(SMTP, message, credentials, transports, deadline=5)
    assert isinstance(outcome, AuthFailed)
    assert "SLUICE_OUTGOING_ALLOW" in outcome.detail
    assert "auth_failed" in DEFINITE_FAILURES


@pytest.mark.parametrize("host", [*SPELLINGS, "169.254.169.254", "::1", "[::1]", "fe80::1"])
async def test_the_check_of_a_host_refuses_what_would_not_be_dialled(host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        await PUBLIC_ADDRESSES.check_host(host)


async def test_the_check_of_a_host_lets_pass_what_is_public_allowed_or_not_found() -> None:
    await PUBLIC_ADDRESSES.check_host("8.8.8.8")
    await PUBLIC_ADDRESSES.check_host("no-such-name.invalid")
    await LOOPBACK.check_host("localhost")


async def test_the_check_of_a_host_does_not_wait_for_name_servers_that_do_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def slow(*_: object, **__: object) -> list[object]:
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(outgoing, "_LOOKUP_LIMIT", 0.05)
    try:
        await asyncio.gather(*[PUBLIC_ADDRESSES.check_host(f"a{number}.slow.example") for number in range(50)])
        assert await asyncio.to_thread(lambda: "other work") == "other work"
    finally:
        answered.set()
