"""Providers of equal priority share by weight, or the cheaper one is selected."""

import json
from collections import Counter
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model import ids
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing import shares
from sluice.routing.decision import describe_decision, encode_decision
from sluice.routing.selection import select_provider
from tests.examples import NOON, a_candidate, a_task, health_of, milliseconds


def select(candidates, health=None, policy=RoutingPolicy.ADAPTIVE, **task):
    return select_provider(a_task(**task), candidates, health or {}, NOON, lambda *_: False, policy)


def ids_of_one_moment(seed, number):
    """The same ids of version 7 in each run: of random ones, a share is at times outside any bound."""
    fixed, random = milliseconds(NOON) << 80 | 0x7 << 76 | 0b10 << 62, Random(seed)
    return [UUID(int=fixed | random.getrandbits(62)) for _ in range(number)]


def candidates_of(*several):
    provider_ids = ids_of_one_moment("candidates", len(several))
    return [a_candidate(id=one, **fields) for one, fields in zip(provider_ids, several, strict=True)]


def shares_of(candidates, number=2000, health=None):
    deliveries = ids_of_one_moment("deliveries", number)
    chosen = Counter(select(candidates, health, delivery_id=one).provider.id for one in deliveries)
    return [chosen[one.id] / number for one in candidates]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([None, None], [0.5, 0.5]), ([3, 1], [0.75, 0.25]), ([1, None, 2], [0.25, 0.25, 0.5]), ([99, 1], [0.99, 0.01])],
)
def test_equal_priorities_share_ids_of_one_moment_by_weight(weights, expected):
    assert shares_of(candidates_of(*({"weight": one} for one in weights))) == pytest.approx(expected, abs=0.03)


def test_a_lower_number_comes_before_every_weight_and_price():
    first, cheap = a_candidate(1, weight=0.01, price=9.0), a_candidate(2, weight=1000, price=0.0)

    assert shares_of([first, cheap], 100) == [1, 0]


def test_the_cheaper_of_equals_comes_first_and_one_without_a_price_last():
    dear, cheap, unknown = a_candidate(price=0.01), a_candidate(price=0.005), a_candidate()

    found = select([dear, cheap, unknown])

    assert (found.provider, found.reason) == (cheap, "priority 1, the cheapest at 0.005")
    assert found.excluded == {dear.id: "costs 0.01, not 0.005", unknown.id: "has no price"}


def test_weights_decide_where_prices_differ():
    candidates = candidates_of({"price": 0.01, "weight": 1}, {"price": 0.001, "weight": 1})

    assert shares_of(candidates) == pytest.approx([0.5, 0.5], abs=0.03)


@pytest.mark.parametrize("policy", list(RoutingPolicy))
def test_each_policy_shares(policy):
    candidates = [a_candidate(weight=1), a_candidate(weight=1)]
    chosen = {select(candidates, policy=policy, delivery_id=ids.uuid7()).provider.id for _ in range(100)}

    assert chosen == {one.id for one in candidates}


def test_a_cheaper_degraded_provider_comes_after_a_healthy_one():
    dear, cheap = a_candidate(price=0.01), a_candidate(price=0.005)

    found = select([dear, cheap], {cheap.id: health_of(cheap, "degraded")})

    assert found.provider == dear


def test_the_share_of_one_that_fails_goes_to_the_others_by_weight():
    candidates = candidates_of({"weight": 2}, {"weight": 3}, {"weight": 1})
    bad = {candidates[0].id: health_of(candidates[0], "unhealthy")}

    assert shares_of(candidates, health=bad) == pytest.approx([0, 0.75, 0.25], abs=0.03)


def test_the_stored_decision_has_weights_prices_and_the_reason():
    candidates = [a_candidate(weight=2, price=0.5), a_candidate(weight=1)]
    selection = select(candidates)

    found = describe_decision(selection, RoutingPolicy.ADAPTIVE, "")

    assert [(one.get("weight"), one.get("price")) for one in found["candidates"]] == [(2, 0.5), (1, None)]
    assert "of 3" in found["reason"]
    assert [one["excluded"] for one in found["candidates"] if "excluded" in one] == ["share of another provider"]


def test_a_stored_decision_has_ten_candidates_and_the_selected_one():
    candidates = [a_candidate(id=uuid4(), priority=place) for place in range(40)]
    health = {one.id: health_of(one, "unhealthy") for one in candidates[:30]}

    stored = json.loads(encode_decision(select(candidates, health), RoutingPolicy.ADAPTIVE, ""))

    assert [one["id"] for one in stored["candidates"]] == [str(one.id) for one in [*candidates[:10], candidates[30]]]
    assert stored["provider"] == str(candidates[30].id)


WEIGHTS = st.lists(st.one_of(st.none(), st.floats(0.001, 1000)), min_size=1, max_size=6)


@given(WEIGHTS, st.uuids())
def test_the_choice_is_the_same_each_time_and_does_not_move_when_another_one_is_lost(weights, delivery_id):
    candidates = [a_candidate(id=uuid4(), weight=weight or 1.0) for weight in weights]
    place, _ = shares.choose(delivery_id, candidates)

    assert shares.choose(delivery_id, candidates)[0] == place
    for lost in candidates:
        rest = [one for one in candidates if one is not lost]
        if rest and lost is not candidates[place]:
            assert rest[shares.choose(delivery_id, rest)[0]] is candidates[place]
