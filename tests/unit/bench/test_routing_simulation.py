"""The simulation of routing policies: repeatable, the product's functions, one JSON object."""

import json

import pytest

from bench.routing import __main__ as simulation
from bench.routing.policies import Static
from bench.routing.report import Case, summary, table
from bench.routing.score import Figures, Score, score_of
from bench.routing.world import BEGINS, FAULTS, Setting, World

OUTAGE = Case("outage", 2.0, 7)


@pytest.fixture(scope="module")
def outage():
    """The scores of all policies in one outage at 2/s."""
    return simulation.simulate(OUTAGE, list(simulation.POLICIES), vary=False)


def test_equal_seeds_give_equal_scores(outage):
    assert simulation.simulate(OUTAGE, ["seed", "ours"], vary=False) == {
        name: outage[name] for name in ("seed", "ours")
    }


def test_an_outage_costs_the_static_order_most(outage):
    assert max(outage, key=lambda name: outage[name].j) == "static"
    assert outage["ours"].j < outage["weights"].j


def test_our_policy_leaves_a_dead_provider_and_returns(outage):
    shares = outage["ours"].shares
    during, after = shares[int(BEGINS / 10) + 6 : int(BEGINS / 10) + 29], shares[-20:]

    assert max(during) < 0.2
    assert min(after) > 0.8
    assert outage["ours"].figures.returned <= 120


@pytest.mark.parametrize("policy", simulation.POLICIES)
def test_a_list_of_bad_recipients_ejects_no_provider(policy):
    scores = simulation.simulate(Case("badlist", 2.0, 1), [policy], vary=False)

    assert scores[policy].figures.false_ejections == 0


def test_varied_figures_differ_and_repeat():
    case = Case("none", 2.0, 1)
    varied = [simulation.simulate(case, ["static"], vary=True) for _ in range(2)]

    assert varied[0] == varied[1] != simulation.simulate(case, ["static"], vary=False)


def test_every_policy_meets_the_same_messages_and_answers():
    worlds = [World(Setting(2.0), FAULTS["partial"], 3) for _ in range(2)]
    first, second = ([(m.at, m.destination, m.valid) for m in world.messages()] for world in worlds)
    message = World(Setting(2.0), FAULTS["partial"], 3).messages()[1000]

    assert first == second
    assert worlds[0].call(message, "A", 500.0) == worlds[1].call(message, "A", 500.0)
    assert isinstance(Static(worlds[0]).choose(message, 0.0), str)


def a_score(j, *, false_ejections=0, returned=60.0):
    return Score(Figures(98.0, 0.0, 0.0, 1.0, false_ejections, 10.0, returned), j, ())


def test_the_summary_compares_with_the_seed_rule():
    results = {
        Case("outage", 2.0, 1): {"seed": a_score(1.0), "seed, trial": a_score(0.8), "ours": a_score(0.2)},
        Case("flap", 2.0, 1): {"seed": a_score(1.0), "seed, trial": a_score(0.8), "ours": a_score(1.4, returned=None)},
        Case("badlist", 2.0, 1): {
            "seed": a_score(0.0), "seed, trial": a_score(0.0), "ours": a_score(0.0, false_ejections=2),
        },
        Case("slow", 2.0, 1): {"seed": a_score(6.0), "seed, trial": a_score(6.4), "ours": a_score(0.8, returned=130.0)},
    }  # fmt: skip

    found = summary(results)

    assert json.loads(json.dumps(found)) == {
        "j": {"seed": 8.0, "seed, trial": 8.0, "ours": 2.4},
        "j_over_seed": 0.3,
        "worst_scenario_points": 0.4,
        "worst_scenario": "flap at 2/s",
        "j_over_seed_with_trial": 0.3,
        "false_ejections": 2,
        "returned_percent": 50.0,
    }
    assert "(1 never)" in table(results)


def test_the_score_of_the_oracle_is_its_lateness():
    world = World(Setting(2.0), FAULTS["none"], 1)
    messages = world.messages()
    for message in messages:
        message.tried, message.outcomes, message.ended_at = ["A"], ["accepted"], message.at + 1.0

    assert score_of(world, messages, [], None).j == 0.0
