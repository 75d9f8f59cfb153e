"""/readyz: ready while every check passes; it names each check and the first reason."""

import httpx
import pytest

from sluice.runtime.http_server import ops_app


async def ask(path, **checks):
    app = ops_app({name: lambda reason=reason: reason for name, reason in checks.items()})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://role") as client:
        answer = await client.get(path)
    return answer.status_code, answer


async def test_a_role_is_ready_while_every_check_passes():
    status, answer = await ask("/readyz", role=None, kafka=None)

    assert status == 200
    assert answer.json() == {"ready": True, "reason": None, "checks": {"role": None, "kafka": None}}


async def test_one_failing_check_makes_it_not_ready_and_is_the_reason():
    status, answer = await ask("/readyz", role=None, kafka="Kafka has not answered for 7 s", postgres=None)

    assert status == 503
    assert answer.json() == {
        "ready": False,
        "reason": "Kafka has not answered for 7 s",
        "checks": {"role": None, "kafka": "Kafka has not answered for 7 s", "postgres": None},
    }


@pytest.mark.parametrize(("path", "status"), [("/readyz?exclude=kafka", 200), ("/readyz?exclude=postgres", 503)])
async def test_a_check_can_be_excluded(path, status):
    assert (await ask(path, kafka="away", postgres=None))[0] == status


async def test_several_checks_can_be_excluded():
    status, answer = await ask("/readyz?exclude=kafka&exclude=postgres", role=None, kafka="away", postgres="away")

    assert (status, answer.json()["checks"]) == (200, {"role": None})


async def test_an_unknown_check_is_an_error_that_names_the_known_ones():
    status, answer = await ask("/readyz?exclude=kakfa", role=None, kafka=None)

    assert (status, answer.json()["reason"]) == (400, "exclude: there is no check 'kakfa'; there are role, kafka")


async def test_liveness_depends_on_no_check():
    status, answer = await ask("/livez", kafka="away")

    assert (status, answer.text) == (200, "ok\n")
