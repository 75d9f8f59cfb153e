"""Generated requests for every operation of both APIs: no fault of the gateway, no answer that the document forbids.

In quantity, against the whole system: ``make fuzz-api``.
"""

import re

import httpx
import pytest

from gateway.openapi import APIS
from tests.fuzz.openapi_fuzz import ApiFuzzer

EACH = 3  # allowed and forbidden requests of each operation
SEEDS = re.compile(rb"\\u0000|T00(%3A|:)00(%3A|:)00(%2B|[+-])14|%00")  # NUL, and the two ends of the calendar


@pytest.mark.timeout(600)
@pytest.mark.parametrize("api", APIS)
async def test_no_generated_request_is_answered_wrongly(gateway, api):
    gateway.events._closed = True  # a stream ends at once: this client reads answers whole
    transport = httpx.ASGITransport(gateway.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        fuzzer = ApiFuzzer(client, gateway.pool, api=api)
        await fuzzer.seeds(lambda request: SEEDS.search(request.url.raw_path + request.content) is not None)
        await fuzzer.round(0, EACH)

    found = fuzzer.findings
    assert not found.faults, "\n\n".join(f"{kind}\n  {example}" for kind, example in found.faults.items())
    assert {200, 201, 400, 401, 403, 404} <= set(found.statuses)
