"""The template of docs/examples: another distribution, installed apart from ours, whose package is found and sends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sluice.providers.kit.conformance import violations
from sluice.providers.registry import PACKAGES
from tests.repository.files import ROOT
from tests.unit.providers.examples import content_for, outbound, sample_of

TEMPLATE = ROOT / "docs" / "examples" / "provider-template"

SEND = """
import asyncio, json, sys
from datetime import UTC, datetime
from sluice.model.message import Sms
from sluice.providers.contract import OutboundMessage
from sluice.providers.registry import get_package, installed
from sluice.transports.opening import open_transports
from sluice.transports.provider_call import call_provider

async def main():
    package = get_package("provider-acme")
    account = package.credentials.model_validate({"apiKey": "key-of-the-tests", "baseUrl": sys.argv[1]})
    now = datetime.now(UTC)
    message = OutboundMessage(content=Sms(sender="ACME", text="Hello"), recipient="+15557654321", reference="att_01",
                              message_id="msg_01", created_at=now, attempted_at=now)
    async with open_transports() as transports:
        outcome = await call_provider(package, message, account, transports, deadline=20)
    print(json.dumps({"installed": sorted(installed()), "outcome": repr(outcome)}))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the template as it is installed: its module and its metadata, outside of our environment."""
    target = tmp_path_factory.mktemp("site")
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "install", "--quiet", "--offline", "--no-deps", "--target", str(target), str(TEMPLATE)]
    subprocess.run(command, check=True, timeout=50)
    return target


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python with the template's directory on its path."""
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=site,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture
def provider() -> Iterator[tuple[str, list[Any]]]:
    """The address of Acme's API, and the requests that it received."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, self.headers["authorization"], json.loads(body)))
            answer = b'{"id": "m-1"}'
            self.send_response(201)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_the_package_of_another_distribution_is_listed_and_sends(site: Path, provider: tuple[str, list[Any]]) -> None:
    url, received = provider

    done = run(site, "-c", SEND, url)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["installed"]) == {*PACKAGES, "provider-acme"}
    assert found["outcome"].startswith("Accepted(provider_message_id='m-1'")
    assert received == [
        ("/messages", "Bearer key-of-the-tests", {"to": "+15557654321", "text": "Hello", "reference": "att_01"})
    ]


def test_its_own_tests_pass_where_it_is_installed(site: Path) -> None:
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(TEMPLATE / "tests"))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES.keys())
def test_our_packages_keep_the_rules_that_third_parties_check(package: Any) -> None:
    sample = sample_of(package)
    message = outbound(content_for(package), access_token=sample.access_token)

    assert violations(package, sample.credentials, message) == []


def test_a_package_that_breaks_the_rules_is_found_out() -> None:
    from dataclasses import replace

    from sluice.model.outcome import Accepted
    from sluice.providers.contract import WebhookReply

    resend = PACKAGES["provider-resend"]
    broken = replace(
        resend,
        name="resend",
        max_recipients=0,
        classify=lambda _: Accepted("1"),
        parse_webhook=lambda *_: WebhookReply(),
    )
    sample = sample_of(resend)

    found = violations(broken, sample.credentials, outbound(content_for(resend)))

    assert "the name does not begin with provider-" in found
    assert "max_recipients is below 1" in found
    assert any("is taken for an acceptance" in one for one in found)
    assert any("believes the unsigned" in one for one in found)
    assert violations(resend, {"apiKey": "re_x", "nosuch": "1"}, outbound(content_for(resend))) == [
        "the credentials are not valid: nosuch"
    ]
