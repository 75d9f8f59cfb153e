"""A script is data: which rule holds for whom, and what the dice make of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from sluice.providers.kit.smtp_types import Phase
from sluice_simulator.call_log import Ledger
from sluice_simulator.endpoint import Door
from sluice_simulator.registry import FAR_ENDS
from sluice_simulator.scenario import Do, DoorScript, Rule, Script, Slow, choose, read_script
from sluice_simulator.webhook_sender import Postman


def a_door(script: Script, kind: str = "resend") -> Door:
    door = Door(kind, FAR_ENDS[kind], Ledger(), Postman(Ledger()))
    door.follow(script)
    return door


@pytest.mark.parametrize(
    ("recipient", "do"),
    [
        ("ana@example.org", Do.ACCEPT),
        ("hang+ana@example.org", Do.HANG),
        ("accept-then-500+x@example.org", Do.ACCEPT_500),
        ("+19990000001", Do.ACCEPT),
        ("+19990010001", Do.REJECT),
        ("+19990050001", Do.HANG),
    ],
)
def test_some_recipients_mean_something_without_any_script(recipient: str, do: Do) -> None:
    assert Script().rules("resend").match(recipient).do is do


def test_the_longest_prefix_decides_and_the_doors_own_comes_before_the_common_one() -> None:
    script = Script(
        default=Rule(do=Do.FAULT),
        prefixes={"a": Rule(do=Do.REJECT), "an": Rule(do=Do.THROTTLE)},
        doors={"smtp": DoorScript(do=Do.AUTH, prefixes={"an": Rule(do=Do.HANG)})},
    )

    found = {who: script.rules("smtp").match(who).do for who in ("ana", "alf", "ben")}

    assert found == {"ana": Do.HANG, "alf": Do.REJECT, "ben": Do.AUTH}
    assert script.rules("resend").match("ana").do is Do.THROTTLE
    assert script.rules("resend").match("ben").do is Do.FAULT


def test_a_rule_takes_over_what_it_does_not_say() -> None:
    script = Script(
        default=Rule(slow=Slow(median=0.2), retry_after=9),
        doors={"smtp": DoorScript(retry_after=3)},
        prefixes={"x": Rule(do=Do.THROTTLE)},
    )

    rule = script.rules("smtp").match("xaver")

    assert (rule.do, rule.slow, rule.retry_after) == (Do.THROTTLE, Slow(median=0.2), 3)


def test_equal_seeds_treat_equal_calls_equally_in_any_order() -> None:
    rule = Rule(odds={Do.HANG: 0.3}, fail=20, slow=Slow(median=1, sigma=1))
    people = [f"{n}@example.org" for n in range(50)]

    def judged(seed: int, order: list[str]) -> dict[str, tuple[Do, float]]:
        door = a_door(Script(seed=seed, default=rule))
        return {who: (verdict.do, verdict.delay) for who in order for verdict in [door.judge(who)]}

    assert judged(1, people) == judged(1, people[::-1])
    assert judged(1, people) != judged(2, people)


def test_a_repeated_call_may_fare_differently() -> None:
    door = a_door(Script(default=Rule(fail=50)))

    assert {door.judge("ana@example.org").do for _ in range(40)} == {Do.ACCEPT, Do.FAULT}


def test_the_odds_are_kept() -> None:
    rule = Rule(odds={Do.HANG: 0.25, Do.REJECT: 0.25}, fail=25)
    dice = Random(7)

    found = Counter(choose(rule, dice)[0] for _ in range(4000))

    assert {do: round(count / 1000) for do, count in found.items()} == {
        Do.HANG: 1,
        Do.REJECT: 1,
        Do.FAULT: 1,
        Do.ACCEPT: 1,
    }


def test_slowness_is_lognormal_about_its_median() -> None:
    rule, dice = Rule(slow=Slow(median=0.5, sigma=1)), Random(7)

    delays = sorted(choose(rule, dice)[1] for _ in range(2001))

    assert delays[0] > 0
    assert 0.4 < delays[1000] < 0.6
    assert delays[-1] > 5


def test_what_is_above_the_limit_is_throttled() -> None:
    door = a_door(Script(default=Rule(limit=5)))

    assert [door.judge("ana@example.org").do for _ in range(7)] == [Do.ACCEPT] * 5 + [Do.THROTTLE] * 2


TOML = """
seed = 7
[default]
fail = 2.5
slow = { median = 0.05, sigma = 0.5 }
[prefixes."slow+"]
slow = { median = 3 }
[doors.smtp]
do = "fault"
phase = "greeting"
"""


def test_a_script_is_read_from_toml_or_json(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TOML)
    script = read_script(tmp_path / "a.toml")
    (tmp_path / "a.json").write_text(script.model_dump_json(exclude_unset=True))

    assert read_script(tmp_path / "a.json") == script
    assert (script.seed, script.doors["smtp"].phase) == (7, Phase.GREETING)


@pytest.mark.parametrize(
    "fields",
    [
        {"default": {"do": "explode"}},
        {"default": {"fail": 101}},
        {"default": {"surprise": 1}},
        {"doors": {"smtp": {"slow": {"median": -1}}}},
        {"prefixes": {"a": {"limit": 0}}},
    ],
)
def test_a_script_with_a_mistake_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Script.model_validate(fields)
