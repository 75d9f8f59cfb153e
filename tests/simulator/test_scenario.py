"""A scenario is data: which rule applies to a recipient, and what is drawn from it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from sluice.providers.kit.smtp_types import Phase
from sluice_simulator.call_log import CallLog
from sluice_simulator.endpoint import Endpoint
from sluice_simulator.registry import DIALECTS
from sluice_simulator.scenario import Behaviour, EndpointScenario, Latency, Rule, Scenario, draw, read_scenario
from sluice_simulator.webhook_sender import WebhookSender


def an_endpoint(scenario: Scenario, kind: str = "resend") -> Endpoint:
    endpoint = Endpoint(kind, DIALECTS[kind], CallLog(), WebhookSender(CallLog()))
    endpoint.apply_scenario(scenario)
    return endpoint


@pytest.mark.parametrize(
    ("recipient", "do"),
    [
        ("ana@example.org", Behaviour.ACCEPT),
        ("hang+ana@example.org", Behaviour.HANG),
        ("accept-then-500+x@example.org", Behaviour.ACCEPT_500),
        ("+19990000001", Behaviour.ACCEPT),
        ("+19990010001", Behaviour.REJECT),
        ("+19990050001", Behaviour.HANG),
    ],
)
def test_some_recipients_select_a_behaviour_without_a_scenario(recipient: str, do: Behaviour) -> None:
    assert Scenario().rules("resend").match(recipient).behaviour is do


def test_the_longest_prefix_decides_and_an_endpoints_own_comes_before_a_common_one() -> None:
    scenario = Scenario(
        default=Rule(behaviour=Behaviour.FAULT),
        prefixes={"a": Rule(behaviour=Behaviour.REJECT), "an": Rule(behaviour=Behaviour.THROTTLE)},
        endpoints={"smtp": EndpointScenario(behaviour=Behaviour.AUTH, prefixes={"an": Rule(behaviour=Behaviour.HANG)})},
    )

    found = {who: scenario.rules("smtp").match(who).behaviour for who in ("ana", "alf", "ben")}

    assert found == {"ana": Behaviour.HANG, "alf": Behaviour.REJECT, "ben": Behaviour.AUTH}
    assert scenario.rules("resend").match("ana").behaviour is Behaviour.THROTTLE
    assert scenario.rules("resend").match("ben").behaviour is Behaviour.FAULT


def test_a_rule_takes_over_what_it_does_not_say() -> None:
    scenario = Scenario(
        default=Rule(latency=Latency(median=0.2), retry_after=9),
        endpoints={"smtp": EndpointScenario(retry_after=3)},
        prefixes={"x": Rule(behaviour=Behaviour.THROTTLE)},
    )

    rule = scenario.rules("smtp").match("xaver")

    assert (rule.behaviour, rule.latency, rule.retry_after) == (Behaviour.THROTTLE, Latency(median=0.2), 3)


def test_equal_seeds_treat_equal_calls_equally_in_any_order() -> None:
    rule = Rule(probabilities={Behaviour.HANG: 0.3}, fail=20, latency=Latency(median=1, sigma=1))
    people = [f"{n}@example.org" for n in range(50)]

    def decided(seed: int, order: list[str]) -> dict[str, tuple[Behaviour, float]]:
        endpoint = an_endpoint(Scenario(seed=seed, default=rule))
        return {who: (found.behaviour, found.delay) for who in order for found in [endpoint.decide(who)]}

    assert decided(1, people) == decided(1, people[::-1])
    assert decided(1, people) != decided(2, people)


def test_a_repeated_call_may_fare_differently() -> None:
    endpoint = an_endpoint(Scenario(default=Rule(fail=50)))

    assert {endpoint.decide("ana@example.org").behaviour for _ in range(40)} == {Behaviour.ACCEPT, Behaviour.FAULT}


def test_the_probabilities_are_kept() -> None:
    rule = Rule(probabilities={Behaviour.HANG: 0.25, Behaviour.REJECT: 0.25}, fail=25)
    dice = Random(7)

    found = Counter(draw(rule, dice)[0] for _ in range(4000))

    assert {do: round(count / 1000) for do, count in found.items()} == {
        Behaviour.HANG: 1,
        Behaviour.REJECT: 1,
        Behaviour.FAULT: 1,
        Behaviour.ACCEPT: 1,
    }


def test_slowness_is_lognormal_about_its_median() -> None:
    rule, dice = Rule(latency=Latency(median=0.5, sigma=1)), Random(7)

    delays = sorted(draw(rule, dice)[1] for _ in range(2001))

    assert delays[0] > 0
    assert 0.4 < delays[1000] < 0.6
    assert delays[-1] > 5


def test_what_is_above_the_limit_is_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice_simulator.endpoint.monotonic", lambda: 1.0)
    endpoint = an_endpoint(Scenario(default=Rule(limit=5)))

    assert [endpoint.decide("ana@example.org").behaviour for _ in range(7)] == [Behaviour.ACCEPT] * 5 + [
        Behaviour.THROTTLE
    ] * 2


TOML = """
seed = 7
[default]
fail = 2.5
latency = { median = 0.05, sigma = 0.5 }
[prefixes."slow+"]
latency = { median = 3 }
[endpoints.smtp]
behaviour = "fault"
phase = "greeting"
"""


def test_a_scenario_is_read_from_toml_or_json(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TOML)
    scenario = read_scenario(tmp_path / "a.toml")
    (tmp_path / "a.json").write_text(scenario.model_dump_json(exclude_unset=True))

    assert read_scenario(tmp_path / "a.json") == scenario
    assert (scenario.seed, scenario.endpoints["smtp"].phase) == (7, Phase.GREETING)


@pytest.mark.parametrize(
    "fields",
    [
        {"default": {"behaviour": "explode"}},
        {"default": {"fail": 101}},
        {"default": {"surprise": 1}},
        {"endpoints": {"smtp": {"latency": {"median": -1}}}},
        {"prefixes": {"a": {"limit": 0}}},
    ],
)
def test_a_scenario_with_a_mistake_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Scenario.model_validate(fields)
