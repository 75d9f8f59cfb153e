from datetime import timedelta
from itertools import islice

import pytest

from sluice.runtime.errors import SluiceError
from sluice_cli.game_day import run
from sluice_cli.game_day.command import NAMES, format_table
from sluice_cli.game_day.faults import FAULTS
from sluice_cli.game_day.figures import Sent, Times, broken, early_calls, figures, share
from sluice_cli.main import main
from tests.examples import NOON

TIMES = Times(began=NOON, repaired=NOON + timedelta(seconds=30))


def a_message(recipient, *, at, took, channel="email", state="DELIVERED"):
    accepted = NOON + timedelta(seconds=at)
    return Sent(recipient, channel, accepted, None if took is None else accepted + timedelta(seconds=took), state)


def a_call(recipient="a", *, mono=0.0, endpoint="email-first", accepted=True, behaviour="accept"):
    return {"recipient": recipient, "mono": mono, "endpoint": endpoint, "accepted": accepted, "behaviour": behaviour}


def test_the_command_and_the_faults_have_the_same_names():
    assert tuple(FAULTS) == NAMES


def test_every_bound_is_one_of_a_figure():
    known = figures([], [], TIMES).keys() | {"detected_s", "returned_s", "early_calls"}
    assert {name for fault in FAULTS.values() for name in fault.bounds} <= known


def test_a_message_is_late_after_five_seconds_or_without_a_provider():
    sent = [
        a_message("a", at=1, took=5.0),
        a_message("b", at=1, took=5.1),
        a_message("c", at=1, took=None, state="QUEUED"),
        a_message("d", at=1, took=9, channel="sms"),
        a_message("e", at=-1, took=9),  # before the fault
        a_message("f", at=31, took=9),  # after it
    ]

    found = figures(sent, [], TIMES)

    assert (found["messages"], found["late_percent"], found["email_late_percent"]) == (4, 75.0, 66.67)


def test_a_message_is_lost_when_no_provider_took_it_whatever_its_state():
    sent = [a_message("a", at=1, took=1), a_message("b", at=1, took=1), a_message("c", at=1, took=None, state="FAILED")]
    calls = [a_call("a"), a_call("b", accepted=False), a_call("c", accepted=False)]

    found = figures(sent, calls, TIMES)

    assert (found["lost"], found["failed"]) == (1, 1)


def test_a_message_that_two_providers_took_arrives_twice():
    sent = [a_message("a", at=1, took=1), a_message("b", at=1, took=1)]
    calls = [a_call("a"), a_call("a", endpoint="email-second"), a_call("b"), a_call("b", accepted=False)]

    assert figures(sent, calls, TIMES)["duplicates"] == 1


def test_the_ratio_is_that_of_the_e_mails_in_the_fault_and_before_it():
    sent = [
        a_message("a", at=-2, took=0.2),
        a_message("b", at=2, took=0.3),
        a_message("c", at=2, took=8, channel="sms"),
    ]

    assert figures(sent, [], TIMES)["email_p99_over_before"] == 1.5
    assert figures(sent[:1], [], TIMES)["email_p99_over_before"] is None


def test_a_call_in_the_pause_that_was_asked_for_is_early():
    calls = [
        a_call(mono=10.0, behaviour="throttle"),
        a_call(mono=10.3, behaviour="throttle"),  # on its way when the pause was asked for
        a_call(mono=12.0),
        a_call(mono=12.0, endpoint="email-second"),
        a_call(mono=20.1, behaviour="throttle"),  # after the pause: asks for the next one
        a_call(mono=29.0),
        a_call(mono=30.2),
    ]

    assert early_calls(calls, "email-first", 10.0) == 2


def test_the_share_is_that_of_the_last_five_seconds():
    calls = [a_call(mono=at, endpoint=name) for at, name in ((1, "x"), (7, "x"), (8, "y"), (9, "y"), (9.5, "other"))]

    assert share(calls, ["x", "y"], 10.0) == pytest.approx(1 / 3)
    assert share([], ["x", "y"], 10.0) == 0


def test_a_figure_over_its_bound_is_named_and_so_is_one_that_was_not_reached():
    found = {"late_percent": 0.2, "lost": 1, "returned_s": None}

    assert broken(found, {"late_percent": 0.2, "lost": 0, "returned_s": 120.0}) == [
        "lost is 1, at most 0",
        "returned_s is not reached, at most 120",
    ]


def test_a_flapping_provider_works_in_between_and_at_the_end():
    moments = list(islice(run._moments(FAULTS["flap"], 20.0), 5))

    assert [at for at, _ in moments] == [0.0, 8.0, 12.0, 20.0, 20.0]
    assert moments[-1][1] is None


def test_the_table_says_what_is_over_its_bound():
    one = {
        "detected_s": 1.5,
        "late_percent": 0.0,
        "email_late_percent": 0.0,
        "email_p99_over_before": None,
        "lost": 0,
        "duplicates": 0,
        "failed": 0,
        "early_calls": 0,
        "returned_s": None,
        "broken": ["returned_s is not reached, at most 120"],
    }

    lines = format_table({"outage": one}).splitlines()

    assert lines[1].split() == ["outage", "1.5", "0", "0", "-", "0", "0", "0", "0", "-"]
    assert lines[-1] == "outage: returned_s is not reached, at most 120"


def test_an_unknown_fault_is_named(capsys):
    assert main(["game-day", "flood"]) != 0
    assert "there is no fault 'flood'" in capsys.readouterr().err


def test_refused_messages_end_a_game_day():
    with pytest.raises(SluiceError, match="does not accept"):
        run._check({"201": 1, "403": 9})
