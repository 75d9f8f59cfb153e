"""Tokens of webhook requests: each is accepted with the body of its first use only."""

import asyncio
from hashlib import sha256
from uuid import uuid4

import pytest

from sluice.store import receipt_tokens
from sluice.store.receipt_tokens import TokenUse
from tests.examples import after


@pytest.fixture
def a_use():
    provider = uuid4()

    def use(token="t-1", body=b"a", provider_id=provider):
        return TokenUse(provider_id, token, sha256(body).digest())

    return use


async def accept(store, *uses, at=0):
    return await receipt_tokens.accept(store.gateway, uses, now=after(at))


async def test_a_token_is_accepted_with_its_first_body_however_often(store, a_use):
    assert await accept(store, a_use()) == [True]
    assert await accept(store, a_use(), a_use(), at=60) == [True, True]
    assert await accept(store, a_use(body=b"b"), a_use(), a_use(body=b"c")) == [False, True, False]


async def test_a_batch_is_answered_in_its_order_and_its_first_body_counts(store, a_use):
    uses = [a_use("t-2"), a_use("t-1"), a_use("t-2", b"b"), a_use("t-2"), a_use("t-0", b"")]

    assert await accept(store, *uses) == [True, True, False, True, True]


async def test_the_token_of_another_provider_is_another_token(store, a_use):
    await accept(store, a_use())

    assert await accept(store, a_use(body=b"b", provider_id=uuid4())) == [True]


async def test_of_concurrent_first_uses_one_body_is_accepted(store, a_use):
    bodies = [b"%d" % number for number in range(20)]

    results = await asyncio.gather(*(accept(store, a_use(body=body), a_use(f"t-{body}")) for body in bodies))

    assert [first for first, _ in results].count(True) == 1
    assert all(other for _, other in results)
    (body,) = (body for body, (first, _) in zip(bodies, results, strict=True) if first)
    assert await accept(store, a_use(body=body)) == [True]


async def test_nothing_is_no_error(store):
    assert await accept(store) == []
